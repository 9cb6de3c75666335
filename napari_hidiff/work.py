"""What a model does to a slice, in the window and in a replay: the prior, the steps of a run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from napari_hidiff.session import Prior, Run
from napari_hidiff.slices import Index, slicer

if TYPE_CHECKING:
    from napari_hidiff.model import HiDiff
    from napari_hidiff.refine import Step


def picture(image: np.ndarray, index: Index, channels: int) -> np.ndarray:
    """The slice of an image that a model looks at: [H, W] or [H, W, C], a view.

    image : of the mask's axes, after ``channels`` (0 or 1) axes of channels, or before one of RGB.
    """
    plane = image[(slice(None),) * channels + slicer(index)]
    return np.moveaxis(plane, 0, -1) if channels else plane


def segment(model: "HiDiff", image: np.ndarray, mask: np.ndarray | None) -> Prior:
    """The segmentor's prior of an image, or a mask [H, W] of the user as the prior."""
    if mask is None:
        probability = model.prior(image)
        return Prior(probability, probability, model.mask_of(probability))
    model.check_image(image)
    labels = (1,) if model.classes == 1 else range(model.classes)
    onehot = np.stack([mask == label for label in labels]).astype(np.float32)
    return Prior(mask, onehot, mask)


def steps(
    model: "HiDiff",
    image: np.ndarray,
    prior: np.ndarray,
    run: Run,
    sampler: str,
    steps: int,
    samples: int,
    seed: int,
) -> Iterator["Step"]:
    """The steps of a run; nothing happens, and no input is checked, before the first is asked."""
    yield from model.steps(
        image,
        prior,
        run.fixed,
        sampler=sampler,
        steps=steps,
        samples=samples,
        seed=seed,
        local=run.local,
    )
