"""Bernoulli-diffusion refinement of segmentation masks, with an annotator in the loop.

Importing the package loads neither torch nor Qt; the names below load what they need on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_hidiff._version import __version__

if TYPE_CHECKING:
    from napari_hidiff.annotation.annotation import Annotation
    from napari_hidiff.annotation.constraints import Guards
    from napari_hidiff.annotation.session import Session
    from napari_hidiff.diffusion.bernoulli import BernoulliDiffusion
    from napari_hidiff.diffusion.samplers import Result, Step
    from napari_hidiff.errors import InputError
    from napari_hidiff.inference.card import SAMPLERS, Card
    from napari_hidiff.inference.catalog import available_models, export_file, load_model
    from napari_hidiff.inference.model import HiDiff
    from napari_hidiff.io.write import write_labels
    from napari_hidiff.masks import Label

__all__ = [
    "SAMPLERS",
    "Annotation",
    "BernoulliDiffusion",
    "Card",
    "Guards",
    "HiDiff",
    "InputError",
    "Label",
    "Result",
    "Session",
    "Step",
    "__version__",
    "available_models",
    "export_file",
    "load_model",
    "write_labels",
]

_HOME = {
    "SAMPLERS": "inference.card",
    "Annotation": "annotation.annotation",
    "BernoulliDiffusion": "diffusion.bernoulli",
    "Card": "inference.card",
    "Guards": "annotation.constraints",
    "HiDiff": "inference.model",
    "InputError": "errors",
    "Label": "masks",
    "Result": "diffusion.samplers",
    "Session": "annotation.session",
    "Step": "diffusion.samplers",
    "available_models": "inference.catalog",
    "export_file": "inference.catalog",
    "load_model": "inference.catalog",
    "write_labels": "io.write",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"napari_hidiff.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
