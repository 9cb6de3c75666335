"""A few clearly different masks from the samples of one refinement, to choose from."""

from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from napari_hidiff.errors import InputError

DISTINCT = 0.02
"""Masks closer than this (1 - Dice) are one answer; an annotator would have to search for the
difference."""


class Alternative(NamedTuple):
    """One answer of a refinement.

    mask : uint8 [H, W]; probability : float32 [K, H, W], the mean of the samples that it stands
    for; share : how many of all samples these are, in (0, 1].
    """

    mask: np.ndarray
    probability: np.ndarray
    share: float


def alternatives(each: np.ndarray, count: int = 3) -> list[Alternative]:
    """At most ``count`` masks that stand for the samples, the most frequent first.

    each : float [S, K, H, W], the probability of every sample (``Step.each``).

    The samples' masks are clustered by 1 - Dice (average linkage). Clusters are merged as long as
    the masks of two are closer than ``DISTINCT``, so that samples which differ by noise alone give
    one alternative. Of equally frequent ones the one closer to the mean of all samples comes first.

    Raises
    ------
    InputError : no sample, another number of axes, or a count below 1.
    """
    if each.ndim != 4 or not len(each):
        raise InputError(f"alternatives need samples [S, K, H, W], not an array {each.shape}")
    if count < 1:
        raise InputError(f"the number of alternatives must be at least 1, not {count}")
    groups = _clusters(masks_of(each), max(2, each.shape[1]), count)
    groups, means = _merged(groups, each)
    overall = each.mean(0)
    apart = [float(np.square(mean - overall).mean()) for mean in means]
    order = sorted(range(len(groups)), key=lambda i: (-len(groups[i]), apart[i], groups[i][0]))
    return [
        Alternative(masks_of(means[i][None])[0], means[i], len(groups[i]) / len(each))
        for i in order
    ]


def masks_of(each: np.ndarray) -> np.ndarray:
    """uint8 [S, H, W] from float [S, K, H, W]; what :func:`napari_hidiff.refine.mask_of` does,
    without torch."""
    labels = each[:, 0] >= 0.5 if each.shape[1] == 1 else each.argmax(1)
    return labels.astype(np.uint8)


def distances(masks: np.ndarray, labels: int) -> np.ndarray:
    """1 - Dice of every two of the masks [S, H, W], float64 [S, S], mean over the classes.

    labels : how many label values there are, background included. Two empty sets are equal.
    """
    flat = masks.reshape(len(masks), -1)
    varied = (flat != flat[0]).any(0)  # the rest adds the same to every pair
    alike, flat = flat[0][~varied], flat[:, varied]
    total = np.zeros((len(masks), len(masks)))
    for label in range(1, labels):
        inside = (flat == label).astype(np.float64)
        common = int((alike == label).sum())
        shared = inside @ inside.T + common
        size = shared.diagonal()
        both = size[:, None] + size[None]
        total += np.where(both > 0, 1 - 2 * shared / np.maximum(both, 1), 0)
    return total / (labels - 1)


def _clusters(masks: np.ndarray, labels: int, count: int) -> list[np.ndarray]:
    """Indices of the samples in each of at most ``count`` clusters, ordered by their first."""
    if len(masks) == 1:
        return [np.array([0])]
    tree = linkage(squareform(distances(masks, labels), checks=False), "average")
    names = fcluster(tree, count, "maxclust")
    close = fcluster(tree, DISTINCT, "distance")
    if close.max() < names.max():
        names = close
    groups = [np.flatnonzero(names == name) for name in np.unique(names)]
    return sorted(groups, key=lambda group: int(group[0]))


def _merged(
    groups: list[np.ndarray], each: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Groups, and the mean probability of each, with the closest two merged until all differ."""
    while True:
        means = [each[group].mean(0, dtype=np.float32) for group in groups]
        apart = distances(masks_of(np.stack(means)), max(2, each.shape[1]))
        np.fill_diagonal(apart, np.inf)
        first, second = sorted(int(i) for i in np.unravel_index(apart.argmin(), apart.shape))
        if apart[first, second] >= DISTINCT:
            return groups, means
        groups[first] = np.sort(np.concatenate([groups[first], groups.pop(second)]))
