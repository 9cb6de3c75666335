"""What a model does to a slice, in the window and in a replay: the prior, the steps of a run.

Many slices of a stack in a row: segmented, refined, or a corrected slice carried on.

Every function is a generator, so that a window can show each slice, say how far it is, and stop.
Slices of one size go through the model together, up to :data:`TOGETHER` pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_hidiff.annotation.constraints import MARGIN, REACH, Guards
from napari_hidiff.annotation.session import Prior, Run
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card, Sampling
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import FREE, Index, slicer

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff

NEAR, CERTAIN, FIRM = False, False, True
"""Which guards of a re-refinement are on to begin with."""


@dataclass(frozen=True)
class Settings(Sampling):
    """How to refine, and what a re-refinement may change.

    certain : whether a re-refinement changes only what it is surer of; firm : whether it leaves
    toss-ups as they are (:class:`Guards`).
    """

    certain: bool = CERTAIN
    firm: bool = FIRM

    @property
    def sampling(self) -> Sampling:
        """The part that the model needs."""
        return Sampling(self.sampler, self.steps, self.samples, self.seed)

    def guards(self, near: bool) -> Guards:
        """What a re-refinement may change; ``near`` : only places near the strokes."""
        return Guards(REACH if near else None, self.certain, MARGIN if self.firm else 0.0)

    def with_samples(self, card: Card) -> "Settings":
        """Settings that draw several samples: these, or else DDIM as the card has it."""
        if self.sampler != "one-step" and self.samples > 1:
            return self
        steps, samples = card.defaults["steps"], max(FEWEST, card.defaults["samples"])
        return replace(self, sampler="ddim", steps=steps, samples=samples)


FEWEST = 8
"""Samples that alternatives are drawn from, at least."""


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
    sampling: Sampling,
) -> Iterator["Step"]:
    """The steps of a run; nothing happens, and no input is checked, before the first is asked."""
    image, normalised = stack.read(model, index)
    yield from model.steps(
        image,
        prior,
        run.fixed,
        **asdict(sampling),
        normalised=normalised,
        local=run.local,
    )


TOGETHER = 2**16
"""Pixels that go through the model together: more take memory and, from slices of some 100 x 100
pixels on, more time too (``python -m benchmarks.window_memory`` has the memory)."""
REMEMBERED = 2**24
"""Bytes of the slices gone over that the model still knows, for whoever corrects them next."""
SETTLED = 0.02
"""Share of a slice's labelled pixels below which a change counts as none (:func:`change`)."""


class SliceResult(NamedTuple):
    """One slice.

    at : which one. given : the mask uint8 [H, W] that its prior was made from, None = the
        segmentor's prior.
    prior, probability : float32 [K, H, W] before and after refinement (the same where there was
        none). mask : uint8 [H, W] of ``probability``.
    """

    at: Index
    given: np.ndarray | None
    prior: np.ndarray
    probability: np.ndarray
    mask: np.ndarray


def slices_along(index: Index, axis: int, first: int, last: int) -> list[Index]:
    """The slices first..last along a hidden axis of ``index``, both included, in this order.

    With ``first`` > ``last`` they run downwards. InputError where the axis is not a hidden one.
    """
    if not 0 <= axis < len(index) or index[axis] < 0:
        raise InputError(f"axis {axis} is shown: slices lie along another one")
    step = 1 if first <= last else -1
    return [(*index[:axis], at, *index[axis + 1 :]) for at in range(first, last + step, step)]


def segment_slices(model: "HiDiff", stack: Stack, where: Sequence[Index]) -> Iterator[SliceResult]:
    """The segmentor's mask of every slice; InputError when the model cannot read one."""
    from napari_hidiff.inference import volumes

    for part in _parts(stack, where):
        planes = np.stack([stack.normalised(model, index) for index in part])
        prior = volumes.prior(model, planes)
        for number, index in enumerate(part):
            own = prior[:, number]
            yield SliceResult(index, None, own, own, model.mask_of(own))


def slices_from_labels(
    model: "HiDiff", stack: Stack, where: Sequence[Index], labels: np.ndarray
) -> Iterator[SliceResult]:
    """The user's own mask of every slice; labels : integers of the stack's shape."""

    for index in where:
        given, probability, mask = segment(model, stack, index, labels[slicer(index)].copy())
        yield SliceResult(index, given, probability, probability, mask)


def refine_slices(
    model: "HiDiff",
    stack: Stack,
    where: Sequence[Index],
    given: Mapping[Index, np.ndarray],
    fixed: Mapping[Index, np.ndarray],
    sampling: Sampling,
) -> Iterator[SliceResult]:
    """Every slice refined, with its strokes fixed.

    given : integer masks [H, W] to start from, of the slices that do not start from the segmentor.
    fixed : int [H, W], ``FREE`` or a label, of the slices with strokes.
    sampling : how; every slice has the same seed.

    InputError when the model cannot read a slice, or something does not fit.
    """
    from napari_hidiff.inference import volumes

    for part in _parts(stack, where):
        planes = np.stack([stack.normalised(model, index) for index in part])
        starts, kept = [given.get(index) for index in part], [fixed.get(index) for index in part]
        prior, probability = volumes.together(model, planes, starts, kept, sampling)
        for number, index in enumerate(part):
            own = probability[:, number]
            yield SliceResult(index, starts[number], prior[:, number], own, model.mask_of(own))


def propagate(
    model: "HiDiff",
    stack: Stack,
    where: Sequence[Index],
    before: np.ndarray,
    mask: np.ndarray,
    standing: Callable[[Index], np.ndarray],
    fixed: Mapping[Index, np.ndarray],
    sampling: Sampling,
    settled: float = SETTLED,
) -> Iterator[SliceResult]:
    """A correction handed on: each slice is refined from its own mask with the correction in it.

    where : the slices from the neighbour on, in the direction to go. before, mask : integer [H, W]
    of the corrected slice before and after; where they are the same, the neighbour's own mask is
    its prior. (To take the whole mask of the neighbour instead does harm: ``python -m
    benchmarks.carry``.) standing(index) : the mask that a slice has now, integer [H, W].
    fixed, sampling : as for :func:`refine_slices`.

    What changed in a slice is handed on in turn, until one changes by less than ``settled``; that
    one is not handed out.
    """
    for index in where:
        stands = standing(index)
        given = np.where(mask != before, mask, stands)
        (swept,) = refine_slices(model, stack, [index], {index: given}, fixed, sampling)
        own = fixed.get(index)
        after = swept.mask if own is None else np.where(own == FREE, swept.mask, own)
        if changed_part(stands, after) < settled:
            return
        yield swept
        before, mask = stands, after


def changed_part(before: np.ndarray, after: np.ndarray) -> float:
    """Pixels that differ, as a share of those that have a label in either mask [H, W]; 0..1."""
    labelled = np.count_nonzero((before > 0) | (after > 0))
    return np.count_nonzero(before != after) / labelled if labelled else 0.0


def _parts(stack: Stack, where: Sequence[Index]) -> Iterator[Sequence[Index]]:
    from napari_hidiff.inference import denoiser
    from napari_hidiff.inference.volumes import chunks

    denoiser.trim_cache(REMEMBERED)
    if where:
        size = [stack.shape[axis] for axis, at in enumerate(where[0]) if at < 0]
        for part in chunks(len(where), size, TOGETHER):
            yield where[part]
            denoiser.trim_cache(REMEMBERED)
