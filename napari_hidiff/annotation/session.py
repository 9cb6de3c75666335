"""What an annotator does to one slice of an image: prior, steps, strokes, results, acceptance.

The surroundings (a napari widget, a test, a script) report what happened to the mask and ask what
to write into it; nothing here touches a layer, and neither Qt, napari nor torch is needed. Pixels
that the user painted are fixed: every mask that a session hands out has them.
:mod:`napari_hidiff.annotation` has all slices of a mask.
"""

import zlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from napari_hidiff.annotation.constraints import Guards, Locks
from napari_hidiff.annotation.journal import SliceRecord
from napari_hidiff.annotation.undo import MaskHistory
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import LocalRegion
from napari_hidiff.masks import (
    FREE,
    check_labels,
)


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
    numbers : which entries of the run ``shown`` still has, after :meth:`condensed`; None =
        all. asked : the number of steps that were asked for then.
    """

    fixed: np.ndarray
    shown: list[Shown]
    total: int
    before: np.ndarray
    strokes: np.ndarray
    believed: np.ndarray
    guards: Guards
    written: int | None = None
    numbers: tuple[int, ...] | None = None
    asked: int | None = None

    def number(self, entry: int) -> int:
        """Which entry of the whole run an entry of ``shown`` was; steps count from 1."""
        return entry if self.numbers is None else self.numbers[entry]

    @property
    def local(self) -> LocalRegion | None:
        """What has to be computed, where the guards keep changes near the strokes."""
        near = self.guards.near is not None and self.strokes.any()
        return LocalRegion(self.strokes, self.believed) if near else None

    @property
    def steps(self) -> int:
        """How many steps have been taken."""
        return len(self.shown) - 1

    @property
    def finished(self) -> bool:
        """Whether every step has been taken."""
        return self.steps >= self.total

    def condensed(self) -> "Run":
        """The run with its prior and the entry that was written alone, and what guards and a
        later run need to know; itself if it is that already."""
        if self.numbers is not None:
            return self
        kept = (0, self.written) if self.written else (0,)
        nothing = np.empty((0, 0))
        return replace(
            self,
            shown=[self.shown[entry] for entry in kept],
            total=len(kept) - 1,
            written=None if self.written is None else len(kept) - 1,
            numbers=kept,
            asked=self.total,
            fixed=nothing.astype(np.int32),
            before=nothing.astype(self.before.dtype),
            strokes=nothing.astype(bool),
        )


class Prior(NamedTuple):
    """What refinement starts from.

    given : what the model gets, probabilities float32 [K, H, W] or an integer mask [H, W].
    probability : float32 [K, H, W] and mask : integer [H, W], to be shown.
    """

    given: np.ndarray
    probability: np.ndarray
    mask: np.ndarray


class Session:
    """One slice of an image under annotation.

    content : integer [H, W], the mask as it stands, not taken for the user's strokes.
    fixed : integer [H, W], pixels fixed in an earlier session (``FREE`` elsewhere), or None.
    locks : the classes that are frozen, if any can be.
    """

    def __init__(
        self, content: np.ndarray, fixed: np.ndarray | None = None, locks: Locks | None = None
    ) -> None:
        self.timeline = MaskHistory(content, fixed, locks)
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
        self.refined_by_pass = False
        """Whether a pass over many slices refined this one, and that was not taken back."""
        self._handed: bytes | None = None
        self._accepts = 0

    @property
    def propagated_mask(self) -> np.ndarray:
        """The mask [H, W] that the neighbouring slices know: what differs from it by now is a
        correction, to be carried to them."""
        content = self.timeline.content
        if self._handed is None:
            return np.zeros_like(content)
        known = np.frombuffer(zlib.decompress(self._handed), np.uint8)
        return known.reshape(content.shape).astype(content.dtype)

    def mark_propagated(self) -> None:
        """The neighbouring slices know the mask as it stands."""
        # Squeezed: there is one in every slice of a volume.
        self._handed = zlib.compress(self.timeline.content.astype(np.uint8).tobytes(), 1)

    def begin(self, given: np.ndarray | None, prior: Prior | None = None) -> None:
        """There is something to refine now: a prior made from ``given`` [H, W], or None for the
        segmentor's; an earlier run is forgotten."""
        self.refined_by_pass = False
        self.begun, self.given, self.prior, self.run = True, given, prior, None

    def forget(self) -> None:
        """There is nothing to refine any more: it is to start from something else."""
        self.begun, self.given, self.prior = False, None, None

    def change_model(self, labels: int) -> None:
        """A model of so many labels was chosen: it makes the first mask again, from what the slice
        started from. A mask with a label that it does not know cannot be refined by it."""
        self.prior = self.run = None
        self.begun = self.begun and int(self.timeline.content.max(initial=0)) < labels

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
            raise InputError("Find first: there is nothing to refine yet.")
        fixed = self.timeline.fixed
        check_labels(fixed[fixed != FREE], labels, "A stroke")
        fixed = self.known(labels)
        first = Shown(self.prior.mask, self.prior.probability)
        believed = self.current_probability
        before = self.timeline.content.copy()
        strokes = self.timeline.fresh
        self.run = Run(fixed, [first], total, before, strokes, believed, guards or Guards())
        return self.run

    def known(self, labels: int) -> np.ndarray:
        """What a model of ``labels`` labels is told to keep, int32 [H, W]: strokes, and the
        pixels of frozen classes; ``FREE`` elsewhere."""
        timeline = self.timeline
        return timeline.locks.known(timeline.content, timeline.fixed, labels)

    @property
    def current_probability(self) -> np.ndarray:
        """The probability float32 [K, H, W] behind the mask as it is now, also after an undo: of
        the result in the mask, or else of the first mask.

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
            self.mark_propagated()
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

    @property
    def worth_keeping(self) -> bool:
        """Whether there are strokes, a mask or an accepted mask."""
        timeline = self.timeline
        return bool(timeline.fixed_count or self.accepted is not None or timeline.content.any())

    def record(self) -> SliceRecord:
        """What outlives the program of this slice, as copies."""
        fixed = self.timeline.fixed
        accepted = None if self.accepted is None else self.accepted.copy()
        made_up = np.zeros_like(self.timeline.content) if accepted is None else accepted.copy()
        made_up[fixed != FREE] = fixed[fixed != FREE]
        same = np.array_equal(made_up, self.timeline.content)
        return SliceRecord(fixed, accepted, None if same else self.timeline.content.copy())

    @property
    def done(self) -> bool:
        """Whether the mask as it is now was accepted."""
        return self.accepted is not None and np.array_equal(self.accepted, self.timeline.content)

    def withdraw(self) -> None:
        """The mask is not final after all; the mask itself stays."""
        self.accepted = None
        self._accepts += 1

    def accept(self) -> np.ndarray:
        """Take the mask as it stands for final. Returns a copy of it, [H, W]."""
        self.accepted = self.timeline.content.copy()
        self._accepts += 1
        return self.accepted
