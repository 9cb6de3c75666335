"""Many slices of a stack in a row: segmented, refined, or a corrected slice carried on.

Every function is a generator, so that a window can show each slice, say how far it is, and stop.
Slices of one size go through the model together, up to :data:`TOGETHER` pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_hidiff.annotation.fixed import FREE
from napari_hidiff.errors import InputError
from napari_hidiff.inference.stack import Stack
from napari_hidiff.slices import Index, slicer

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

TOGETHER = 2**16
"""Pixels that go through the model together: more take memory and, from slices of some 100 x 100
pixels on, more time too (``python -m benchmarks.window_memory`` has the memory)."""
REMEMBERED = 2**24
"""Bytes of the slices gone over that the model still knows, for whoever corrects them next."""
SETTLED = 0.02
"""Share of a slice's labelled pixels below which a change counts as none (:func:`change`)."""


class Swept(NamedTuple):
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


def slices(index: Index, axis: int, first: int, last: int) -> list[Index]:
    """The slices first..last along a hidden axis of ``index``, both included, in this order.

    With ``first`` > ``last`` they run downwards. InputError where the axis is not a hidden one.
    """
    if not 0 <= axis < len(index) or index[axis] < 0:
        raise InputError(f"axis {axis} is shown: slices lie along another one")
    step = 1 if first <= last else -1
    return [(*index[:axis], at, *index[axis + 1 :]) for at in range(first, last + step, step)]


def segment(model: "HiDiff", stack: Stack, where: Sequence[Index]) -> Iterator[Swept]:
    """The segmentor's mask of every slice; InputError when the model cannot read one."""
    from napari_hidiff.inference import volumes

    for part in _parts(stack, where):
        planes = np.stack([stack.normalised(model, index) for index in part])
        prior = volumes.prior(model, planes)
        for number, index in enumerate(part):
            own = prior[:, number]
            yield Swept(index, None, own, own, model.mask_of(own))


def adopt(
    model: "HiDiff", stack: Stack, where: Sequence[Index], labels: np.ndarray
) -> Iterator[Swept]:
    """The user's own mask of every slice; labels : integers of the stack's shape."""
    from napari_hidiff.annotation import refinement

    for index in where:
        given, probability, mask = refinement.segment(
            model, stack, index, labels[slicer(index)].copy()
        )
        yield Swept(index, given, probability, probability, mask)


def refine(
    model: "HiDiff",
    stack: Stack,
    where: Sequence[Index],
    given: Mapping[Index, np.ndarray],
    fixed: Mapping[Index, np.ndarray],
    settings: Mapping[str, Any],
) -> Iterator[Swept]:
    """Every slice refined, with its strokes fixed.

    given : integer masks [H, W] to start from, of the slices that do not start from the segmentor.
    fixed : int [H, W], ``FREE`` or a label, of the slices with strokes.
    settings : sampler, steps, samples and seed as for :meth:`HiDiff.steps`; every slice has the
        same seed.

    InputError when the model cannot read a slice, or something does not fit.
    """
    from napari_hidiff.inference import volumes

    for part in _parts(stack, where):
        planes = np.stack([stack.normalised(model, index) for index in part])
        starts, kept = [given.get(index) for index in part], [fixed.get(index) for index in part]
        prior, probability = volumes.together(model, planes, starts, kept, **settings)
        for number, index in enumerate(part):
            own = probability[:, number]
            yield Swept(index, starts[number], prior[:, number], own, model.mask_of(own))


def carry(
    model: "HiDiff",
    stack: Stack,
    where: Sequence[Index],
    before: np.ndarray,
    mask: np.ndarray,
    standing: Callable[[Index], np.ndarray],
    fixed: Mapping[Index, np.ndarray],
    settings: Mapping[str, Any],
    settled: float = SETTLED,
) -> Iterator[Swept]:
    """A correction handed on: each slice is refined from its own mask with the correction in it.

    where : the slices from the neighbour on, in the direction to go. before, mask : integer [H, W]
    of the corrected slice before and after; where they are the same, the neighbour's own mask is
    its prior. (To take the whole mask of the neighbour instead does harm: ``python -m
    benchmarks.carry``.) standing(index) : the mask that a slice has now, integer [H, W].
    fixed, settings : as for :func:`refine`.

    What changed in a slice is handed on in turn, until one changes by less than ``settled``; that
    one is not handed out.
    """
    for index in where:
        stands = standing(index)
        given = np.where(mask != before, mask, stands)
        (swept,) = refine(model, stack, [index], {index: given}, fixed, settings)
        own = fixed.get(index)
        after = swept.mask if own is None else np.where(own == FREE, swept.mask, own)
        if change(stands, after) < settled:
            return
        yield swept
        before, mask = stands, after


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Pixels that differ, as a share of those that have a label in either mask [H, W]; 0..1."""
    labelled = np.count_nonzero((before > 0) | (after > 0))
    return np.count_nonzero(before != after) / labelled if labelled else 0.0


def _parts(stack: Stack, where: Sequence[Index]) -> Iterator[Sequence[Index]]:
    from napari_hidiff.inference import denoiser
    from napari_hidiff.inference.volumes import chunks

    denoiser.forget(REMEMBERED)
    if where:
        size = [stack.shape[axis] for axis, at in enumerate(where[0]) if at < 0]
        for part in chunks(len(where), size, TOGETHER):
            yield where[part]
            denoiser.forget(REMEMBERED)
