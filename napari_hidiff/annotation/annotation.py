"""All slices of one mask under annotation: their sessions, their log, how much of it is kept.

The surroundings report what happened to the whole mask, as they do for :class:`Session`.

Frozen classes from one session to the next.

A sidecar has strokes and accepted masks, and a frozen class may be neither. But it neither shrinks
nor grows: the entry of the log that says that it was frozen can say for as long as it is frozen
which pixels it has.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_hidiff.annotation.constraints import Locks
from napari_hidiff.annotation.journal import Journal, SliceRecord, packed, repeatable
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.masks import FREE, Index, meeting, pack, slicer, unpack

HISTORY_BYTES = 64 * 2**20
"""Memory of the undo history of all slices together; older changes than that can be undone no
more, apart from the last few."""
ALWAYS = 10
"""Changes of a slice that can be undone whatever memory they take."""
RUNS = 4
"""Slices whose runs are kept step by step; of older ones the result alone is left."""


@dataclass
class Annotation:
    """All slices of one mask.

    shape : the shape of the whole mask.
    sessions : a session for every slice that was worked on.
    locks : the classes that are frozen, in every slice.
    log : what was done, in order, each entry a small JSON-able dict: to repeat or learn from
        (:mod:`napari_hidiff.annotation.journal` has what is in it).
    """

    shape: tuple[int, ...]
    sessions: dict[Index, Session] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    locks: Locks = field(default_factory=Locks)

    def __post_init__(self) -> None:
        self.journal = Journal(self.log)
        self.runs_kept: int | None = RUNS
        """Slices whose runs are kept step by step (None = all)."""
        self._recent: list[Index] = []

    def begin(
        self,
        log: list[dict[str, Any]] | None = None,
        slices: Mapping[Index, SliceRecord] | None = None,
        **facts: Any,
    ) -> None:
        """Write down that work begins, or goes on from ``slices`` (:meth:`restore`) of an earlier
        session with its ``log``; facts : about the image."""
        if log is None:
            self.journal.opened(**facts)
            return
        self.log[:0] = log
        facts["masks"] = True
        if not repeatable(log):  # it has too little in it: begin with what came out
            facts["slices"] = packed(slices or {})
        self.journal.opened(earlier=True, **facts)

    def session(self, index: Index, content: np.ndarray) -> Session:
        """The session of a slice whose mask is ``content`` [H, W].

        A new one takes the labels in it for the user's strokes, where no other slice lies that
        knows better: nobody else has written there.
        """
        if index not in self.sessions:
            known, fixed = np.zeros_like(content), np.full(content.shape, FREE, np.int32)
            for here, there, other in self._crossing(index):
                known[here] = other.timeline.content[there]
                fixed[here] = other.timeline.fixed[there]
            kept = fixed if (fixed != FREE).any() else None
            self.sessions[index] = Session(known, kept, self.locks)
            self.journal.add("slice", index, self.sessions[index].timeline)
            if self.sessions[index].timeline.painted(content):
                self._painted(index)
        return self.sessions[index]

    def discover(self, mask: np.ndarray, index: Index) -> None:
        """Make sessions for the slices parallel to ``index`` in which there are labels that no
        session knows of, as after painting or filling in three dimensions."""
        unknown = mask != 0
        for other in self.sessions:
            unknown[slicer(other)] = False
        shown = tuple(axis for axis, at in enumerate(index) if at < 0)
        hidden = [axis for axis, at in enumerate(index) if at >= 0]
        for place in np.argwhere(unknown.any(axis=shown)):
            new = list(index)
            for axis, at in zip(hidden, place, strict=True):
                new[axis] = int(at)
            self.session(tuple(new), mask[slicer(tuple(new))])

    def changed(self, mask: np.ndarray, painted: bool, more: bool = False) -> int:
        """The whole mask may have changed; bring every session up to date.

        painted : new strokes, or else undo, redo and foreign writes (:meth:`MaskHistory.moved`).
        more : the stroke that was told last goes on. Returns how many pixels changed.
        """
        count = 0
        for index, session in self.sessions.items():
            timeline, now = session.timeline, mask[slicer(index)]
            changed = timeline.painted(now, more) if painted else timeline.moved(now)
            if changed and (painted or not timeline.travelled):
                self._painted(index, more=more, foreign=not painted)
            elif changed:
                by = timeline.travelled
                self.journal.add("undo" if by < 0 else "redo", index, timeline, by=abs(by))
            count += changed
        self._bound()
        return count

    def confirm(self, index: Index, pixels: np.ndarray) -> int:
        """The user painted pixels (flat positions) of a slice with the value they have.

        Returns how many of them were not fixed before.
        """
        timeline = self.sessions[index].timeline
        news = pixels[timeline.fixed.ravel()[pixels] == FREE]
        count = timeline.confirm(news)
        if count:
            self.journal.pixels("confirm", index, timeline, news)
            self._bound()
        return count

    def around_fixed(self, index: Index, mask: np.ndarray) -> np.ndarray:
        """``mask`` [H, W] around every fixed pixel, also of slices that cross this one."""
        merged = self.sessions[index].timeline.around_fixed(mask)
        for here, there, other in self._crossing(index):
            fixed, part = other.timeline.fixed[there], merged[here]
            merged[here] = np.where(fixed != FREE, fixed, part)
        return merged

    def wrote(
        self, index: Index, mask: np.ndarray, step: int | None = None, what: str | None = None
    ) -> None:
        """A model's mask was written into a slice; ``mask`` is the whole mask.

        step : the entry of the slice's run that it came from, if any.
        what : ``prior`` or ``walker`` if it was that; otherwise the log gets its pixels.
        """
        session = self.sessions[index]
        run = session.run
        if step is not None:
            what, number = "step", step if run is None else run.number(step)
        else:
            number = None
        before = session.timeline.revision
        session.wrote(mask[slicer(index)], step)
        self.journal.wrote(index, session.timeline, what, number, before)
        for other, crossing in self.sessions.items():
            if other == index or meeting(index, other) is None:
                continue
            revision, now = crossing.timeline.revision, mask[slicer(other)]
            if not np.array_equal(crossing.timeline.content, now):
                crossing.timeline.wrote(now)
                self.journal.wrote(other, crossing.timeline, None, None, revision)
        self._recently(index)
        self._bound()

    @property
    def revision(self) -> int:
        """Another number after every change of what is kept of any slice."""
        return sum(session.revision for session in self.sessions.values())

    @property
    def fixed_count(self) -> int:
        """How many pixels are fixed in all slices."""
        return sum(session.timeline.fixed_count for session in self.sessions.values())

    def freeze(self, label: int, mask: np.ndarray, on: bool = True) -> None:
        """Freeze a class where it is in the whole mask, or let it go (:class:`Locks`)."""
        self.locks.freeze(label, mask, on)
        self.note("lock", label=label, on=on)

    def note(self, action: str, **facts: Any) -> dict[str, Any]:
        """Add an entry to the log, and return it: facts that come later may be put into it.

        slice : among the facts, the slice that it is about, if it is about one.
        """
        index = facts.pop("slice", None)
        session = None if index is None else self.sessions.get(tuple(index))
        if index is not None and action == "run":
            self._recently(tuple(index))
        timeline = None if session is None else session.timeline
        return self.journal.add(action, index, timeline, **facts)

    def records(self, known: Mapping[Index, int] | None = None) -> dict[Index, SliceRecord]:
        """Strokes and masks of all slices that have any, as copies.

        known : leave out slices whose session still has this revision.
        """
        found = {}
        for index in self.kept():
            session = self.sessions[index]
            if known is None or known.get(index) != session.revision:
                found[index] = session.record()
        return found

    def kept(self) -> list[Index]:
        """The slices that have strokes, a mask or an accepted mask."""
        return [index for index, session in self.sessions.items() if session.worth_keeping]

    def restore(self, records: Mapping[Index, SliceRecord], mask: np.ndarray) -> None:
        """Go on from ``records``: write masks and strokes into ``mask``, full shape.

        A slice whose mask is more than strokes and an accepted mask can be refined again.

        Raises
        ------
        InputError : a record does not fit the shape; ``mask`` is then unchanged.
        """
        for index, record in records.items():
            inside = len(index) == mask.ndim and all(map(int.__lt__, index, mask.shape))
            if not inside or mask[slicer(index)].shape != record.fixed.shape:
                raise InputError("The kept strokes do not fit the shape of this image.")
        for index, record in records.items():
            view = mask[slicer(index)]
            left = record.accepted if record.mask is None else record.mask
            if left is not None:
                view[...] = left
            where = record.fixed != FREE
            view[where] = record.fixed[where]
            session = Session(view, record.fixed, self.locks)
            session.accepted = record.accepted
            if record.mask is not None:
                session.begin(None)
            self.sessions[index] = session

    def _painted(self, index: Index, more: bool = False, foreign: bool = False) -> None:
        self.journal.stroke(index, self.sessions[index].timeline, more, foreign)

    def _crossing(self, index: Index) -> Collection[tuple[Any, Any, Session]]:
        """The sessions of slices that cross a slice: where in it, where in them, which."""
        found = []
        for other, session in self.sessions.items():
            shared = meeting(index, other)
            if shared is not None:
                found.append((*shared, session))
        return found

    def _recently(self, index: Index) -> None:
        """A slice is worked on: of those before the last few only results are kept."""
        self._recent = [*(other for other in self._recent if other != index), index]
        while self.runs_kept is not None and len(self._recent) > self.runs_kept:
            session = self.sessions.get(self._recent.pop(0))
            if session is not None:
                session.condense()

    def _bound(self) -> None:
        """Drop the oldest changes of all slices until the history fits into its memory."""
        timelines = [session.timeline for session in self.sessions.values()]
        excess = sum(timeline.nbytes for timeline in timelines) - HISTORY_BYTES
        while excess > 0:
            long = [t for t in timelines if t.changes > ALWAYS]
            if not long:
                return
            oldest = min(long, key=lambda t: t.oldest)
            excess += oldest.nbytes
            oldest.drop_oldest()
            excess -= oldest.nbytes


Held = list[dict[str, Any]]
"""Pixels of a class: per slice its index, ``slice``, and packed positions there, ``pixels``."""


def freeze(annotation: "Annotation", label: int, mask: np.ndarray, on: bool = True) -> None:
    """Freeze a class where it is in the whole mask, or let it go, and keep its pixels in the log.

    mask : integers of the annotation's shape.
    """
    for entry in annotation.log:  # the last one says it all
        if entry["action"] == "lock" and entry["label"] == label:
            entry.pop("held", None)
    annotation.freeze(label, mask, on)
    if on:
        annotation.log[-1]["held"] = _pixels(annotation, label)


def relock(annotation: "Annotation", log: Sequence[dict[str, Any]], mask: np.ndarray) -> None:
    """Freeze what was frozen at the end of an earlier session's ``log``, and bring its pixels back.

    annotation : gone on with (restored and begun); mask : its whole mask, which is written into.
    """
    for label, held in frozen(log).items():
        for one in held:
            index = tuple(one["slice"])
            view = mask[slicer(index)]
            where, labels = unpack(one["pixels"], view.size)
            back = annotation.session(index, view).timeline.content.copy()
            back.reshape(-1)[where] = labels
            view[...] = annotation.around_fixed(index, back)
            annotation.wrote(index, mask)
        freeze(annotation, label, mask)


def frozen(log: Sequence[dict[str, Any]]) -> dict[int, Held]:
    """The classes that are frozen at the end of a log, with their pixels; logs of older versions
    have none."""
    found: dict[int, Held] = {}
    for entry in log:
        if entry["action"] in ("open", "restore"):  # what is frozen after that is said again
            found.clear()
        elif entry["action"] == "lock":
            found.pop(entry["label"], None)
            if entry["on"]:
                found[entry["label"]] = entry.get("held", [])
    return found


def _pixels(annotation: "Annotation", label: int) -> Held:
    found = []
    for index, session in annotation.sessions.items():
        where = np.flatnonzero(session.timeline.content == label)
        if where.size:
            labels = np.full(where.size, label)
            found.append({"slice": index, "pixels": pack(where, labels)})
    return found
