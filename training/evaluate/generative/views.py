"""The images [H, W] that a study looks at, and what the model makes of one."""

from dataclasses import dataclass

import numpy as np

from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset, Sample

from ..slices import foreground_slices

SAMPLES = 16
"""S, how many samples are drawn."""


@dataclass(frozen=True)
class View:
    """A picture, or a slice of a volume, as the model sees it.

    image : float32 [H, W, C], normalised. observers : uint8 masks [H, W], the truth first.
    inside : bool [H, W], the pixels that count.
    """

    image: np.ndarray
    observers: tuple[np.ndarray, ...]
    inside: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """The mask of the first observer, uint8 [H, W]."""
        return self.observers[0]

    def cut(self, mask: np.ndarray) -> np.ndarray:
        """The mask with background where no pixel counts."""
        return np.where(self.inside, mask, 0).astype(mask.dtype)


def views_of(model: HiDiff, dataset: Dataset, case: Case, slices: int) -> list[View]:
    """The views of a case: a picture is one, a volume has up to ``slices`` with foreground.

    A volume without any foreground has none. InputError when the case cannot be loaded or read.
    """
    sample = dataset.load(case)
    second = dataset.load_second(sample)
    planes = volumes.normalise(model, sample.image if sample.volume else sample.image[None])
    drawn = [_planes(sample, mask) for mask in (sample.mask, second) if mask is not None]
    inside = sample.field_of_view
    counted = np.ones(drawn[0].shape, bool) if inside is None else _planes(sample, inside)
    found = foreground_slices(drawn[0], slices) if sample.volume else [0]
    return [
        View(planes[i], tuple(np.where(counted[i], mask[i], 0) for mask in drawn), counted[i])
        for i in found
    ]


def last_step(model: HiDiff, view: View, sampler: str, seed: int = 0) -> Step:
    """What the model answers in the end, from its own prior.

    ``one-step`` is one pass; ``ddim`` takes the steps that the card recommends and ``ancestral``
    all T, both with ``SAMPLES`` samples.
    """
    steps = model.process.steps if sampler == "ancestral" else model.card.defaults["steps"]
    *_, last = model.steps(
        view.image, sampler=sampler, steps=steps, samples=SAMPLES, seed=seed, normalised=True
    )
    return last


def _planes(sample: Sample, mask: np.ndarray) -> np.ndarray:
    return mask if sample.volume else mask[None]
