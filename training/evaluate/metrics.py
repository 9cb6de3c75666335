"""How well a mask agrees with the truth: overlap and surface distance, in any dimension.

| name | of one class, prediction P and truth T | empty masks |
|---|---|---|
| dice | 2 |P & T| / (|P| + |T|) | both empty 1, one empty 0 |
| iou | |P & T| / |P or T| | both empty 1, one empty 0 |
| recall | |P & T| / |T| | T empty 1: nothing was there to miss |
| accuracy | share of pixels with the right label | |
| hd95 | in units of the spacing | both empty 0, one empty the diagonal |
| nsd | at a tolerance in units of the spacing | both empty 1, one empty 0 |

The last two are those of :mod:`napari_hidiff.surfaces`.

A region is a union of classes and is scored like a class (BraTS: whole tumour, core, enhancing).
Every image has every score, so that two methods are always compared on the same images; how many
masks were empty is counted beside the scores (:func:`empty`). :func:`paired_bootstrap` says how
far a mean difference over few images can be trusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from napari_hidiff.masks import dice
from napari_hidiff.surfaces import TOLERANCE, hd95, nsd, surface_distances

METRICS = ("dice", "iou", "recall", "accuracy", "hd95", "nsd")
"""The scores of one mask, in the order in which tables show them."""
LESS_IS_BETTER = ("hd95",)
REPORTED = ("dice", "hd95", "nsd")
"""The scores that experiments report."""

NO_REGIONS: Mapping[str, tuple[int, ...]] = MappingProxyType({})


@dataclass(frozen=True)
class Scores:
    """The scores of one mask: per class (foreground only), per region, and their mean.

    The mean is over the regions where there are any, else over the classes, but for
    ``mean["accuracy"]``, the share of pixels with the right label; ``per_class[c]["accuracy"]`` is
    that of class ``c`` against all others.  ``empty``: those of the averaged classes or regions of
    which the mask has no pixel.
    """

    mean: dict[str, float]
    per_class: dict[int, dict[str, float]]
    empty: int
    per_region: dict[str, dict[str, float]]


def score(
    mask: np.ndarray,
    truth: np.ndarray,
    labels: int = 2,
    spacing: Sequence[float] | None = None,
    field_of_view: np.ndarray | None = None,
    tolerance: float = TOLERANCE,
    regions: Mapping[str, tuple[int, ...]] = NO_REGIONS,
) -> Scores:
    """Score an integer mask against an integer truth of the same shape, any dimension.

    labels: how many there are, background 0 included.  spacing: size of a pixel per axis; None
    counts in pixels, as does then the tolerance of ``nsd``.  field_of_view: bool, same shape;
    pixels outside it do not exist for any score.  regions: labels of each region, by its name.
    ValueError when the shapes differ.
    """
    if mask.shape != truth.shape:
        raise ValueError(f"mask {mask.shape} and truth {truth.shape} differ in shape")
    inside = np.ones(truth.shape, bool) if field_of_view is None else field_of_view
    if inside.shape != truth.shape:
        raise ValueError(f"field of view {inside.shape} and truth {truth.shape} differ in shape")
    classes = {label: (label,) for label in range(1, labels)}
    scored = {  # a region of one class is scored once
        union: _score_union(
            np.isin(mask, union) & inside,
            np.isin(truth, union) & inside,
            inside,
            spacing,
            tolerance,
        )
        for union in {*classes.values(), *regions.values()}
    }
    averaged = [scored[union] for union in (regions or classes).values()]
    mean = {name: float(np.mean([scores[name] for scores in averaged])) for name in METRICS}
    mean["accuracy"] = _share(mask == truth, inside)
    return Scores(
        mean,
        {label: scored[union] for label, union in classes.items()},
        empty(mask, labels, inside, regions),
        {name: scored[union] for name, union in regions.items()},
    )


def empty(
    mask: np.ndarray,
    labels: int = 2,
    field_of_view: np.ndarray | None = None,
    regions: Mapping[str, tuple[int, ...]] = NO_REGIONS,
) -> int:
    """How many of the classes ``1..labels-1``, or of the regions where there are any, have no
    pixel (within the field of view)."""
    seen = mask if field_of_view is None else mask[field_of_view]
    unions = regions.values() if regions else ((label,) for label in range(1, labels))
    return sum(not np.isin(seen, union).any() for union in unions)


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union (Jaccard index) of two bool arrays, 0..1."""
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else 1.0


def recall(mask: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true pixels that a bool mask holds (sensitivity), 0..1."""
    total = int(truth.sum())
    return int((mask & truth).sum()) / total if total else 1.0


def _share(flags: np.ndarray, inside: np.ndarray) -> float:
    return float(flags[inside].mean()) if inside.any() else 1.0


def _score_union(
    mask: np.ndarray,
    truth: np.ndarray,
    inside: np.ndarray,
    spacing: Sequence[float] | None,
    tolerance: float,
) -> dict[str, float]:
    there = mask.any() and truth.any()
    distances = surface_distances(mask, truth, spacing) if there else None
    return {
        "dice": dice(mask, truth),
        "iou": iou(mask, truth),
        "recall": recall(mask, truth),
        "accuracy": _share(mask == truth, inside),
        "hd95": hd95(mask, truth, spacing, distances),
        "nsd": nsd(mask, truth, tolerance, spacing, distances),
    }


class Interval(NamedTuple):
    """A mean with its 95 % interval; ``low`` and ``high`` are NaN for a single image."""

    mean: float
    low: float
    high: float


def paired_bootstrap(difference: ArrayLike, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Percentile bootstrap of the mean of paired differences.

    difference: ``[N]``, one value per image (one method minus the other on the same image); the
    images are drawn with replacement, so the interval is about other images of this kind.  The
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
