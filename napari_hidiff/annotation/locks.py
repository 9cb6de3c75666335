"""Frozen classes: whoever writes into a mask, a frozen class neither shrinks nor grows.

A Labels layer can protect values, not pixels, and an undo asks nobody. So the mask is compared
with what it was after everything that happens to it, and what a frozen class lost or gained is
put back at once.
"""

from collections.abc import Iterator
from types import EllipsisType
from typing import NamedTuple

import numpy as np

Part = tuple[int | slice, ...] | EllipsisType
"""What to index an array with to get a view of some of it."""


class Breach(NamedTuple):
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
        return (before != after) & (np.isin(before, labels) | np.isin(after, labels))

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

    def breach(self, mask: np.ndarray, part: Part = ...) -> Breach | None:
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
            found = Breach(back, before[wrong], frozenset(involved & self._labels))
        else:
            found = None
        held[changed] = np.where(wrong, before, after)
        return found
