"""One refinement of a slice as a session keeps it: where it began, its steps, what was written."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from napari_hidiff.annotation.constraints import Guards, Local


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
