"""What an annotator does to one image: prior, steps, strokes, results, acceptance.

A :class:`Session` is one slice [H, W]; an :class:`Annotation` is all slices of one mask, which may
have more axes. The surroundings (a napari widget, a test, a script) report what happened to the
mask and ask what to write into it; nothing here touches a layer, and neither Qt, napari nor torch
is needed. Pixels that the user painted are fixed: every mask that a session hands out has them.
"""

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_hidiff.difference import ADDED, RELABELLED, REMOVED, SAME, Changes, difference
from napari_hidiff.errors import InputError
from napari_hidiff.guards import Guards
from napari_hidiff.journal import Journal, repeatable
from napari_hidiff.locks import Locks
from napari_hidiff.records import SliceRecord, packed
from napari_hidiff.run import Prior, Run, Shown
from napari_hidiff.slices import Index, meeting, slicer
from napari_hidiff.timeline import FREE, Timeline, check_labels

__all__ = ["Annotation", "Changes", "Index", "Prior", "Run", "Session", "Shown", "SliceRecord"]
__all__ += ["ADDED", "RELABELLED", "REMOVED", "SAME", "difference", "slicer"]

HISTORY_BYTES = 64 * 2**20
"""Memory of the undo history of all slices together; older changes than that can be undone no
more, apart from the last few."""
ALWAYS = 10
"""Changes of a slice that can be undone whatever memory they take."""
RUNS = 4
"""Slices whose runs are kept step by step; of older ones the result alone is left."""


class Session:
    """One slice of an image under annotation.

    content : integer [H, W], the mask as it stands, not taken for the user's strokes.
    fixed : integer [H, W], pixels fixed in an earlier session (``FREE`` elsewhere), or None.
    locks : the classes that are frozen, if any can be.
    """

    def __init__(
        self, content: np.ndarray, fixed: np.ndarray | None = None, locks: Locks | None = None
    ) -> None:
        self.timeline = Timeline(content, fixed, locks)
        self.prior: Prior | None = None
        """What refinement starts from, once there is a segmentation."""
        self.run: Run | None = None
        self.accepted: np.ndarray | None = None
        """The mask that the user accepted last, integer [H, W]."""
        self.begun = False
        """Whether there is something to refine. Where ``prior`` is None all the same, a sweep over
        many slices has not kept it, and it is made again from ``given``."""
        self.given: np.ndarray | None = None
        """The mask [H, W] that the prior was made from; None = the segmentor's prior."""
        self._handed: bytes | None = None
        self._accepts = 0

    @property
    def handed(self) -> np.ndarray:
        """The mask [H, W] that the neighbouring slices know: what differs from it by now is a
        correction, to be carried to them."""
        content = self.timeline.content
        if self._handed is None:
            return np.zeros_like(content)
        known = np.frombuffer(zlib.decompress(self._handed), np.uint8)
        return known.reshape(content.shape).astype(content.dtype)

    def hand_on(self) -> None:
        """The neighbouring slices know the mask as it stands."""
        # Squeezed: there is one in every slice of a volume.
        self._handed = zlib.compress(self.timeline.content.astype(np.uint8).tobytes(), 1)

    def begin(self, given: np.ndarray | None, prior: Prior | None = None) -> None:
        """There is something to refine now: a prior made from ``given`` [H, W], or None for the
        segmentor's; an earlier run is forgotten."""
        self.begun, self.given, self.prior, self.run = True, given, prior, None

    def forget(self) -> None:
        """There is nothing to refine any more: another model was chosen."""
        self.begun, self.given, self.prior = False, None, None

    def start(self, total: int, labels: int, guards: Guards | None = None) -> Run:
        """Begin a run of ``total`` steps from the prior, with strokes and frozen classes fixed.

        guards : what the steps may change in the mask as it stands now; None = everything.

        An earlier run is forgotten; what it wrote stays in the mask.

        Raises
        ------
        InputError : there is no prior, or a stroke uses a label that a model of ``labels`` labels
            does not know.
        """
        if self.prior is None:
            raise InputError("Segment first: there is nothing to refine yet.")
        fixed = self.timeline.fixed
        check_labels(fixed[fixed != FREE], labels, "A stroke")
        fixed = self.known(labels)
        first = Shown(self.prior.mask, self.prior.probability)
        believed = self._believed(first)
        before = self.timeline.content.copy()
        strokes = self.timeline.fresh
        self.run = Run(fixed, [first], total, before, strokes, believed, guards or Guards())
        return self.run

    def known(self, labels: int) -> np.ndarray:
        """What a model of ``labels`` labels is told to keep, int32 [H, W]: strokes, and the
        pixels of frozen classes; ``FREE`` elsewhere."""
        timeline = self.timeline
        return timeline.locks.known(timeline.content, timeline.fixed, labels)

    def _believed(self, prior: Shown) -> np.ndarray:
        """The probability [K, H, W] behind the mask as it stands, also after an undo."""
        if self.run is None:
            return prior.probability
        standing = self.standing
        return self.run.believed if standing is None else self.run.shown[standing].probability

    def add_step(self, mask: np.ndarray, probability: np.ndarray) -> None:
        """Keep one step of the run: its mask [H, W], as far as the guards let it change what
        stands, and its probability [K, H, W]."""
        run = self.run
        if run is None:
            raise ValueError("add_step() without start()")
        kept = run.guards(run.before, mask, run.strokes, run.believed, probability)
        kept = self.timeline.locks.around(run.before, kept)
        run.shown.append(Shown(kept.astype(mask.dtype), probability))

    def view(self, step: int) -> np.ndarray:
        """The mask [H, W] of a step of the run (0 = prior), around every pixel fixed by now.

        Raises
        ------
        InputError : there is no run or no such step.
        """
        if self.run is None or not 0 <= step <= self.run.steps:
            raise InputError("There is no such step: run the refinement first.")
        return self.timeline.around_fixed(self.run.shown[step].mask)

    @property
    def standing(self) -> int | None:
        """The step that stands in the mask: the one written last, unless it was undone."""
        written = None if self.run is None else self.run.written
        if written is None or not np.array_equal(self.view(written), self.timeline.content):
            return None
        return written

    def wrote(self, now: np.ndarray, step: int | None = None) -> None:
        """A model's mask was written; the layer shows ``now`` [H, W].

        step : the entry of the run that it came from, or None if it is not from a run.
        """
        self.timeline.wrote(now)
        if self._handed is None or not self.timeline.fixed_count:
            self.hand_on()
        if self.run is not None and step is not None:
            self.run.written = step

    def condense(self) -> None:
        """Forget the steps of the run, but for the prior and the entry that was written.

        What guards and a later run need to know of it is kept.
        """
        if self.run is not None:
            self.run = self.run.condensed()

    @property
    def revision(self) -> int:
        """Another number after every change of what :class:`SliceRecord` holds."""
        return self.timeline.revision + self._accepts

    def accept(self) -> np.ndarray:
        """Take the mask as it stands for final. Returns a copy of it, [H, W]."""
        self.accepted = self.timeline.content.copy()
        self._accepts += 1
        return self.accepted


@dataclass
class Annotation:
    """All slices of one mask.

    shape : the shape of the whole mask.
    sessions : a session for every slice that was worked on.
    locks : the classes that are frozen, in every slice.
    log : what was done, in order, each entry a small JSON-able dict: to repeat or learn from
        (:mod:`napari_hidiff.journal` has what is in it).
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

        painted : new strokes, or else undo, redo and foreign writes (:meth:`Timeline.moved`).
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
        """Strokes and accepted masks of all slices that have any, as copies.

        known : leave out slices whose session still has this revision.
        """
        found = {}
        for index in self.kept():
            session = self.sessions[index]
            if known is None or known.get(index) != session.revision:
                accepted = None if session.accepted is None else session.accepted.copy()
                found[index] = SliceRecord(session.timeline.fixed, accepted)
        return found

    def kept(self) -> list[Index]:
        """The slices that have strokes or an accepted mask."""
        return [
            index
            for index, session in self.sessions.items()
            if session.timeline.fixed_count or session.accepted is not None
        ]

    def restore(self, records: Mapping[Index, SliceRecord], mask: np.ndarray) -> None:
        """Go on from ``records``: write accepted masks and strokes into ``mask``, full shape.

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
            if record.accepted is not None:
                view[...] = record.accepted
            where = record.fixed != FREE
            view[where] = record.fixed[where]
            session = Session(view, record.fixed, self.locks)
            session.accepted = record.accepted
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
