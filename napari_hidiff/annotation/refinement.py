"""What a model does to a slice, in the window and in a replay: the prior, the steps of a run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from napari_hidiff.annotation.run import Prior, Run
from napari_hidiff.inference.stack import Stack
from napari_hidiff.slices import Index

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff


def segment(model: "HiDiff", stack: Stack, index: Index, mask: np.ndarray | None) -> Prior:
    """The segmentor's prior of a slice, or a mask [H, W] of the user as the prior."""
    if mask is None:
        probability = model.prior(*stack.read(model, index))
        return Prior(probability, probability, model.mask_of(probability))
    model.check_image(stack.plane(index))
    labels = (1,) if model.classes == 1 else range(model.classes)
    onehot = np.stack([mask == label for label in labels]).astype(np.float32)
    return Prior(mask, onehot, mask)


def steps(
    model: "HiDiff",
    stack: Stack,
    index: Index,
    prior: np.ndarray,
    run: Run,
    sampler: str,
    steps: int,
    samples: int,
    seed: int,
) -> Iterator["Step"]:
    """The steps of a run; nothing happens, and no input is checked, before the first is asked."""
    image, normalised = stack.read(model, index)
    yield from model.steps(
        image,
        prior,
        run.fixed,
        sampler=sampler,
        steps=steps,
        samples=samples,
        seed=seed,
        normalised=normalised,
        local=run.local,
    )
