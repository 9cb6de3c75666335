"""Repeats the log of an annotation, entry by entry, up to the identical mask.

:class:`Replay` walks through the log; :data:`ACTIONS` has the function that repeats each action
of :mod:`napari_hidiff.annotation.entries`. After each entry the digest of the slice is compared
with the one in the log, which names the first deviation.

The steps of a run are computed only when an entry needs them (:class:`LazyRun`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_hidiff.annotation import entries, refinement, suggestions
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.entries import Entry, ModelFacts, SliceEntry
from napari_hidiff.annotation.journal import given_by, is_snapshot, records, repeatable
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Sampling
from napari_hidiff.inference.stack import Channels, Stack
from napari_hidiff.masks import Index, Label, slicer, unpack

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff


class Models(Protocol):
    """Finds the models of a log."""

    def __call__(self, entry: ModelFacts, engine: str) -> "HiDiff":
        """The model that an entry names, on an engine ("" = any); InputError without its file."""


@dataclass(frozen=True)
class Deviation:
    """The first entry that came out differently: its number, counted from 1, and the reason."""

    entry: int
    action: str
    reason: str


@dataclass
class Replay:
    """A replay in progress.

    log, shape : of the annotation. image : the whole image. models : finds models.
    layers : if each channel was a layer, the layers in the order of the model's channels.

    Raises
    ------
    InputError : the log is of an old version, or the layers differ in shape.
    """

    log: Sequence[Entry]
    shape: tuple[int, ...]
    image: np.ndarray
    models: Models
    layers: tuple[np.ndarray, ...] = ()
    annotation: Annotation = field(init=False)
    mask: np.ndarray = field(init=False)
    """The whole mask so far, uint8."""
    done: int = 0
    """Number of repeated entries."""
    deviation: Deviation | None = None
    """The first entry that came out differently."""
    unknown: list[tuple[int, str]] = field(default_factory=list)
    """Numbers and actions of entries that this version cannot repeat."""
    channels: int = 0
    classes: tuple[Label, ...] | None = None
    """Classes of the first model in the log, background first."""

    def __post_init__(self) -> None:
        if not repeatable(self.log):
            raise InputError(
                "This log was written by a version that did not keep what it takes to repeat it."
            )
        self.clear()
        self.runs: dict[Index, LazyRun] = {}
        self.walks: dict[Index, tuple[np.ndarray, np.ndarray]] = {}
        self._stack: Stack | None = None
        self._apart = Stack(self.layers, "apart") if self.layers else None
        snapshots = [at for at, entry in enumerate(self.log) if is_snapshot(entry)]
        self.done = snapshots[-1] if snapshots else 0  # earlier entries are skipped
        self._needed = last_uses(self.log)

    def clear(self) -> None:
        """Begin with an empty mask."""
        self.annotation = Annotation(self.shape)
        self.annotation.runs_kept = None
        self.mask = np.zeros(self.shape, np.uint8)

    def session(self, index: Index) -> Session:
        """The session of a slice."""
        return self.annotation.session(index, self.mask[slicer(index)])

    def model(self, entry: ModelFacts, engine: str = "") -> "HiDiff":
        """The model that an entry names, on an engine, or on any."""
        model = self.models(entry, engine)
        if self.classes is None:
            self.classes = model.card.classes
        return model

    def stack(self, channels: int) -> Stack:
        """The image as the input of a model of so many channels.

        InputError if each channel was a layer, and ``layers`` are missing or too few.
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

    def stack_for(self, model: "HiDiff") -> Stack:
        """The image as the input of a model; a prompted one takes it as it is."""
        return self.stack(1 if model.card.prompted else len(model.card.channels))

    def pixels(self, entry: entries.PixelEntry) -> tuple[np.ndarray, np.ndarray]:
        """Flat positions int64 [n] and labels int64 [n] of an entry about pixels of a slice."""
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
            self.runs.pop(slice_of(entry), None)

    def _astray(self, entry: Entry, reason: str) -> None:
        if self.deviation is None:
            self.deviation = Deviation(self.done, entry["action"], reason)


def last_uses(log: Sequence[Entry]) -> dict[int, int]:
    """For every run and every entry that uses its steps: the last entry that uses them."""
    last: dict[int, int] = {}
    began: dict[Index, int] = {}
    uses: dict[int, int] = {}
    for at, entry in enumerate(log):
        if entry["action"] == "run":
            began[slice_of(entry)] = at
        elif entry["action"] == "write":
            if entry.get("what") != "step":
                continue
        elif entry["action"] != "alternatives":
            continue
        start = began.get(slice_of(entry))
        if start is not None:
            uses[at] = start
            last[start] = at
    return {at: last[start] for at, start in uses.items()}


@dataclass
class LazyRun:
    """A run whose steps are computed when they are needed.

    steps : the steps that are left, None before the first. each : of the last step, the answer of
    every sample.
    """

    entry: entries.RunEntry
    steps: "Iterator[Step] | None" = None
    each: np.ndarray | None = None


def opened(replay: "Replay", entry: entries.OpenEntry | entries.RestoreEntry) -> None:
    """Work began on an empty mask."""
    replay.clear()
    replay.channels = entry.get("channels", 0)


def restored(replay: "Replay", entry: entries.RestoreEntry) -> None:
    """Work went on from the strokes and masks of an earlier session."""
    if "slices" in entry:
        state = records(entry["slices"], replay.shape)
    else:
        state = replay.annotation.records()
    if not entry.get("masks"):  # older versions restored only strokes and accepted masks
        state = {index: record._replace(mask=None) for index, record in state.items()}
    opened(replay, entry)
    replay.annotation.restore(state, replay.mask)


def began(replay: "Replay", entry: entries.SliceBegunEntry) -> None:
    """Work began on a slice."""
    replay.session(slice_of(entry))


def stroke(replay: "Replay", entry: entries.StrokeEntry) -> None:
    """The user painted."""
    index = slice_of(entry)
    session = replay.session(index)
    where, labels = replay.pixels(entry)
    painted = session.timeline.content.copy()
    painted.reshape(-1)[where] = labels
    session.timeline.painted(replay.put(index, painted))


def confirm(replay: "Replay", entry: entries.ConfirmEntry) -> None:
    """The user painted pixels with the label they had."""
    replay.session(slice_of(entry)).timeline.confirm(replay.pixels(entry)[0])


def undo(replay: "Replay", entry: entries.UndoEntry) -> None:
    """Edits of a slice were undone or redone."""
    index = slice_of(entry)
    timeline = replay.session(index).timeline
    timeline.travel(entry["by"] if entry["action"] == "redo" else -entry["by"])
    replay.put(index, timeline.content)


def segment(replay: "Replay", entry: entries.SegmentEntry) -> None:
    """A slice got a prior; a later entry writes it into the mask."""
    index = slice_of(entry)
    session = replay.session(index)
    given = given_by(entry, session.timeline.content.shape)
    model = replay.model(entry)
    scale = entry.get("scale", 1.0)  # older versions resampled nothing
    with refinement.on_threads(entry.get("threads")):
        prior = refinement.segment(model, replay.stack_for(model), index, given, scale)
    session.begin(given, prior, entry.get("object"))


def run(replay: "Replay", entry: entries.RunEntry) -> None:
    """A run began with the current strokes; its steps are computed when they are needed."""
    index = slice_of(entry)
    guards = Guards(entry["near"], entry["certain"], entry["margin"])
    total = 1 if entry["sampler"] == "one-step" else entry["steps"]
    replay.session(index).start(total, replay.model(entry).labels, guards)
    replay.runs[index] = LazyRun(entry)


def alternatives(replay: "Replay", entry: entries.AlternativesEntry) -> None:
    """Alternatives were computed from the samples of a run."""
    session = replay.session(slice_of(entry))
    _take(replay, slice_of(entry), 2**31)
    each = replay.runs[slice_of(entry)].each
    if session.run is None or each is None:
        raise ValueError("there is no run to find alternatives in")
    shares = [
        round(share, 4)
        for share in suggestions.offered(session.run, suggestions.alternatives(each))
    ]
    if shares != entry["shares"]:
        raise ValueError(f"the alternatives have shares {shares}, not {entry['shares']}")


def lock(replay: "Replay", entry: entries.LockEntry) -> None:
    """A class was frozen or released."""
    replay.annotation.locks.freeze(entry["label"], replay.mask, entry["on"])


def walk(replay: "Replay", entry: entries.WalkerEntry) -> None:
    """The random walker began with the current strokes."""
    index = slice_of(entry)
    image = replay.stack(entry.get("layers", 1)).plane(index)
    replay.walks[index] = image, replay.session(index).timeline.fixed


def write(replay: "Replay", entry: entries.WriteEntry) -> None:
    """A result was written into the mask, around the current strokes."""
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
            mask = suggestions.random_walk(*replay.walks.pop(index))
        else:
            step = entry["step"]
            _take(replay, index, step)
            if session.run is None or session.run.steps < step:
                raise ValueError(f"there is no step {step} of a run")
            mask = session.view(step)
        mask = replay.annotation.around_fixed(index, mask)
    session.wrote(replay.put(index, mask), step)


def accept(replay: "Replay", entry: entries.AcceptEntry) -> None:
    """The user accepted the mask."""
    replay.session(slice_of(entry)).accept()


def withdraw(replay: "Replay", entry: entries.WithdrawEntry) -> None:
    """The user withdrew the acceptance."""
    replay.session(slice_of(entry)).withdraw()


def nothing(replay: "Replay", entry: Entry) -> None:
    """The entry changes neither mask nor strokes."""


ACTIONS: dict[str, Callable[["Replay", Any], None]] = {
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
"""The function that repeats an entry, by its action."""


def slice_of(entry: SliceEntry) -> Index:
    """The slice that an entry is about."""
    return tuple(entry["slice"])


def _prior(session: Session) -> Prior:
    if session.prior is None:
        raise ValueError("there is no prior to write")
    return session.prior


def _take(replay: "Replay", index: Index, step: int) -> None:
    """Take the steps of a slice's run up to number ``step``."""
    session, lazy = replay.session(index), replay.runs[index]
    entry = lazy.entry
    if lazy.steps is None:
        # Until its kernels are compiled a model runs on torch; the entry names the engine.
        model = replay.model(entry, entry["engine"])
        stack = replay.stack_for(model)
        how = entry["sampler"], entry["steps"], entry["samples"], entry["seed"]
        sampling = Sampling(*how, entry.get("scale", 1.0))
        prior = _prior(session).given
        assert session.run is not None
        lazy.steps = refinement.steps(model, stack, index, prior, session.run, sampling)
    while session.run is not None and not session.run.finished and session.run.steps < step:
        with refinement.on_threads(entry.get("threads")):
            taken = next(lazy.steps, None)
        if taken is None:
            raise ValueError("the run has fewer steps than it had")
        session.add_step(taken.mask, taken.probability)
        lazy.each = taken.each
