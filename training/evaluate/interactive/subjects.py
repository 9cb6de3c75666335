"""What an annotator works on: pictures, and some slices of every volume."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_hidiff.annotation.session import Prior
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.scores import mean_dice
from napari_hidiff.training import simulated_annotator
from napari_hidiff.training.datasets import Case, Dataset

from ..slices import foreground_slices

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
