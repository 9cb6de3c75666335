"""What a re-refinement may change in a mask that an annotator is correcting.

A network that answers a stroke also redraws places that nobody asked about. Changes come in
8-connected components; a guard keeps a component or leaves it as it was. Fixed pixels are not the
guards' business: no mask changes them (:mod:`napari_hidiff.annotation.undo`).

Frozen classes: whoever writes into a mask, a frozen class neither shrinks nor grows.

A Labels layer can protect values, not pixels, and an undo asks nobody. So the mask is compared
with what it was after everything that happens to it, and what a frozen class lost or gained is
put back at once.
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
"""The lead of a new label over the old one from which a change is no toss-up: on validation images
it halves the answers that do harm (docs/interactive.md has what it costs where)."""

EIGHT = np.ones((3, 3), bool)
"""Neighbours of a pixel in a component: all eight."""


@dataclass(frozen=True)
class Guards:
    """Which changes are kept; none is dropped by default.

    near : only components of change that touch the strokes, or lie within so many pixels of them;
        None = everywhere, as where there is no stroke at all.
    certain : only components in which the model is surer of the new labels than it was of the old
        ones: the mean probability of the new labels is higher than that of the old labels in the
        probability that the mask came from.
    margin : only pixels in which the new label is more probable than the old one by at least
        this, in 0..1: places about which the model is in two minds stay as they are.
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
        """``after`` [H, W] with the components of change that are not kept as in ``before``.

        before, after : integer [H, W]. strokes : bool [H, W], what was painted since the mask was
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
        kept = np.ones(count + 1, bool)
        if self.near is not None and strokes.any():
            reached = np.unique(changes[around(strokes, self.near + 1)])
            kept &= np.isin(np.arange(count + 1), reached)
        if self.certain:
            gain = of_labels(probability, after) - of_labels(believed, before)
            kept[1:] &= ndimage.sum(gain, changes, np.arange(1, count + 1)) > 0
        kept[0] = True
        return np.where(kept[changes], after, before)


def around(strokes: np.ndarray, reach: int) -> np.ndarray:
    """Pixels bool [H, W] within ``reach`` pixels of a stroke (there is one), itself among them."""
    return np.asarray(ndimage.distance_transform_edt(~strokes)) <= reach


def of_labels(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The probability [H, W] that a distribution [K, H, W] gives to the labels of a mask."""
    if len(probability) == 1:
        array: np.ndarray = np.asarray(np.where(mask > 0, probability[0], 1 - probability[0]))
        return array
    return np.asarray(np.take_along_axis(probability, mask[None].astype(np.int64), 0)[0])


Part = tuple[int | slice, ...] | EllipsisType
"""What to index an array with to get a view of some of it."""


class LockViolation(NamedTuple):
    """Pixels that have to be put back.

    where : their positions, an index array per axis of the part that was looked at.
    values : [n], what they were. labels : the frozen classes that are concerned.
    """

    where: tuple[np.ndarray, ...]
    values: np.ndarray
    labels: frozenset[int]


class Locks:
    """Which labels of a mask are frozen, and how the mask was while any is."""

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
        """Freeze a label where it is in ``mask`` (integer, any shape), or let it go.

        Raises
        ------
        ValueError : the background, which every stroke and every result changes.
        """
        if not label:
            raise ValueError("the background cannot be frozen: freeze the classes")
        (self._labels.add if on else self._labels.discard)(label)
        self._held = np.array(mask) if self._labels else None

    def breached(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Where a frozen class would lose or gain a pixel; bool, of the shape of both masks."""
        if not self._labels:
            return np.zeros(np.shape(after), bool)
        labels = list(self._labels)
        array: np.ndarray = (before != after) & (np.isin(before, labels) | np.isin(after, labels))
        return array

    def around(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """``after``, with the pixels as in ``before`` where a frozen class would change."""
        if not self._labels:
            return after
        return np.where(self.breached(before, after), before, after).astype(after.dtype)

    def known(self, content: np.ndarray, fixed: np.ndarray, labels: int) -> np.ndarray:
        """The fixed map ``fixed``, and every pixel of a frozen class in ``content`` fixed too.

        labels : how many labels the model has that is told; it is told nothing of others.
        """
        frozen = np.isin(content, [label for label in self._labels if label < labels])
        return np.where(frozen & (fixed < 0), content, fixed).astype(fixed.dtype)

    def breach(self, mask: np.ndarray, part: Part = ...) -> LockViolation | None:
        """What has to be put back in ``mask[part]``; every other change there is taken over.

        None where there is nothing to do, also for a mask of another shape, which is none of ours.
        """
        if self._held is None or self._held.shape != mask.shape:
            return None
        held, now = self._held[part], mask[part]
        if np.array_equal(held, now):  # often, and much quicker than looking for positions
            return None
        changed = np.nonzero(held != now)
        before, after = held[changed], now[changed]
        wrong = self.breached(before, after)
        if wrong.any():
            involved = set(before[wrong].tolist()) | set(after[wrong].tolist())
            back = tuple(axis[wrong] for axis in changed)
            found = LockViolation(back, before[wrong], frozenset(involved & self._labels))
        else:
            found = None
        held[changed] = np.where(wrong, before, after)
        return found
