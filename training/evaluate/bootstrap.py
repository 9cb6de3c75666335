"""How far a mean difference over few images can be trusted."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """A mean with its 95 % interval; ``low`` and ``high`` are NaN for a single image."""

    mean: float
    low: float
    high: float


def paired_bootstrap(difference: ArrayLike, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Percentile bootstrap of the mean of paired differences.

    difference: ``[N]``, one value per image (one method minus the other on the same image); the
    images are drawn with replacement, so the interval speaks about other images of this kind.  The
    same seed gives the same interval.  ValueError for an empty or non-finite input.
    """
    values = np.asarray(difference, np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"wanted finite differences [N] with N >= 1, got {difference!r}")
    mean = float(values.mean())
    if values.size == 1:
        return Interval(mean, float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).integers(0, values.size, (resamples, values.size))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return Interval(mean, float(low), float(high))
