"""The annotation of one slice: prior, refinement steps, strokes, results, acceptance.

The caller (a window, a script, a test) reports every change of the mask and asks for the mask to
write; nothing here touches a layer, and neither Qt, napari nor torch is needed. Pixels that the
user painted are fixed: every mask of a session has the user's labels there.
:class:`napari_hidiff.annotation.Annotation` has the sessions of all slices of a mask.
"""

import zlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from napari_hidiff.annotation.constraints import Guards, Locks
from napari_hidiff.annotation.journal import SliceRecord
from napari_hidiff.annotation.objects import told, with_object
from napari_hidiff.annotation.undo import MaskHistory
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import LocalRegion
from napari_hidiff.masks import (
    FREE,
    LABELS,
    check_labels,
)


class Shown(NamedTuple):
    """One step of a run: mask integer [H, W] and the probability float32 [K, H, W] behind it."""

    mask: np.ndarray
    probability: np.ndarray


@dataclass
class Run:
    """One refinement, step by step.

    fixed : int32 [H, W], the fixed map at its start.
    shown : the entries of the slider; entry 0 is the prior, entry i the i-th step.
    total : the number of steps.
    before : integer [H, W], the mask at the start; strokes : bool [H, W], pixels painted since a
        model's mask was last written; believed : float32 [K, H, W] behind ``before``.
    guards : the limits on changes of ``before``.
    object : the label that a prompted model is asked for: ``fixed`` has 1 there, 0 for all else;
        None = the model knows all labels.
    written : the entry that was written into the mask last, or None.
    numbers : the original entries that ``shown`` still has after :meth:`condensed`; None = all.
        asked : the original ``total`` then.
    """

    fixed: np.ndarray
    shown: list[Shown]
    total: int
    before: np.ndarray
    strokes: np.ndarray
    believed: np.ndarray
    guards: Guards
    object: int | None = None
    written: int | None = None
    numbers: tuple[int, ...] | None = None
    asked: int | None = None

    def number(self, entry: int) -> int:
        """The original number of an entry of ``shown``; steps count from 1."""
        return entry if self.numbers is None else self.numbers[entry]

    @property
    def local(self) -> LocalRegion | None:
        """The region to compute, if the guards limit changes to places near the strokes."""
        near = self.guards.near is not None and self.strokes.any()
        return LocalRegion(self.strokes, self.believed) if near else None

    def whole(self, mask: np.ndarray) -> np.ndarray:
        """A model's mask [H, W] as one of all labels."""
        return mask if self.object is None else with_object(self.before, self.object, mask)

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.shown) - 1

    @property
    def finished(self) -> bool:
        """Whether every step has been taken."""
        return self.steps >= self.total

    def condensed(self) -> "Run":
        """A copy with the prior and the written entry alone, enough for guards and a later run;
        the run itself if it is condensed already."""
        if self.numbers is not None:
            return self
        entries = (0, self.written) if self.written else (0,)
        nothing = np.empty((0, 0))
        return replace(
            self,
            shown=[self.shown[entry] for entry in entries],
            total=len(entries) - 1,
            written=None if self.written is None else len(entries) - 1,
            numbers=entries,
            asked=self.total,
            fixed=nothing.astype(np.int32),
            before=nothing.astype(self.before.dtype),
            strokes=nothing.astype(bool),
        )


class Prior(NamedTuple):
    """The prior of a slice.

    given : the model's input, probabilities float32 [K, H, W] or an integer mask [H, W].
    probability : float32 [K, H, W] and mask : integer [H, W], to show.
    """

    given: np.ndarray
    probability: np.ndarray
    mask: np.ndarray


@dataclass
class Pointed:
    """What was given of an object: a mask, integer [H, W].

    answer : the number of the edit that wrote the first answer to it; None before.
    """

    given: np.ndarray
    answer: int | None = None


class Session:
    """One slice of an image under annotation.

    content : integer [H, W], the current mask; its labels do not count as strokes.
    fixed : integer [H, W], pixels fixed in an earlier session (``FREE`` elsewhere), or None.
    locks : the frozen classes; None = no class can be frozen.
    """

    def __init__(
        self, content: np.ndarray, fixed: np.ndarray | None = None, locks: Locks | None = None
    ) -> None:
        self.timeline = MaskHistory(content, fixed, locks)
        self.prior: Prior | None = None
        """The prior of refinement; None before the first mask."""
        self.run: Run | None = None
        self.accepted: np.ndarray | None = None
        """The mask that the user accepted last, integer [H, W]."""
        self.begun = False
        """Whether there is something to refine. A pass over many slices stores no ``prior``; it is
        then made again from ``given``."""
        self.given: np.ndarray | None = None
        """The mask [H, W] behind the prior; None = the segmentor's prior."""
        self.object: int | None = None
        """The label that the prior is about, of a prompted model; None = it is about all."""
        self._pointed: dict[int, Pointed] = {}
        self.refined_by_pass = False
        """Whether a pass over many slices refined this one and was not undone."""
        self._handed: bytes | None = None
        self._accepts = 0

    @property
    def propagated_mask(self) -> np.ndarray:
        """The mask [H, W] last propagated to the neighbouring slices; later changes are a
        correction to propagate."""
        content = self.timeline.content
        if self._handed is None:
            return np.zeros_like(content)
        known = np.frombuffer(zlib.decompress(self._handed), np.uint8)
        return known.reshape(content.shape).astype(content.dtype)

    def mark_propagated(self) -> None:
        """Mark the current mask as propagated to the neighbouring slices."""
        # Compressed: every slice of a volume stores one.
        self._handed = zlib.compress(self.timeline.content.astype(np.uint8).tobytes(), 1)

    def begin(
        self,
        given: np.ndarray | None,
        prior: Prior | None = None,
        label: int | None = None,
    ) -> None:
        """Set the prior, made from the mask ``given`` [H, W] or (None) by the segmentor; an earlier
        run is dropped.

        label : the object that a prompted model is asked for; the mask is that of it alone.
        """
        self.refined_by_pass = False
        self.begun, self.given, self.prior, self.run = True, given, prior, None
        self.object = label

    def point_at(self, label: int, given: np.ndarray) -> None:
        """The user gave a mask [H, W] of an object, or a box in which it was found: what a prompted
        model is handed from now on, unless the answer to it is undone."""
        self._pointed[label] = Pointed(given)

    def pointed(self, label: int) -> np.ndarray | None:
        """The mask that was given of an object; None where the answer to it was undone."""
        known = self._pointed.get(label)
        stands = known is not None and (known.answer is None or self.timeline.stands(known.answer))
        return known.given if known is not None and stands else None

    def prompt(self, label: int) -> np.ndarray | None:
        """What a prompted model is handed of an object beside its strokes: what the user gave; else
        nothing where a stroke is on it, since strokes alone are worth more than a mask found
        before; else the mask that it was last found from, or its own mask, uint8 [H, W]."""
        known, pointed = self._pointed.get(label), self.pointed(label)
        if pointed is not None or self.painted_in(label):
            return pointed
        if self.object == label and (known is None or known.given is not self.given):
            return self.given
        mask: np.ndarray = (self.timeline.content == label).astype(np.uint8)
        return mask if mask.any() else None

    def painted_in(self, label: int) -> bool:
        """Whether a stroke is on an object."""
        return bool((self.timeline.fixed == label).any())

    def is_about(self, label: int) -> bool:
        """Whether the prior is what :meth:`prompt` asks for of an object."""
        return self.prior is not None and self.object == label and self.given is self.prompt(label)

    def forget(self) -> None:
        """Drop the prior: the next refinement starts from another one."""
        self.begun, self.given, self.prior = False, None, None
        self._pointed.clear()

    def change_model(self, labels: int, prompted: bool = False) -> None:
        """Drop another model's results. The new one, of ``labels`` labels, makes the prior again
        from the same mask; it cannot refine a mask with a label that it lacks. What was given of an
        object is for prompted models alone."""
        self.prior = self.run = None
        if not prompted and self.object is not None:
            self.given = self.object = None
        top = int(self.timeline.content.max(initial=0))
        self.begun = self.begun and (prompted or top < labels)

    def start(self, total: int, labels: int, guards: Guards | None = None) -> Run:
        """Begin a run of ``total`` steps from the prior, with strokes and frozen classes fixed.

        guards : limits on changes of the current mask; None = no limits.

        An earlier run is dropped; its result stays in the mask.

        Raises
        ------
        InputError : there is no prior, or a stroke has a label that a model of ``labels`` labels
            lacks.
        """
        if self.prior is None:
            raise InputError("Find first: there is nothing to refine yet.")
        if self.object is None:
            fixed = self.timeline.fixed
            check_labels(fixed[fixed != FREE], labels, "A stroke")
        believed = self.current_probability
        before = self.timeline.content.copy()
        strokes = self.timeline.fresh
        run = Run(
            self.known(labels),
            [],
            total,
            before,
            strokes,
            believed,
            guards or Guards(),
            self.object,
        )
        run.shown.append(Shown(run.whole(self.prior.mask), self.prior.probability))
        self.run = run
        return run

    def known(self, labels: int, label: int | None = None) -> np.ndarray:
        """The fixed map for a model of ``labels`` labels, integer [H, W]: strokes and frozen
        classes; ``FREE`` elsewhere.

        label : the object that a prompted model is asked for, None = that of the prior: 1 on it, 0
        on the others.
        """
        timeline, label = self.timeline, label or self.object
        if label is None:
            return timeline.locks.known(timeline.content, timeline.fixed, labels)
        known = timeline.locks.known(timeline.content, timeline.fixed, LABELS)
        return told(timeline.content, label, known)

    @property
    def current_probability(self) -> np.ndarray:
        """The probability float32 [K, H, W] behind the current mask, also after an undo: of the
        result in the mask, or else of the first mask.

        Raises
        ------
        InputError : there is neither.
        """
        if self.run is not None:
            standing = self.standing
            return self.run.believed if standing is None else self.run.shown[standing].probability
        if self.prior is None:
            raise InputError("Find first: there is nothing to be uncertain about yet.")
        return self.prior.probability

    @property
    def refined(self) -> bool:
        """Whether the mask was refined, by a run or in a pass over many slices."""
        if self.run is not None:
            return self.run.written is not None
        return self.refined_by_pass and self.begun and self.prior is None

    def add_step(self, mask: np.ndarray, probability: np.ndarray) -> None:
        """Add a step to the run: its mask [H, W], with changes limited by the guards, and its
        probability [K, H, W]."""
        run = self.run
        if run is None:
            raise ValueError("add_step() without start()")
        whole = run.whole(mask)
        guarded = run.guards(run.before, whole, run.strokes, run.believed, probability)
        guarded = self.timeline.locks.around(run.before, guarded)
        run.shown.append(Shown(guarded.astype(mask.dtype), probability))

    def view(self, step: int) -> np.ndarray:
        """The mask [H, W] of a step of the run (0 = prior), around all fixed pixels.

        Raises
        ------
        InputError : there is no run or no such step.
        """
        if self.run is None or not 0 <= step <= self.run.steps:
            raise InputError("There is no such step: run the refinement first.")
        return self.timeline.around_fixed(self.run.shown[step].mask)

    @property
    def standing(self) -> int | None:
        """The step in the mask: the one written last, unless it was undone; else None."""
        written = None if self.run is None else self.run.written
        if written is None or not np.array_equal(self.view(written), self.timeline.content):
            return None
        return written

    def wrote(self, now: np.ndarray, step: int | None = None) -> None:
        """A model's mask was written; the layer shows ``now`` [H, W].

        step : the entry of the run that it came from; None = not from a run.
        """
        self.timeline.wrote(now)
        if self.object is not None:  # the whole object is carried on, strokes and all
            known, last = self._pointed.get(self.object), self.timeline.last
            if known is not None and known.answer is None and step and last is not None:
                known.answer = last.number
        elif self._handed is None or not self.timeline.fixed_count:
            self.mark_propagated()
        if self.run is not None and step is not None:
            self.run.written = step

    def condense(self) -> None:
        """Free the memory of the run's steps, except the prior and the written entry.

        Guards and a later run still work (:meth:`Run.condensed`).
        """
        if self.run is not None:
            self.run = self.run.condensed()

    @property
    def revision(self) -> int:
        """A number that changes with every change of the :class:`SliceRecord`."""
        return self.timeline.revision + self._accepts

    @property
    def worth_keeping(self) -> bool:
        """Whether there are strokes, a mask or an accepted mask."""
        timeline = self.timeline
        return bool(timeline.fixed_count or self.accepted is not None or timeline.content.any())

    def record(self) -> SliceRecord:
        """The saved state of this slice, as copies."""
        fixed = self.timeline.fixed
        accepted = None if self.accepted is None else self.accepted.copy()
        made_up = np.zeros_like(self.timeline.content) if accepted is None else accepted.copy()
        made_up[fixed != FREE] = fixed[fixed != FREE]
        same = np.array_equal(made_up, self.timeline.content)
        return SliceRecord(fixed, accepted, None if same else self.timeline.content.copy())

    @property
    def done(self) -> bool:
        """Whether the current mask was accepted."""
        return self.accepted is not None and np.array_equal(self.accepted, self.timeline.content)

    def withdraw(self) -> None:
        """The mask is not final after all; the mask itself stays."""
        self.accepted = None
        self._accepts += 1

    def accept(self) -> np.ndarray:
        """Accept the current mask as final. Returns a copy of it, [H, W]."""
        self.accepted = self.timeline.content.copy()
        self._accepts += 1
        return self.accepted
