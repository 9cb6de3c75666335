"""What may change in a mask that an annotator is correcting: guards and locks.

:class:`Guards` limit a re-refinement. A network that answers a stroke also redraws places far from
it. Changes come in 8-connected components; a guard accepts a component or restores it. Guards
ignore fixed pixels, which no result changes (:mod:`napari_hidiff.annotation.undo`).

:class:`Locks` freeze classes: a frozen class neither shrinks nor grows, whatever writes into the
mask. A Labels layer protects values, not pixels, and napari's undo ignores that protection. So the
mask is compared with its last state after every event, and wrong pixels are restored at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import EllipsisType
from typing import NamedTuple

import numpy as np
from scipy import ndimage

REACH = 3
"""Pixels between a stroke and a change that still counts as near it."""

MARGIN = 0.3
"""Smallest lead of the new label's probability over the old one's; a smaller one is a toss-up. On
validation images it halves the harmful answers (docs/interactive.md has the costs)."""

EIGHT = np.ones((3, 3), bool)
"""The 8-neighbourhood of a pixel."""


@dataclass(frozen=True)
class Guards:
    """Limits on the changes of a re-refinement; without arguments there is none.

    near : only components of change that touch the strokes, or lie within so many pixels of them;
        None = everywhere, as where there is no stroke at all.
    certain : only components whose new labels have a higher mean probability than the old labels
        had in ``believed``, the probability behind the old mask.
    margin : only pixels whose new label is more probable than the old one by at least this, in
        0..1; toss-ups are restored.
    """

    near: int | None = None
    certain: bool = False
    margin: float = 0.0

    def __call__(
        self,
        before: np.ndarray,
        after: np.ndarray,
        strokes: np.ndarray,
        believed: np.ndarray,
        probability: np.ndarray,
    ) -> np.ndarray:
        """``after`` [H, W], with refused components of change restored from ``before``.

        before, after : integer [H, W]. strokes : bool [H, W], pixels painted since the mask was
        last written. believed, probability : float [K, H, W] behind ``before`` and ``after``.
        """
        if self.margin > 0:
            lead = of_labels(probability, after) - of_labels(probability, before)
            after = np.where(lead >= self.margin, after, before)
        if self.near is None and not self.certain:
            return after
        changes, count = ndimage.label(before != after, EIGHT)
        if not count:
            return after
        accepted = np.ones(count + 1, bool)
        if self.near is not None and strokes.any():
            reached = np.unique(changes[around(strokes, self.near + 1)])
            accepted &= np.isin(np.arange(count + 1), reached)
        if self.certain:
            gain = of_labels(probability, after) - of_labels(believed, before)
            accepted[1:] &= ndimage.sum(gain, changes, np.arange(1, count + 1)) > 0
        accepted[0] = True
        return np.where(accepted[changes], after, before)


def around(strokes: np.ndarray, reach: int) -> np.ndarray:
    """Pixels bool [H, W] within ``reach`` pixels of a stroke; there must be a stroke."""
    return np.asarray(ndimage.distance_transform_edt(~strokes)) <= reach


def of_labels(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The probability [H, W] of the labels of a mask under a distribution [K, H, W]."""
    if len(probability) == 1:
        array: np.ndarray = np.asarray(np.where(mask > 0, probability[0], 1 - probability[0]))
        return array
    return np.asarray(np.take_along_axis(probability, mask[None].astype(np.int64), 0)[0])


Part = tuple[int | slice, ...] | EllipsisType
"""An index that gives a view of a part of an array."""


class LockViolation(NamedTuple):
    """Pixels that must be restored.

    where : their positions in the part, an index array per axis.
    values : [n], the labels to restore. labels : the frozen classes among them.
    """

    where: tuple[np.ndarray, ...]
    values: np.ndarray
    labels: frozenset[int]


class Locks:
    """The frozen labels of a mask, and a copy of the mask while there are any."""

    def __init__(self) -> None:
        self._labels: set[int] = set()
        self._held: np.ndarray | None = None

    def __contains__(self, label: object) -> bool:
        return label in self._labels

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._labels))

    def __len__(self) -> int:
        return len(self._labels)

    def freeze(self, label: int, mask: np.ndarray, on: bool = True) -> None:
        """Freeze a label where it is in ``mask`` (integer, any shape), or release it.

        Raises
        ------
        ValueError : the background, which every stroke and every result changes.
        """
        if not label:
            raise ValueError("the background cannot be frozen: freeze the classes")
        (self._labels.add if on else self._labels.discard)(label)
        self._held = np.array(mask) if self._labels else None

    def breached(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Pixels that a frozen class would lose or gain; bool, of the shape of both masks."""
        if not self._labels:
            return np.zeros(np.shape(after), bool)
        labels = list(self._labels)
        array: np.ndarray = (before != after) & (np.isin(before, labels) | np.isin(after, labels))
        return array

    def around(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """``after``, restored from ``before`` where a frozen class would change."""
        if not self._labels:
            return after
        return np.where(self.breached(before, after), before, after).astype(after.dtype)

    def known(self, content: np.ndarray, fixed: np.ndarray, labels: int) -> np.ndarray:
        """The fixed map for a model: ``fixed``, and every pixel of a frozen class in ``content``.

        labels : number of labels of the model; frozen classes beyond them are left out.
        """
        frozen = np.isin(content, [label for label in self._labels if label < labels])
        return np.where(frozen & (fixed < 0), content, fixed).astype(fixed.dtype)

    def breach(self, mask: np.ndarray, part: Part = ...) -> LockViolation | None:
        """The pixels of ``mask[part]`` to restore; every other change there is accepted.

        None where there are none, and for a mask of another shape.
        """
        if self._held is None or self._held.shape != mask.shape:
            return None
        before_part, now = self._held[part], mask[part]
        if np.array_equal(before_part, now):  # often, and much quicker than looking for positions
            return None
        changed = np.nonzero(before_part != now)
        before, after = before_part[changed], now[changed]
        wrong = self.breached(before, after)
        if wrong.any():
            involved = set(before[wrong].tolist()) | set(after[wrong].tolist())
            back = tuple(axis[wrong] for axis in changed)
            violation = LockViolation(back, before[wrong], frozenset(involved & self._labels))
        else:
            violation = None
        before_part[changed] = np.where(wrong, before, after)
        return violation
