"""Fill the slices between those that the user worked on: interpolated masks as priors, refined."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_hidiff.annotation.refinement import SliceResult, refine_slices, slices_along
from napari_hidiff.inference.card import Sampling
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import Index

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


def fill_slices(
    model: "HiDiff",
    stack: Stack,
    axis: int,
    known: Sequence[tuple[Index, np.ndarray]],
    fixed: Mapping[Index, np.ndarray],
    sampling: Sampling,
) -> Iterator[SliceResult]:
    """Refine every slice between two neighbouring known ones, from their interpolated mask.

    known : slices along ``axis`` in order, with their masks, integers [H, W]. fixed, sampling : as
    for :func:`refine_slices`, whose InputErrors are raised.
    """
    for (first, one), (last, other) in pairwise(known):
        where = slices_along(first, axis, first[axis] + 1, last[axis] - 1)
        if last[axis] - first[axis] > 1:
            priors = dict(zip(where, interpolated(one, other, len(where)), strict=True))
            yield from refine_slices(model, stack, where, priors, fixed, sampling)


def interpolated(first: np.ndarray, last: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """The masks uint8 [H, W] of ``count`` slices between two, at equal distances.

    first, last : integers [H, W], 0 = background.

    Of every label the signed distance to its border, positive inside, is interpolated (Raya and
    Udupa 1990, doi 10.1109/42.52980); a pixel gets the label with the largest one, if that is
    positive. A label that one of the slices lacks ends halfway.
    """
    depths = {
        int(label): _depths(first == label, last == label)
        for label in np.union1d(first, last)
        if label
    }
    for number in range(1, count + 1):
        share = number / (count + 1)
        mask, most = np.zeros(first.shape, np.uint8), np.zeros(first.shape)
        for label, (near, far) in depths.items():
            depth = (1 - share) * near + share * far
            mask[depth > most] = label
            most = np.maximum(most, depth)
        yield mask


def _depths(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The signed distances of two masks, bool [H, W], of which one may be empty: it is as far
    outside as the other one is deep."""
    near, far = _depth(first), _depth(last)
    if not first.any():
        near = np.full(first.shape, -far.max())
    elif not last.any():
        far = np.full(last.shape, -near.max())
    return near, far


def _depth(where: np.ndarray) -> np.ndarray:
    """The distance of every pixel's middle to the border of a mask, positive inside."""
    inside = ndimage.distance_transform_edt(where)
    outside = ndimage.distance_transform_edt(~where)
    return np.asarray(np.maximum(inside - 0.5, 0) - np.maximum(outside - 0.5, 0))
