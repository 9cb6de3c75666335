"""Where two masks differ, and how much."""

from typing import NamedTuple

import numpy as np

SAME, ADDED, REMOVED, RELABELLED = range(4)
"""The values of :func:`difference`."""


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
