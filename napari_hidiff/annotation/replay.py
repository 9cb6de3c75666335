"""Repeats the log of an annotation, entry by entry, up to the identical mask.

After each entry the digest of the slice is compared with the one in the log, so that the first
entry that comes out differently is named. :mod:`napari_hidiff.annotation.replay` does the
entries.

How each kind of entry of a log is repeated: a function for every action of the journal.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_hidiff.annotation import refinement
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.journal import Entry, records, repeatable
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.annotation.suggestions import random_walk
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Sampling
from napari_hidiff.inference.stack import Channels, Stack
from napari_hidiff.masks import Index, Label, slicer, unpack

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
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


_SAMPLING = ("sampler", "steps", "samples", "seed")


@dataclass
class Going:
    """A run whose steps are computed when they are needed."""

    entry: Entry
    run: "Iterator[Step] | None" = None
    each: np.ndarray | None = None


def opened(replay: "Replay", entry: Entry) -> None:
    """Work began on an empty mask."""
    replay.forget()
    replay.channels = entry.get("channels", 0)


def restored(replay: "Replay", entry: Entry) -> None:
    """Work went on from the strokes and masks of an earlier session."""
    if "slices" in entry:
        found = records(entry["slices"], replay.shape)
    else:
        found = replay.annotation.records()
    if not entry.get("masks"):  # an older version brought strokes and accepted masks back alone
        found = {index: record._replace(mask=None) for index, record in found.items()}
    opened(replay, entry)
    replay.annotation.restore(found, replay.mask)


def began(replay: "Replay", entry: Entry) -> None:
    """Work began on a slice."""
    replay.session(slice_of(entry))


def stroke(replay: "Replay", entry: Entry) -> None:
    """The user painted."""
    index = slice_of(entry)
    session = replay.session(index)
    where, labels = replay.pixels(entry)
    painted = session.timeline.content.copy()
    painted.reshape(-1)[where] = labels
    session.timeline.painted(replay.put(index, painted))


def confirm(replay: "Replay", entry: Entry) -> None:
    """The user painted pixels with the label they had."""
    replay.session(slice_of(entry)).timeline.confirm(replay.pixels(entry)[0])


def undo(replay: "Replay", entry: Entry) -> None:
    """Changes of a slice were undone, or done again."""
    index = slice_of(entry)
    timeline = replay.session(index).timeline
    timeline.travel(entry["by"] if entry["action"] == "redo" else -entry["by"])
    replay.put(index, timeline.content)


def segment(replay: "Replay", entry: Entry) -> None:
    """A slice got a prior; it is written by an entry of its own."""
    index = slice_of(entry)
    session, mask = replay.session(index), None
    if entry["prior"] == "mask":
        mask = np.zeros(session.timeline.content.shape, np.uint8)
        where, labels = replay.pixels(entry)
        mask.reshape(-1)[where] = labels
    model = replay.model(entry)
    stack = replay.stack(len(model.card.channels))
    session.begin(mask, refinement.segment(model, stack, index, mask))


def run(replay: "Replay", entry: Entry) -> None:
    """A run began with the strokes of this moment; its steps are taken when they are needed."""
    index = slice_of(entry)
    guards = Guards(entry["near"], entry["certain"], entry["margin"])
    total = 1 if entry["sampler"] == "one-step" else entry["steps"]
    replay.session(index).start(total, replay.model(entry).labels, guards)
    replay.going[index] = Going(entry)


def alternatives(replay: "Replay", entry: Entry) -> None:
    """Clearly different answers were sought among the samples of a run."""
    from napari_hidiff.annotation.suggestions import alternatives as clustered
    from napari_hidiff.annotation.suggestions import offered

    session = replay.session(slice_of(entry))
    _take(replay, slice_of(entry), 2**31)
    each = replay.going[slice_of(entry)].each
    if session.run is None or each is None:
        raise ValueError("there is no run to find alternatives in")
    shares = [round(share, 4) for share in offered(session.run, clustered(each))]
    if shares != entry["shares"]:
        raise ValueError(f"the alternatives have shares {shares}, not {entry['shares']}")


def lock(replay: "Replay", entry: Entry) -> None:
    """A class was frozen or let go."""
    replay.annotation.locks.freeze(entry["label"], replay.mask, entry["on"])


def walk(replay: "Replay", entry: Entry) -> None:
    """The random walker began with the strokes of this moment."""
    index = slice_of(entry)
    image = replay.stack(entry.get("layers", 1)).plane(index)
    replay.walks[index] = image, replay.session(index).timeline.fixed


def write(replay: "Replay", entry: Entry) -> None:
    """A result went into the mask, around the strokes of this moment."""
    index, what = slice_of(entry), entry["what"]
    session, step = replay.session(index), None
    if what == "pixels":
        mask = session.timeline.content.copy()
        where, labels = replay.pixels(entry)
        mask.reshape(-1)[where] = labels
    else:
        if what == "prior":
            mask = _prior(session).mask
        elif what == "walker":
            mask = random_walk(*replay.walks.pop(index))
        else:
            step = entry["step"]
            _take(replay, index, step)
            if session.run is None or session.run.steps < step:
                raise ValueError(f"there is no step {step} of a run")
            mask = session.view(step)
        mask = replay.annotation.around_fixed(index, mask)
    session.wrote(replay.put(index, mask), step)


def accept(replay: "Replay", entry: Entry) -> None:
    """The user took the mask for final."""
    replay.session(slice_of(entry)).accept()


def withdraw(replay: "Replay", entry: Entry) -> None:
    """The mask was not final after all."""
    replay.session(slice_of(entry)).withdraw()


def nothing(replay: "Replay", entry: Entry) -> None:
    """What changes neither mask nor strokes."""


ACTIONS: dict[str, Callable[["Replay", Entry], None]] = {
    "open": opened,
    "restore": restored,
    "slice": began,
    "stroke": stroke,
    "confirm": confirm,
    "undo": undo,
    "redo": undo,
    "segment": segment,
    "run": run,
    "alternatives": alternatives,
    "show": nothing,
    "lock": lock,
    "sweep": nothing,  # its write has the pixels
    "take_back": nothing,
    "walker": walk,
    "write": write,
    "reject": nothing,  # the undo before it took the result back
    "accept": accept,
    "withdraw": withdraw,
}
"""How to repeat an entry, by its action."""


def slice_of(entry: Entry) -> Index:
    """The slice that an entry is about."""
    return tuple(entry["slice"])


def _prior(session: Session) -> Prior:
    if session.prior is None:
        raise ValueError("there is no prior to write")
    return session.prior


def _take(replay: "Replay", index: Index, step: int) -> None:
    """Take the steps of a slice's run up to number ``step``."""
    session, going = replay.session(index), replay.going[index]
    entry = going.entry
    if going.run is None:
        # Until its kernels are compiled a model runs on torch: on what it ran is in the entry.
        model = replay.model(entry, entry["engine"])
        stack = replay.stack(len(model.card.channels))
        sampling = Sampling(*(entry[key] for key in _SAMPLING))
        given = _prior(session).given
        assert session.run is not None
        going.run = refinement.steps(model, stack, index, given, session.run, sampling)
    while session.run is not None and not session.run.finished and session.run.steps < step:
        taken = next(going.run, None)
        if taken is None:
            raise ValueError("the run has fewer steps than it had")
        session.add_step(taken.mask, taken.probability)
        going.each = taken.each
