"""Repeats the log of an annotation, entry by entry, up to the identical mask.

After each entry the digest of the slice is compared with the one in the log, so that the first
entry that comes out differently is named. :mod:`napari_hidiff.annotation.replay_actions` does the
entries.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.journal import Entry, repeatable
from napari_hidiff.annotation.replay_actions import ACTIONS, Going, slice_of
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Label
from napari_hidiff.inference.stack import Channels, Stack
from napari_hidiff.masks import unpack
from napari_hidiff.slices import Index, slicer

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


class Models(Protocol):
    """Where models come from."""

    def __call__(self, entry: Entry, engine: str) -> "HiDiff":
        """The model that an entry names, on an engine; InputError where there is none such."""


@dataclass(frozen=True)
class Deviation:
    """Where a repetition went astray: the entry's number, counted from 1, and what is wrong."""

    entry: int
    action: str
    reason: str


@dataclass
class Replay:
    """A repetition under way.

    log, shape : of the annotation. image : the whole image. models : where models come from.
    layers : where channels were layers of their own, these, in the order of the model's channels.

    Raises
    ------
    InputError : the log does not have what it takes, or the layers are not of one shape.
    """

    log: list[Entry]
    shape: tuple[int, ...]
    image: np.ndarray
    models: Models
    layers: tuple[np.ndarray, ...] = ()
    annotation: Annotation = field(init=False)
    mask: np.ndarray = field(init=False)
    """The whole mask as it is by now, uint8."""
    done: int = 0
    """Entries that were repeated."""
    deviation: Deviation | None = None
    """The first entry that came out differently."""
    unknown: list[tuple[int, str]] = field(default_factory=list)
    """Numbers and actions of entries that this version cannot repeat."""
    channels: int = 0
    classes: tuple[Label, ...] | None = None
    """Those of the first model that was needed, background first."""

    def __post_init__(self) -> None:
        if not repeatable(self.log):
            raise InputError(
                "This log was written by a version that did not keep what it takes to repeat it."
            )
        self.forget()
        self.going: dict[Index, Going] = {}
        self.walks: dict[Index, tuple[np.ndarray, np.ndarray]] = {}
        self._stack: Stack | None = None
        self._apart = Stack(self.layers, "apart") if self.layers else None
        # What an earlier version did comes in as its result; nothing before it matters.
        whole = [at for at, entry in enumerate(self.log) if "slices" in entry]
        self.done = whole[-1] if whole else 0
        self._needed = last_uses(self.log)

    def forget(self) -> None:
        """Begin with an empty mask."""
        self.annotation = Annotation(self.shape)
        self.annotation.runs_kept = None
        self.mask = np.zeros(self.shape, np.uint8)

    def session(self, index: Index) -> Session:
        """The session of a slice."""
        return self.annotation.session(index, self.mask[slicer(index)])

    def model(self, entry: Entry, engine: str = "") -> "HiDiff":
        """The model that an entry names, on an engine, or on any."""
        model = self.models(entry, engine)
        if self.classes is None:
            self.classes = model.card.classes
        return model

    def stack(self, channels: int) -> Stack:
        """The image as a model of so many channels saw it.

        InputError where these were layers of their own, of which there are none, or fewer.
        """
        colour = not self.channels and self.image.ndim > len(self.shape)
        if channels > 1 and not colour and not self.channels:
            if self._apart is None or len(self.layers) != channels:
                raise InputError(
                    f"the {channels} channels were layers of their own: give the file of each, in "
                    f"the order of the model, not {len(self.layers) or 1}"
                )
            return self._apart
        layout: Channels = "first" if self.channels else "last" if colour else "none"
        if self._stack is None or not self._stack.same([self.image], layout):
            self._stack = Stack([self.image], layout)
        return self._stack

    def pixels(self, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
        """Flat positions int64 [n] and labels [n] of an entry about pixels of a slice."""
        return unpack(entry["pixels"], self.mask[slicer(slice_of(entry))].size)

    def put(self, index: Index, mask: np.ndarray) -> np.ndarray:
        """Write a slice [H, W] into the mask; returns the view of it."""
        view = self.mask[slicer(index)]
        view[...] = mask
        return view

    def run(self, until: int | None = None, on_entry: Callable[[int], None] | None = None) -> None:
        """Repeat the entries up to number ``until``, or all; ``on_entry(done)`` after each.

        Raises
        ------
        InputError : a model is missing, or does not fit the image.
        """
        end = len(self.log) if until is None else min(until, len(self.log))
        while self.done < end:
            entry = self.log[self.done]
            self.done += 1
            try:
                self._do(entry)
            except InputError:
                raise
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                self._astray(entry, f"cannot be repeated ({error})")
                return
            if on_entry is not None:
                on_entry(self.done)

    def _do(self, entry: Entry) -> None:
        action = entry["action"]
        if action not in ACTIONS:
            self.unknown.append((self.done, action))
            return
        ACTIONS[action](self, entry)
        if "slice" not in entry:
            return
        session = self.session(slice_of(entry))
        if session.timeline.digest != entry.get("mask", session.timeline.digest):
            self._astray(entry, "gives another mask than it did")
        if session.run is not None and self._needed.get(self.done - 1, self.done) < self.done:
            session.condense()
            self.going.pop(slice_of(entry), None)

    def _astray(self, entry: Entry, reason: str) -> None:
        if self.deviation is None:
            self.deviation = Deviation(self.done, entry["action"], reason)


def last_uses(log: list[Entry]) -> dict[int, int]:
    """For every entry that uses a run's steps (and each run's own): the last one that does."""
    last: dict[int, int] = {}
    began: dict[Index, int] = {}
    uses: dict[int, int] = {}
    for at, entry in enumerate(log):
        if entry["action"] == "run":
            began[slice_of(entry)] = at
        uses_run = entry["action"] == "alternatives" or entry.get("what") == "step"
        if entry["action"] == "run" or (uses_run and slice_of(entry) in began):
            uses[at] = began[slice_of(entry)]
            last[uses[at]] = at
    return {at: last[start] for at, start in uses.items()}
