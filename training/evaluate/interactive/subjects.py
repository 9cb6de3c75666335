"""What an annotator works on: pictures, and some slices of every volume.

Where strokes and answers meet: the plugin's session, or, for one arm, a mask without one.

One answer to one stroke, small enough to be kept for a picture.
"""

import base64
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.card import Local
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import FREE, mean_dice
from napari_hidiff.training import simulated_annotator
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import foreground_slices

AUTO = "auto"


@dataclass(frozen=True)
class Place:
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

    place: Place
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


class Opened:
    """A case that is loaded when it is first needed, and then only once."""

    def __init__(self, case: Case, dataset: Dataset, model: HiDiff) -> None:
        self._case, self._dataset, self._model = case, dataset, model
        self._last: Subject | None = None

    @cached_property
    def _sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, bool]:
        """Image, truth, counted and normalised image, all with a slice axis; is it a volume."""
        sample = self._dataset.load(self._case)
        image, truth, counted = sample.image, sample.mask, sample.field_of_view
        if not sample.volume:
            image, truth = image[None], truth[None]
            counted = None if counted is None else counted[None]
        return image, truth, counted, volumes.normalise(self._model, image), sample.volume

    def places(self, slices: int, stroke: str) -> list[Place]:
        """The picture, or up to ``slices`` evenly spaced slices among those with foreground."""
        _, truth, _, _, volume = self._sample
        if not volume:
            return [Place(self._case.id, None, kind_of(stroke, truth[0]))]
        chosen = foreground_slices(truth, slices)
        return [Place(self._case.id, z, kind_of(stroke, truth[z])) for z in chosen]

    def subject(self, place: Place) -> Subject:
        """The picture or slice at one of the places."""
        if self._last is None or self._last.place != place:
            image, truth, counted, planes, _ = self._sample
            z = place.slice or 0
            inside = None if counted is None else counted[z]
            self._last = Subject(place, image[z], planes[z], truth[z], inside, self._model)
        return self._last


Steps = Callable[[np.ndarray, Local | None], Iterable[Step]]
"""The steps of a re-refinement, given the fixed map int [H, W] and what has to be computed."""


class Desk:
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
        """The mask as it stands, uint8 [H, W]; do not write."""
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


class OpenDesk(Desk):
    """The same without a clamp. A session always restores painted pixels, so this arm alone keeps
    its mask and its strokes itself."""

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
class Moment:
    """number : of the stroke, 0 before the first.  before, after : uint8 [H, W], the mask with
    the stroke and after the answer.  fixed : int [H, W], all strokes so far.  where : bool
    [H, W], the last of them.  gain : of Dice by the answer."""

    number: int
    before: np.ndarray
    after: np.ndarray
    fixed: np.ndarray
    where: np.ndarray
    gain: float = 0.0

    def packed(self) -> dict[str, Any]:
        """As JSON-able data."""
        planes = np.stack([self.before, self.after, self.fixed - FREE, self.where])
        text = base64.b64encode(zlib.compress(planes.astype(np.uint8).tobytes(), 9)).decode()
        shape = [int(side) for side in self.before.shape]
        return {"number": self.number, "gain": self.gain, "shape": shape, "planes": text}

    @classmethod
    def unpacked(cls, packed: dict[str, Any]) -> "Moment":
        """The inverse of :meth:`packed`."""
        raw = zlib.decompress(base64.b64decode(packed["planes"]))
        planes = np.frombuffer(raw, np.uint8).reshape(4, *packed["shape"])
        fixed = planes[2].astype(np.int32) + FREE
        gain, where = packed["gain"], planes[3].astype(bool)
        return cls(packed["number"], planes[0], planes[1], fixed, where, gain)
