"""The figures of curves: Dice after 0, 1, 2, ... strokes."""

import numpy as np
from numpy.typing import ArrayLike

AFTER = (0, 1, 2, 3, 5, 10, 20)
"""Strokes after which the mean Dice is listed."""
AREAS = (10, 20)
"""Strokes up to which the area under a curve is taken."""
GOALS = (0.85, 0.90, 0.95)
"""Values of Dice to be reached."""


def areas_for(strokes: int) -> tuple[int, ...]:
    """The areas that so many strokes allow; the whole curve where they are fewer than any."""
    return tuple(k for k in AREAS if k <= strokes) or (strokes,)


def nauc(curve: ArrayLike, k: int) -> float:
    """Area under Dice_0..Dice_k by trapezoids, divided by k: in [0, 1]."""
    return float(np.trapezoid(np.asarray(curve, np.float64)[: k + 1]) / k)


def strokes_to(curve: ArrayLike, goal: float) -> int | None:
    """The first number of strokes after which Dice is at least ``goal``; None if it never is."""
    reached = np.flatnonzero(np.asarray(curve) >= goal)
    return int(reached[0]) if reached.size else None
