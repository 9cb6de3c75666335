"""What a model does to slices: the first mask, the steps of a run, a pass over many slices.

Window and replay share it. A pass over many slices (segment, refine, propagate a correction) is a
generator of :class:`SliceResult`, so that a window can show each slice and stop between two.
Slices of one size go through the model together, up to :data:`TOGETHER` pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_hidiff.annotation.constraints import MARGIN, REACH, Guards
from napari_hidiff.annotation.objects import told
from napari_hidiff.annotation.session import Prior, Run, Session
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card, Sampling
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import FREE, Box, Index, check_labels, slicer

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff

NEAR, CERTAIN, FIRM = False, False, True
"""Guards of a re-refinement that are on by default."""
FEWEST = 8
"""Smallest number of samples to look for alternatives in."""
TOGETHER = 2**16
"""Pixels of one batch of slices: more take memory and, from slices of some 100 x 100 pixels on,
more time too (``python -m benchmarks.window_memory`` has the memory)."""
REMEMBERED = 2**24
"""Bytes of the model's cache after a pass, for the correction that follows."""
SETTLED = 0.02
"""Share of a slice's labelled pixels below which propagation stops (:func:`changed_part`)."""


@dataclass(frozen=True)
class Settings(Sampling):
    """Sampling, and the guards of a re-refinement.

    certain : :class:`Guards`' ``certain``. firm : whether toss-ups are restored, by a margin of
    :data:`MARGIN`.
    """

    certain: bool = CERTAIN
    firm: bool = FIRM

    @property
    def sampling(self) -> Sampling:
        """The part for the model."""
        return Sampling(self.sampler, self.steps, self.samples, self.seed, self.scale)

    def guards(self, near: bool) -> Guards:
        """The guards of a re-refinement; near : only changes near the strokes."""
        return Guards(REACH if near else None, self.certain, MARGIN if self.firm else 0.0)

    def with_samples(self, card: Card) -> "Settings":
        """Settings with several samples: these, or DDIM with the card's steps."""
        if self.sampler != "one-step" and self.samples > 1:
            return self
        steps, samples = card.defaults["steps"], max(FEWEST, card.defaults["samples"])
        return replace(self, sampler="ddim", steps=steps, samples=samples)


def segment(
    model: "HiDiff",
    stack: Stack,
    index: Index,
    mask: np.ndarray | None,
    scale: float | None = None,
) -> Prior:
    """The prior of a slice: the segmentor's, or a mask [H, W] of the user.

    scale : by which the slice is resampled for the segmentor, see :class:`Sampling`.
    """
    if mask is None:
        probability = model.prior(*stack.read(model, index), scale)
        return Prior(probability, probability, model.mask_of(probability))
    model.check_image(stack.plane(index))
    labels = (1,) if model.classes == 1 else range(model.classes)
    onehot = np.stack([mask == label for label in labels]).astype(np.float32)
    return Prior(mask, onehot, mask)


def point(
    model: "HiDiff", stack: Stack, index: Index, given: np.ndarray | Box | None
) -> tuple[np.ndarray | None, Prior]:
    """What a prompted model is handed of an object, a mask or None, and the prior that it makes.

    given : a mask [H, W]; a box, in whose place the mask is handed on that is found in it; None =
    nothing. Raises InputError as :func:`box.prior_in_box`.
    """
    if isinstance(given, Box):
        from napari_hidiff.inference.box import prior_in_box

        given = prior_in_box(model, stack.plane(index), given).prior
    return given, segment(model, stack, index, given)


def steps(
    model: "HiDiff",
    stack: Stack,
    index: Index,
    prior: np.ndarray,
    run: Run,
    sampling: Sampling,
) -> Iterator["Step"]:
    """The steps of a run, lazily: input is checked when the first step is requested."""
    image, normalised = stack.read(model, index)
    yield from model.steps(
        image,
        prior,
        run.fixed,
        **asdict(sampling),
        normalised=normalised,
        local=run.local,
    )


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Torch on ``count`` threads, by which it rounds sums; None = as many as now."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SliceResult(NamedTuple):
    """The result of one slice.

    at : its index. given : the mask uint8 [H, W] that its prior was made from, None = the
        segmentor's prior.
    prior, probability : float32 [K, H, W] before and after refinement (equal without one).
    mask : uint8 [H, W] of ``probability``.
    """

    at: Index
    given: np.ndarray | None
    prior: np.ndarray
    probability: np.ndarray
    mask: np.ndarray


def slices_along(index: Index, axis: int, first: int, last: int) -> list[Index]:
    """The slices first..last (inclusive) along a hidden axis of ``index``, in this order.

    With ``first`` > ``last`` they run downwards. InputError where the axis is not a hidden one.
    """
    if not 0 <= axis < len(index) or index[axis] < 0:
        raise InputError(f"axis {axis} is shown: slices lie along another one")
    step = 1 if first <= last else -1
    return [(*index[:axis], at, *index[axis + 1 :]) for at in range(first, last + step, step)]


def segment_slices(
    model: "HiDiff", stack: Stack, where: Sequence[Index], scale: float | None = None
) -> Iterator[SliceResult]:
    """The segmentor's mask of every slice; InputError for a slice that the model cannot read.

    scale : as for :func:`segment`.
    """
    from napari_hidiff.inference import volumes

    for part in _parts(stack, where):
        planes = np.stack([stack.normalised(model, index) for index in part])
        prior = volumes.prior(model, planes, scale)
        for number, index in enumerate(part):
            own = prior[:, number]
            yield SliceResult(index, None, own, own, model.mask_of(own))


def slices_from_labels(
    model: "HiDiff", stack: Stack, where: Sequence[Index], labels: np.ndarray
) -> Iterator[SliceResult]:
    """The user's own mask of every slice; labels : integers of the stack's shape."""

    for index in where:
        prior_mask, probability, mask = segment(model, stack, index, labels[slicer(index)].copy())
        yield SliceResult(index, prior_mask, probability, probability, mask)


def refine_slices(
    model: "HiDiff",
    stack: Stack,
    where: Sequence[Index],
    priors: Mapping[Index, np.ndarray],
    fixed: Mapping[Index, np.ndarray],
    sampling: Sampling,
) -> Iterator[SliceResult]:
    """Refine every slice, with its strokes fixed.

    priors : integer masks [H, W]; other slices start from the segmentor.
    fixed : int [H, W], ``FREE`` or a label, of the slices with strokes.
    sampling : the same for every slice, seed included.

    InputError for a slice that the model cannot read, or a mask that does not fit.
    """
    from napari_hidiff.inference import volumes

    for part in _parts(stack, where):
        planes = np.stack([stack.normalised(model, index) for index in part])
        starts = [priors.get(index) for index in part]
        strokes = [fixed.get(index) for index in part]
        prior, probability = volumes.together(model, planes, starts, strokes, sampling)
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
    """Propagate a correction: each slice is refined from its own mask with the correction in it.

    where : the slices from the neighbour on, in order. before, mask : integer [H, W] of the
    corrected slice before and after; where they are equal, the neighbour's own mask is its prior.
    (The whole mask of the corrected slice as the prior does harm: ``python -m
    benchmarks.carry``.) standing(index) : the current mask of a slice, integer [H, W].
    fixed, sampling : as for :func:`refine_slices`.

    The change of a slice is propagated in turn, until a slice changes by less than ``settled``;
    that slice is not yielded.
    """
    for index in where:
        current = standing(index)
        prior_mask = np.where(mask != before, mask, current)
        (swept,) = refine_slices(model, stack, [index], {index: prior_mask}, fixed, sampling)
        own = fixed.get(index)
        after = swept.mask if own is None else np.where(own == FREE, swept.mask, own)
        if changed_part(current, after) < settled:
            return
        yield swept
        before, mask = current, after


class SliceChange(NamedTuple):
    """The change of one slice in a pass: flat positions, the labels before and after."""

    where: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray) -> "SliceChange":
        """The change from one mask [H, W] to another."""
        where = np.flatnonzero(before != after)
        return cls(where, before.ravel()[where], after.ravel()[where])

    def undone(self, session: Session) -> np.ndarray | None:
        """The slice's mask [H, W] without this change; None if more than the user's strokes
        changed it since."""
        mask, fixed = session.timeline.content, session.timeline.fixed
        same = mask.ravel()[self.where] == self.after
        if not (same | (fixed.ravel()[self.where] != FREE)).all():
            return None
        undone = mask.copy()
        undone.ravel()[self.where] = self.before
        return undone


def guarded(session: Session, result: "SliceResult", guards: Guards) -> np.ndarray:
    """The mask [H, W] of a result, with changes limited by ``guards``.

    ``certain`` is ignored: it would need the probability behind the mask of every slice.
    """
    now, shown = session.timeline, result.probability
    guarded_mask = replace(guards, certain=False)(now.content, result.mask, now.fresh, shown, shown)
    return guarded_mask.astype(result.mask.dtype)


def starting_masks(
    sessions: Mapping[Index, Session], where: Sequence[Index], labels: np.ndarray | None
) -> dict[Index, np.ndarray]:
    """The priors of slices that do not start from the segmentor: integer masks [H, W].

    It is the earlier prior's mask, or else a slice of the user's ``labels`` (the whole mask's
    shape).
    """
    masks = {}
    for index in where:
        session = sessions.get(index)
        if session is not None and session.begun:
            if session.given is not None:
                masks[index] = session.given
        elif labels is not None:
            masks[index] = labels[slicer(index)].copy()
    return masks


def prompts(
    sessions: Mapping[Index, Session], where: Sequence[Index], labels: np.ndarray | None, label: int
) -> dict[Index, np.ndarray | None]:
    """What a prompted model is handed of an object (:meth:`Session.prompt`), of the slices where it
    is pointed at; None = strokes alone.

    labels : of the user, the whole mask's shape, for slices without work.
    """
    found: dict[Index, np.ndarray | None] = {}
    for index in where:
        session = sessions.get(index)
        given = None if session is None else session.prompt(label)
        if given is None and labels is not None and (session is None or not session.begun):
            mask = (labels[slicer(index)] == label).astype(np.uint8)
            given = mask if mask.any() else None
        if given is not None or (session is not None and session.painted_in(label)):
            found[index] = given
    return found


def object_maps(
    sessions: Mapping[Index, Session], where: Sequence[Index], mask: np.ndarray, label: int
) -> dict[Index, np.ndarray]:
    """What a prompted model is told of an object in every slice, int8 [H, W] (:func:`told`).

    mask : integers of the annotation's shape.
    """
    maps = {}
    for index in where:
        session, content = sessions.get(index), mask[slicer(index)]
        free = np.full(content.shape, FREE, np.int32)
        maps[index] = told(content, label, free) if session is None else session.known(2, label)
    return maps


def fixed_maps(sessions: Mapping[Index, Session], labels: int) -> dict[Index, np.ndarray]:
    """The fixed maps int32 [H, W] for a model of ``labels`` labels, of slices with fixed pixels.

    Raises InputError for a stroke with a label that the model lacks.
    """
    maps = {}
    for index, session in sessions.items():
        fixed = session.timeline.fixed
        check_labels(fixed[fixed != FREE], labels, "A stroke")
        known = session.known(labels)
        if (known != FREE).any():
            maps[index] = known
    return maps


def changed_part(before: np.ndarray, after: np.ndarray) -> float:
    """Share of pixels that differ among those with a label in either mask [H, W]; 0..1."""
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
