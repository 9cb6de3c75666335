"""What an annotator does to one image: prior, steps, strokes, results, acceptance.

A :class:`Session` is one slice [H, W]; an :class:`Annotation` is all slices of one mask, which may
have more axes. The surroundings (a napari widget, a test, a script) report what happened to the
mask and ask what to write into it; nothing here touches a layer, and neither Qt, napari nor torch
is needed. Pixels that the user painted are fixed: every mask that a session hands out has them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.guards import Guards, Local
from napari_hidiff.locks import Locks
from napari_hidiff.timeline import FREE, Timeline, check_labels

Index = tuple[int, ...]
"""A slice of a mask with n axes: a position per axis, -1 on the two axes that are shown."""

SAME, ADDED, REMOVED, RELABELLED = range(4)
"""The values of :func:`difference`."""


class Prior(NamedTuple):
    """What refinement starts from.

    given : what the model gets, probabilities float32 [K, H, W] or an integer mask [H, W].
    probability : float32 [K, H, W] and mask : integer [H, W], to be shown.
    """

    given: np.ndarray
    probability: np.ndarray
    mask: np.ndarray


class Shown(NamedTuple):
    """One moment of a run: mask integer [H, W] and the probability float32 [K, H, W] behind it."""

    mask: np.ndarray
    probability: np.ndarray


@dataclass
class Run:
    """One refinement, step by step.

    fixed : int32 [H, W], the fixed map that it started from.
    shown : what the slider shows; entry 0 is the prior, entry i the i-th step.
    total : the number of steps asked for.
    before : integer [H, W], the mask when it started; strokes : bool [H, W], painted since a
        model's mask was last written; believed : float32 [K, H, W] behind ``before``.
    guards : which changes of ``before`` the steps may make.
    written : the entry that was written into the mask last, or None.
    """

    fixed: np.ndarray
    shown: list[Shown]
    total: int
    before: np.ndarray
    strokes: np.ndarray
    believed: np.ndarray
    guards: Guards
    written: int | None = None

    @property
    def local(self) -> Local | None:
        """What has to be computed, where the guards keep changes near the strokes."""
        near = self.guards.near is not None and self.strokes.any()
        return Local(self.strokes, self.believed) if near else None

    @property
    def steps(self) -> int:
        """How many steps have been taken."""
        return len(self.shown) - 1

    @property
    def finished(self) -> bool:
        """Whether every step has been taken."""
        return self.steps >= self.total


class Changes(NamedTuple):
    """How many pixels differ: from background to a label, to background, from label to label."""

    added: int
    removed: int
    relabelled: int


def difference(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, Changes]:
    """Where two masks [H, W] differ, and how much.

    Returns a map uint8 [H, W] of SAME, ADDED, REMOVED and RELABELLED, and the counts.
    """
    kind = np.where(before == 0, ADDED, np.where(after == 0, REMOVED, RELABELLED))
    kinds = np.where(before != after, kind, SAME).astype(np.uint8)
    counts = np.bincount(kinds.ravel(), minlength=4)
    return kinds, Changes(*(int(count) for count in counts[ADDED:]))


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
        if self.run is not None and step is not None:
            self.run.written = step

    def accept(self) -> np.ndarray:
        """Take the mask as it stands for final. Returns a copy of it, [H, W]."""
        self.accepted = self.timeline.content.copy()
        return self.accepted


class SliceRecord(NamedTuple):
    """What outlives the program: strokes int32 [H, W]; the accepted mask [H, W] or None."""

    fixed: np.ndarray
    accepted: np.ndarray | None


@dataclass
class Annotation:
    """All slices of one mask.

    shape : the shape of the whole mask.
    sessions : a session for every slice that was worked on.
    locks : the classes that are frozen, in every slice.
    log : what was done, in order, each entry a small JSON-able dict: to repeat or learn from.
    """

    shape: tuple[int, ...]
    sessions: dict[Index, Session] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    locks: Locks = field(default_factory=Locks)

    def session(self, index: Index, content: np.ndarray) -> Session:
        """The session of a slice whose mask is ``content`` [H, W].

        A new one takes the labels in it for the user's strokes: nobody else has written there.
        """
        if index not in self.sessions:
            self.sessions[index] = Session(np.zeros_like(content), locks=self.locks)
            self.sessions[index].timeline.painted(content)
        return self.sessions[index]

    def changed(self, mask: np.ndarray, painted: bool) -> int:
        """The whole mask may have changed; bring every session up to date.

        painted : new strokes, or else undo, redo and foreign writes (:meth:`Timeline.moved`).
        Returns how many pixels changed.
        """
        count = 0
        for index, session in self.sessions.items():
            news = session.timeline.painted if painted else session.timeline.moved
            count += news(mask[slicer(index)])
        return count

    def around_fixed(self, index: Index, mask: np.ndarray) -> np.ndarray:
        """``mask`` [H, W] around every fixed pixel, also of slices that cross this one."""
        merged = self.sessions[index].timeline.around_fixed(mask)
        shown = [at < 0 for at in index]
        for other, session in self.sessions.items():
            if [at < 0 for at in other] != shown:
                fixed = np.full(self.shape, FREE, np.int32)
                fixed[slicer(other)] = session.timeline.fixed
                where = fixed[slicer(index)] != FREE
                merged[where] = fixed[slicer(index)][where]
        return merged

    def wrote(self, index: Index, mask: np.ndarray, step: int | None = None) -> None:
        """A model's mask was written into a slice; ``mask`` is the whole mask.

        step : the entry of the slice's run that it came from, if any.
        """
        self.sessions[index].wrote(mask[slicer(index)], step)
        for other, session in self.sessions.items():
            if other != index:
                session.timeline.wrote(mask[slicer(other)])

    @property
    def fixed_count(self) -> int:
        """How many pixels are fixed in all slices."""
        return sum(session.timeline.fixed_count for session in self.sessions.values())

    def freeze(self, label: int, mask: np.ndarray, on: bool = True) -> None:
        """Freeze a class where it is in the whole mask, or let it go (:class:`Locks`)."""
        self.locks.freeze(label, mask, on)
        self.note("lock", label=label, on=on)

    def note(self, action: str, **facts: Any) -> None:
        """Add an entry to the log."""
        self.log.append({"action": action, **facts})

    def records(self) -> dict[Index, SliceRecord]:
        """Strokes and accepted masks of all slices that have any, as copies."""
        found = {}
        for index, session in self.sessions.items():
            accepted = None if session.accepted is None else session.accepted.copy()
            if session.timeline.fixed_count or accepted is not None:
                found[index] = SliceRecord(session.timeline.fixed, accepted)
        return found

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


def slicer(index: Index) -> tuple[int | slice, ...]:
    """What to index an array with to get the slice ``index`` as a view [H, W]."""
    return tuple(slice(None) if at < 0 else at for at in index)
