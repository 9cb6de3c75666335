"""Bernoulli-diffusion refinement of segmentation masks, with an annotator in the loop.

Importing the package loads neither torch nor Qt; the names below load what they need on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_hidiff._version import __version__

if TYPE_CHECKING:
    from napari_hidiff.inference.catalog import available_models
    from napari_hidiff.inference.loading import load_model
    from napari_hidiff.inference.model import HiDiff

SAMPLERS = ("one-step", "ddim", "ancestral")
"""Names of the samplers that :meth:`HiDiff.refine` accepts (see :mod:`napari_hidiff.samplers`)."""

__all__ = ["SAMPLERS", "HiDiff", "__version__", "available_models", "load_model"]

_LAZY = {
    "HiDiff": "napari_hidiff.inference.model",
    "available_models": "napari_hidiff.inference.catalog",
    "load_model": "napari_hidiff.inference.loading",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
