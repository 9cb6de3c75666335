"""The diffusion processes; :func:`process_of` makes one from the ``diffusion`` entry of a card."""

from collections.abc import Mapping
from typing import Any

from napari_hidiff.diffusion.bernoulli import BernoulliDiffusion
from napari_hidiff.diffusion.gaussian import GaussianDiffusion
from napari_hidiff.diffusion.process import Process

KERNELS: Mapping[str, type[Process]] = {
    "bernoulli": BernoulliDiffusion,
    "gaussian": GaussianDiffusion,
}


def process_of(diffusion: Mapping[str, Any]) -> Process:
    """The process of a card: its ``kernel`` (Bernoulli unless named) with the other arguments.

    ValueError : an unknown kernel, or arguments that the kernel refuses.
    """
    settings = dict(diffusion)
    kernel = settings.pop("kernel", "bernoulli")
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {tuple(KERNELS)}, not {kernel!r}")
    return KERNELS[kernel](**settings)
