"""What a simulated annotator works on: pictures, and some slices of every volume.

Strokes and answers meet in a workspace: the plugin's session, or, for one arm, a mask without one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.card import LocalRegion
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import FREE, mean_dice
from napari_hidiff.training import simulated_annotator
from napari_hidiff.training.datasets import Case, Dataset, Sample

from ..scoring import foreground_slices
from ..study import Record, pack_array, unpack_array

AUTO = "auto"


@dataclass(frozen=True)
class SubjectId:
    """A subject by name: the case's id, the slice (None for a picture), the kind of strokes."""

    case: str
    slice: int | None
    kind: str


@dataclass(frozen=True)
class Subject:
    """A picture or a slice in memory.

    image : [H, W, C] as in the file.  plane : float32 [H, W, C], normalised (with the whole
    volume).  truth : uint8 [H, W].  counted : bool [H, W], the pixels that count, or None.
    model : whose prior every arm starts from.
    """

    id: SubjectId
    image: np.ndarray
    plane: np.ndarray
    truth: np.ndarray
    counted: np.ndarray | None
    model: HiDiff

    @cached_property
    def prior(self) -> Prior:
        """The segmentor's, as the plugin takes it."""
        probability = self.model.prior(self.plane, normalised=True)
        return Prior(probability, probability, self.model.mask_of(probability))

    def judged(self, mask: np.ndarray) -> np.ndarray:
        """A mask [H, W] as annotator and score see it: right where nothing counts."""
        return mask if self.counted is None else np.where(self.counted, mask, self.truth)

    def dice(self, mask: np.ndarray) -> float:
        """Mean Dice over the foreground classes."""
        return mean_dice(self.judged(mask), self.truth, self.model.labels)


def kind_of(stroke: str, truth: np.ndarray) -> str:
    """The kind of strokes on a truth [H, W]; ``auto`` are scribbles where it is thin.

    InputError for an unknown kind.
    """
    if stroke not in (AUTO, *simulated_annotator.KINDS):
        raise InputError(
            f"strokes are {AUTO}, {' or '.join(simulated_annotator.KINDS)}, not {stroke!r}"
        )
    if stroke != AUTO:
        return stroke
    return simulated_annotator.kind_for(truth)


class LazyCase:
    """A case that is loaded when it is first needed, and then only once."""

    def __init__(self, case: Case, dataset: Dataset, model: HiDiff) -> None:
        self._case, self._dataset, self._model = case, dataset, model
        self._last: Subject | None = None

    @cached_property
    def _sample(self) -> Sample:
        return self._dataset.load(self._case)

    @cached_property
    def _planes(self) -> np.ndarray:
        """The normalised image, float32 [D, H, W, C]."""
        image = self._sample.image
        return volumes.normalise(self._model, image if self._sample.volume else image[None])

    def subjects(self, slices: int, stroke: str) -> list[SubjectId]:
        """The picture, or up to ``slices`` evenly spaced slices among those with foreground."""
        truth, id_ = self._sample.mask, self._case.id
        if not self._sample.volume:
            return [SubjectId(id_, None, kind_of(stroke, truth))]
        chosen = foreground_slices(truth, slices)
        return [SubjectId(id_, z, kind_of(stroke, truth[z])) for z in chosen]

    def subject(self, id_: SubjectId) -> Subject:
        """One of the subjects; the last one stays in memory."""
        if self._last is None or self._last.id != id_:
            sample = self._sample
            at = ... if id_.slice is None else id_.slice
            plane = self._planes[id_.slice or 0]
            inside = None if sample.field_of_view is None else sample.field_of_view[at]
            image, truth = sample.image[at], sample.mask[at]
            self._last = Subject(id_, image, plane, truth, inside, self._model)
        return self._last


Steps = Callable[[np.ndarray, LocalRegion | None], Iterable[Step]]
"""(fixed map int [H, W], region to compute) -> the steps of a re-refinement."""


class Workspace:
    """A session driven as the plugin drives it: segment, paint, re-refine, write.

    prior : of the segmentor; its mask is the first.  labels : of the model.
    """

    def __init__(self, prior: Prior, labels: int) -> None:
        self.session = Session(np.zeros_like(prior.mask))
        self.session.prior = prior
        self.session.wrote(prior.mask)
        self._labels = labels

    @property
    def mask(self) -> np.ndarray:
        """The current mask, uint8 [H, W]; do not write."""
        return self.session.timeline.content

    @property
    def fixed(self) -> np.ndarray:
        """int32 [H, W], the label of every painted pixel, -1 elsewhere."""
        return self.session.timeline.fixed

    def paint(self, values: np.ndarray) -> None:
        """A stroke int [H, W], -1 off it; it also fixes pixels that have its label already."""
        timeline = self.session.timeline
        timeline.painted(np.where(values != FREE, values, self.mask).astype(self.mask.dtype))
        timeline.confirm(np.flatnonzero(values != FREE))

    def refine(self, steps: Steps, total: int, prior: Prior, guards: Guards) -> None:
        """A run of ``total`` steps from a prior, whose last step is written into the mask."""
        session = self.session
        session.prior = prior
        run = session.start(total, self._labels, guards)
        for step in steps(run.fixed, run.local):
            session.add_step(step.mask, step.probability)
        session.wrote(session.view(run.steps), run.steps)

    def complete(self, mask: np.ndarray) -> None:
        """Write a mask [H, W] that is not from a run around the painted pixels."""
        self.session.wrote(self.session.timeline.around_fixed(mask))


class UnclampedWorkspace(Workspace):
    """The same without a clamp: a session always restores painted pixels, so this one keeps mask
    and strokes itself."""

    def __init__(self, prior: Prior, labels: int) -> None:
        super().__init__(prior, labels)
        self._mask = prior.mask.copy()
        self._strokes = np.full(prior.mask.shape, FREE, np.int32)

    @property
    def mask(self) -> np.ndarray:
        return self._mask

    @property
    def fixed(self) -> np.ndarray:
        return self._strokes.copy()

    def paint(self, values: np.ndarray) -> None:
        where = values != FREE
        self._strokes[where] = values[where]
        self._mask = np.where(where, values, self._mask).astype(self._mask.dtype)

    def refine(self, steps: Steps, total: int, prior: Prior, guards: Guards) -> None:
        *_, last = steps(np.full_like(self._strokes, FREE), None)
        self._mask = last.mask

    def complete(self, mask: np.ndarray) -> None:
        self._mask = mask.astype(self._mask.dtype)


@dataclass
class Answered:
    """One answer to one stroke, for a picture.

    number : of the stroke, 0 before the first.  before, after : uint8 [H, W], the mask with the
    stroke and after the answer.  fixed : int [H, W], all strokes so far.  where : bool [H, W], the
    last of them.  gain : of Dice by the answer.
    """

    number: int
    before: np.ndarray
    after: np.ndarray
    fixed: np.ndarray
    where: np.ndarray
    gain: float = 0.0

    def packed(self) -> Record:
        """As JSON-able data."""
        planes = np.stack([self.before, self.after, self.fixed - FREE, self.where])
        shape = [int(side) for side in self.before.shape]
        text = pack_array(planes.astype(np.uint8))
        return {"number": self.number, "gain": self.gain, "shape": shape, "planes": text}

    @classmethod
    def unpacked(cls, packed: Record) -> "Answered":
        """The inverse of :meth:`packed`."""
        planes = unpack_array(packed["planes"], (4, *packed["shape"]))
        fixed = planes[2].astype(np.int32) + FREE
        gain, where = packed["gain"], planes[3].astype(bool)
        return cls(packed["number"], planes[0], planes[1], fixed, where, gain)
