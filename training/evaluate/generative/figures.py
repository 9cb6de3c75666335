"""Figures of several masks or maps of one image, and their means and differences over cases."""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import combinations
from operator import getitem
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata
from skimage.morphology import skeletonize

from napari_hidiff.annotation.constraints import EIGHT
from napari_hidiff.annotation.suggestions import Place, disc, distances

from ..metrics import iou, paired_bootstrap
from ..output import plain

Figures = dict[str, Any]
"""Plain data of one case: nested dictionaries of floats, lists of floats, and None for unknown."""
Interval = dict[str, float | None]
"""``mean``, ``low``, ``high`` and ``n``."""


def mean(trees: Sequence[Any]) -> Any:
    """The mean of equal nested dictionaries, lists and floats; None and NaN do not count."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: mean([tree[key] for tree in trees]) for key in first}
    if isinstance(first, list):
        return [mean(values) for values in zip(*trees, strict=True)]
    known = [value for value in trees if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


def differences(
    figures: Mapping[str, Figures], path: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> dict[str, Interval | None]:
    """``"a - b"`` -> mean, low, high and n of the paired difference over cases that have both.

    path : the keys that lead to the values by arm in the figures of a case. None where no case
    has both.
    """
    arms = [reduce(getitem, path, case) for case in figures.values()]
    result: dict[str, Interval | None] = {}
    for first, second in pairs:
        both = [own for own in arms if own[first] is not None and own[second] is not None]
        values = [own[first] - own[second] for own in both]
        interval = plain(paired_bootstrap(values)._asdict()) if values else None
        result[f"{first} - {second}"] = interval and {**interval, "n": len(values)}
    return result


def at_level(probability: np.ndarray, level: float) -> np.ndarray:
    """The mask uint8 [H, W] of a probability [K, H, W] at another level than a half, in 0..1.

    K = 1: foreground where probability >= level. K > 1: the argmax after the background is
    weighted with ``level`` and every other class with ``1 - level``, which is the same rule.
    """
    if len(probability) == 1:
        return np.asarray(probability[0] >= level, np.uint8)
    weights = np.full((len(probability), 1, 1), 1 - level)
    weights[0] = level
    return np.asarray((weights * probability).argmax(0), np.uint8)


def diversity(masks: np.ndarray, labels: int) -> float:
    """Mean of 1 - Dice over all pairs of different masks [S, H, W], and over classes; 0..1."""
    if len(masks) < 2:
        return 0.0
    return float(distances(masks, labels)[np.triu_indices(len(masks), 1)].mean())


def energy_distance(
    samples: Sequence[np.ndarray], observers: Sequence[np.ndarray], labels: int
) -> float:
    """Squared generalised energy distance of two sets of masks, with d = 1 - IoU (of classes).

    ``2 E d(sample, observer) - E d(sample, sample') - E d(observer, observer')``, where each
    expectation is the mean over all ordered pairs, a mask with itself among them: 0 when both sets
    are alike, never below.
    """
    across = np.mean([overlap_distance(a, b, labels) for a in samples for b in observers])
    return float(2 * across - _within(samples, labels) - _within(observers, labels))


def overlap_distance(first: np.ndarray, second: np.ndarray, labels: int) -> float:
    """1 - IoU of two masks, mean over the foreground classes; two empty classes are equal."""
    return float(np.mean([1 - iou(first == c, second == c) for c in range(1, labels)]))


def _within(masks: Sequence[np.ndarray], labels: int) -> float:
    pairs = [overlap_distance(a, b, labels) for a, b in combinations(masks, 2)]
    return 2 * float(np.sum(pairs)) / len(masks) ** 2


def centreline_dice(mask: np.ndarray, truth: np.ndarray, labels: int = 2) -> float:
    """clDice of two masks [H, W], mean over the foreground classes, 0..1.

    ``2 P R / (P + R)`` with P the share of the mask's skeleton that lies in the truth, R the share
    of the truth's skeleton that lies in the mask; two empty classes give 1, one empty class 0.
    """
    return float(np.mean([_centreline(mask == c, truth == c) for c in range(1, labels)]))


def _centreline(mask: np.ndarray, truth: np.ndarray) -> float:
    if not mask.any() or not truth.any():
        return float(mask.any() == truth.any())
    thin, thin_truth = skeletonize(mask), skeletonize(truth)
    precision, recall = truth[thin].mean(), mask[thin_truth].mean()
    both = precision + recall
    return float(2 * precision * recall / both) if both else 0.0


def component_error(mask: np.ndarray, truth: np.ndarray, labels: int = 2) -> float:
    """|components of the mask - components of the truth|, 8-connected, mean over classes."""
    counts = [[ndimage.label(m == c, EIGHT)[1] for m in (mask, truth)] for c in range(1, labels)]
    return float(np.mean([abs(mine - true) for mine, true in counts]))


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive has a higher score than a negative, ties counted half.

    score : float [N]; positive : bool [N]. NaN where there is no positive or no negative.
    """
    count = int(positive.sum())
    others = positive.size - count
    if not count or not others:
        return float("nan")
    ranks = rankdata(score)[positive].sum()
    return float((ranks - count * (count + 1) / 2) / (count * others))


def errors_found(errors: np.ndarray, places: Sequence[Place], visits: int) -> list[float]:
    """The share of the error pixels, bool [H, W] with at least one, within the discs of the first
    1, 2, ... ``visits`` places; where there are fewer places the last share is repeated."""
    seen = np.zeros(errors.shape, bool)
    shares = []
    for visit in range(visits):
        if visit < len(places):
            seen |= disc(errors.shape, places[visit].row, places[visit].column)
        shares.append(float(seen[errors].mean()))
    return shares
