"""What a model does to slices: the first mask, the steps of a run, many slices in a row.

Window and replay share it. What goes over many slices (segment, refine, carry a correction on) is
a generator, so that a window can show each slice, say how far it is, and stop. Slices of one size
go through the model together, up to :data:`TOGETHER` pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_hidiff.annotation.constraints import MARGIN, REACH, Guards
from napari_hidiff.annotation.session import Prior, Run, Session
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card, Sampling
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import FREE, Index, check_labels, slicer

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


class SliceChange(NamedTuple):
    """What a pass over many slices changed in one: flat positions, the labels before and after."""

    where: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray) -> "SliceChange":
        """What changed from one mask [H, W] to another."""
        where = np.flatnonzero(before != after)
        return cls(where, before.ravel()[where], after.ravel()[where])

    def undone(self, session: Session) -> np.ndarray | None:
        """The slice's mask [H, W] without this change, or None where more was changed since than
        what the user painted."""
        mask, fixed = session.timeline.content, session.timeline.fixed
        same = mask.ravel()[self.where] == self.after
        if not (same | (fixed.ravel()[self.where] != FREE)).all():
            return None
        undone = mask.copy()
        undone.ravel()[self.where] = self.before
        return undone


def guarded(session: Session, result: "SliceResult", guards: Guards) -> np.ndarray:
    """The mask [H, W] of a result, as far as ``guards`` let it change the slice's mask.

    ``certain`` is not heeded: it would need the probability behind the mask of every slice.
    """
    now, shown = session.timeline, result.probability
    kept = replace(guards, certain=False)(now.content, result.mask, now.fresh, shown, shown)
    return kept.astype(result.mask.dtype)


def starting_masks(
    sessions: Mapping[Index, Session], where: Sequence[Index], labels: np.ndarray | None
) -> dict[Index, np.ndarray]:
    """What slices start from that do not start from the segmentor: integer masks [H, W].

    It is what a slice was begun with, or else the user's ``labels`` of the whole mask's shape.
    """
    given = {}
    for index in where:
        session = sessions.get(index)
        if session is not None and session.begun:
            if session.given is not None:
                given[index] = session.given
        elif labels is not None:
            given[index] = labels[slicer(index)].copy()
    return given


def fixed_maps(sessions: Mapping[Index, Session], labels: int) -> dict[Index, np.ndarray]:
    """What a model of ``labels`` labels is told to keep, int32 [H, W], of slices that have any.

    Raises InputError for a stroke with a label that the model does not know.
    """
    found = {}
    for index, session in sessions.items():
        fixed = session.timeline.fixed
        check_labels(fixed[fixed != FREE], labels, "A stroke")
        known = session.known(labels)
        if (known != FREE).any():
            found[index] = known
    return found


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
