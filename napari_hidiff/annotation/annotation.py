"""All slices of one mask under annotation: their sessions, frozen classes and log.

The caller (a window, a script, a test) reports every change of the whole mask, as it does for one
slice to a :class:`Session`. Strokes of slices that cross are one: a pixel is fixed in all of them.
The undo history of all slices and the steps of old runs are bounded in memory.

A sidecar stores strokes and masks, but no frozen class. So the ``lock`` entry of the log stores
the frozen pixels while the lock is on, and :meth:`Annotation.relock` brings them back.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hidiff.annotation.constraints import Guards, Locks
from napari_hidiff.annotation.entries import Entry, PackedPixels
from napari_hidiff.annotation.journal import Journal, LoggedRun, Result, SliceRecord
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.masks import FREE, Index, meeting, pack, slicer, unpack

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

HISTORY_BYTES = 64 * 2**20
"""Memory of the undo history of all slices together; the oldest edits beyond it are dropped."""
ALWAYS = 10
"""Edits of a slice that can be undone whatever memory they take."""
RUNS = 4
"""Slices whose runs keep all steps in memory; older runs keep their result alone."""


@dataclass
class Annotation:
    """All slices of one mask.

    shape : the shape of the whole mask.
    sessions : a session for every slice that was worked on.
    locks : the frozen classes, the same in every slice.
    """

    shape: tuple[int, ...]
    sessions: dict[Index, Session] = field(default_factory=dict)
    locks: Locks = field(default_factory=Locks)

    def __post_init__(self) -> None:
        self.journal = Journal(self.sessions)
        self.runs_kept: int | None = RUNS
        """Number of slices whose runs keep all their steps (None = all)."""
        self._recent: list[Index] = []

    @property
    def log(self) -> Sequence[Entry]:
        """All actions in order, for a replay or a study; :attr:`journal` adds to it."""
        return self.journal.entries

    def begin(
        self,
        log: Sequence[Entry] | None = None,
        slices: Mapping[Index, SliceRecord] | None = None,
        channels: int = 0,
        rater: str = "",
    ) -> None:
        """Log that work begins, or goes on from an earlier session.

        log, slices : of the earlier session, after :meth:`restore`. channels : number of leading
        axes of the image that are no slices. rater : who annotates; empty = nobody's name is kept.
        """
        if log is None:
            self.journal.open(channels, rater)
        else:
            self.journal.restore(log, slices or {}, channels, rater)

    def begin_run(
        self, index: Index, model: "HiDiff", settings: Settings, guards: Guards
    ) -> LoggedRun:
        """Log that a run began in a slice; the run adds its steps to the entry.

        Of slices that were worked on long ago, only results stay in memory.
        """
        self._recently(index)
        return self.journal.run(index, model, settings.sampling, settings.firm, guards)

    def session(self, index: Index, content: np.ndarray) -> Session:
        """The session of a slice whose mask is ``content`` [H, W].

        In a new session, labels that no crossing slice covers count as strokes: only the user can
        have written them.
        """
        if index not in self.sessions:
            mask, fixed = np.zeros_like(content), np.full(content.shape, FREE, np.int32)
            for here, there, other in self._crossing(index):
                mask[here] = other.timeline.content[there]
                fixed[here] = other.timeline.fixed[there]
            strokes = fixed if (fixed != FREE).any() else None
            self.sessions[index] = Session(mask, strokes, self.locks)
            self.journal.begin_slice(index)
            if self.sessions[index].timeline.painted(content):
                self.journal.stroke(index, more=False, foreign=False)
        return self.sessions[index]

    def discover(self, mask: np.ndarray, index: Index) -> None:
        """Make sessions for the slices parallel to ``index`` that have labels but no session, as
        after painting or filling in three dimensions."""
        unseen = mask != 0
        for other in self.sessions:
            unseen[slicer(other)] = False
        shown = tuple(axis for axis, at in enumerate(index) if at < 0)
        hidden = [axis for axis, at in enumerate(index) if at >= 0]
        for place in np.argwhere(unseen.any(axis=shown)):
            new = list(index)
            for axis, at in zip(hidden, place, strict=True):
                new[axis] = int(at)
            self.session(tuple(new), mask[slicer(tuple(new))])

    def meet_strokes(self, where: Sequence[Index], mask: np.ndarray) -> None:
        """Make sessions for those of the slices ``where`` that strokes painted in another view
        cross, so that they count there; ``mask`` is the whole mask."""
        for index in where:
            crossing = () if index in self.sessions else self._crossing(index)
            if any((other.timeline.fixed[there] != FREE).any() for _, there, other in crossing):
                self.session(index, mask[slicer(index)])

    def changed(self, mask: np.ndarray, painted: bool, more: bool = False) -> int:
        """The whole mask may have changed; bring every session up to date.

        painted : new strokes, or else undo, redo and foreign writes (:meth:`MaskHistory.moved`).
        more : the last stroke continues. Returns the number of changed pixels.
        """
        count = 0
        for index, session in self.sessions.items():
            timeline, now = session.timeline, mask[slicer(index)]
            changed = timeline.painted(now, more) if painted else timeline.moved(now)
            if changed and (painted or not timeline.travelled):
                self.journal.stroke(index, more=more, foreign=not painted)
            elif changed:
                self.journal.undo(index, timeline.travelled)
            count += changed
        self._bound()
        return count

    def confirm(self, index: Index, pixels: np.ndarray) -> int:
        """The user painted pixels (flat positions) of a slice with the value they have.

        Returns the number of pixels that were not fixed before.
        """
        timeline = self.sessions[index].timeline
        news = pixels[timeline.fixed.ravel()[pixels] == FREE]
        count = timeline.confirm(news)
        if count:
            self.journal.confirm(index, news)
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
        self, index: Index, mask: np.ndarray, step: int | None = None, what: Result | None = None
    ) -> None:
        """A model's mask was written into a slice; ``mask`` is the whole mask.

        step : the entry of the slice's run that the mask came from, if any.
        what : ``prior`` or ``walker``; None = another result, whose pixels the log stores.
        """
        session = self.sessions[index]
        run, before = session.run, session.timeline.revision
        number = step if step is None or run is None else run.number(step)
        session.wrote(mask[slicer(index)], step)
        if number is not None:
            self.journal.write_step(index, number)
        elif what is not None:
            self.journal.write_result(index, what)
        else:
            self.journal.write_pixels(index, before)
        for other, crossing in self.sessions.items():
            if other == index or meeting(index, other) is None:
                continue
            revision, now = crossing.timeline.revision, mask[slicer(other)]
            if not np.array_equal(crossing.timeline.content, now):
                crossing.timeline.wrote(now)
                self.journal.write_pixels(other, revision)
        self._recently(index)
        self._bound()

    @property
    def revision(self) -> int:
        """A number that changes with every change of strokes or masks."""
        return sum(session.revision for session in self.sessions.values())

    @property
    def fixed_count(self) -> int:
        """Number of fixed pixels in all slices."""
        return sum(session.timeline.fixed_count for session in self.sessions.values())

    def freeze(self, label: int, mask: np.ndarray, on: bool = True) -> None:
        """Freeze a class where it is in the whole mask, or release it (:class:`Locks`).

        mask : integers of the annotation's shape. The log stores the pixels while the lock is on.

        Raises
        ------
        ValueError : the background.
        """
        self.locks.freeze(label, mask, on)
        self.journal.lock(label, self._pixels(label) if on else None)

    def relock(self, log: Sequence[Entry], mask: np.ndarray) -> None:
        """Freeze the classes that were frozen at the end of an earlier session's ``log``.

        The annotation is restored and begun. mask : its whole mask; frozen pixels are written
        into it.
        """
        for label, held in frozen(log).items():
            for part in held:
                index = tuple(part["slice"])
                view = mask[slicer(index)]
                where, labels = unpack(part["pixels"], view.size)
                content = self.session(index, view).timeline.content.copy()
                content.reshape(-1)[where] = labels
                view[...] = self.around_fixed(index, content)
                self.wrote(index, mask)
            self.freeze(label, mask)

    def records(self, revisions: Mapping[Index, int] | None = None) -> dict[Index, SliceRecord]:
        """Strokes and masks of all slices that have any, as copies.

        revisions : revision per slice; slices whose session still has it are left out.
        """
        records = {}
        for index in self.kept():
            session = self.sessions[index]
            if revisions is None or revisions.get(index) != session.revision:
                records[index] = session.record()
        return records

    def kept(self) -> list[Index]:
        """The slices that have strokes, a mask or an accepted mask."""
        return [index for index, session in self.sessions.items() if session.worth_keeping]

    def restore(self, records: Mapping[Index, SliceRecord], mask: np.ndarray) -> None:
        """Continue from ``records``: write masks and strokes into ``mask``, full shape.

        A slice with a mask of its own (more than strokes and an accepted mask) can be refined.

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

    def _pixels(self, label: int) -> list[PackedPixels]:
        """The pixels of a class in every slice that has a session."""
        parts: list[PackedPixels] = []
        for index, session in self.sessions.items():
            where = np.flatnonzero(session.timeline.content == label)
            if where.size:
                labels = np.full(where.size, label)
                parts.append({"slice": index, "pixels": pack(where, labels)})
        return parts

    def _crossing(self, index: Index) -> Collection[tuple[Any, Any, Session]]:
        """Of every slice that crosses this one: the shared pixels here and there, the session."""
        crossing = []
        for other, session in self.sessions.items():
            shared = meeting(index, other)
            if shared is not None:
                crossing.append((*shared, session))
        return crossing

    def _recently(self, index: Index) -> None:
        """Note the slice in use, and condense the runs of all but the last few."""
        self._recent = [*(other for other in self._recent if other != index), index]
        while self.runs_kept is not None and len(self._recent) > self.runs_kept:
            session = self.sessions.get(self._recent.pop(0))
            if session is not None:
                session.condense()

    def _bound(self) -> None:
        """Drop the oldest edits of all slices until the history fits into ``HISTORY_BYTES``."""
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


def frozen(log: Sequence[Entry]) -> dict[int, list[PackedPixels]]:
    """The classes that are frozen at the end of a log, with their pixels (none in older logs)."""
    classes: dict[int, list[PackedPixels]] = {}
    for entry in log:
        if entry["action"] in ("open", "restore"):  # the locks are logged again after these
            classes.clear()
        elif entry["action"] == "lock":
            classes.pop(entry["label"], None)
            if entry["on"]:
                classes[entry["label"]] = entry.get("held", [])
    return classes
