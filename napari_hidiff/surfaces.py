"""How far the surfaces of two masks lie apart, in any dimension: HD95 and NSD."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

TOLERANCE = 1.0
"""Distance, in units of the spacing, at which a surface still counts as met."""
ROUNDING = 1e-9
"""A distance of exactly the tolerance counts, also where rounding puts it just above."""

Distances = tuple[np.ndarray, np.ndarray]


def hd95(
    mask: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float] | None = None,
    distances: Distances | None = None,
) -> float:
    """95th percentile of the Hausdorff distance of two bool arrays, in units of the spacing.

    The larger of the two directed 95th percentiles (linear interpolation) of the distance from
    every surface pixel of one mask to the surface of the other.  Both empty: 0.  One empty: the
    diagonal of the array, the largest distance there can be.  ``distances``: what
    :func:`surface_distances` gives for the two, where that is known already.
    """
    if not mask.any() and not truth.any():
        return 0.0
    if not mask.any() or not truth.any():
        steps = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, float)
        return float(np.linalg.norm(np.array(mask.shape) * steps))
    there, back = distances or surface_distances(mask, truth, spacing)
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


def nsd(
    mask: np.ndarray,
    truth: np.ndarray,
    tolerance: float = TOLERANCE,
    spacing: Sequence[float] | None = None,
    distances: Distances | None = None,
) -> float:
    """Normalised surface Dice of two bool arrays, 0..1 (Nikolov et al. 2021, arXiv 1809.04430).

    The share of the surface pixels of both masks that lie within ``tolerance`` (in units of the
    spacing) of the other's surface.  Every surface pixel counts as one.  Both empty: 1.  One
    empty: 0.  ``distances`` as for :func:`hd95`.
    """
    if not mask.any() and not truth.any():
        return 1.0
    if not mask.any() or not truth.any():
        return 0.0
    both = np.concatenate(distances or surface_distances(mask, truth, spacing))
    return float((both <= tolerance + ROUNDING).mean())


def surface_distances(
    mask: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None
) -> Distances:
    """Distances from each surface pixel of ``mask`` to the surface of ``truth``, and back.

    Two 1-D float arrays in units of the spacing; both masks must hold a pixel.  A surface pixel
    belongs to the mask and has a face neighbour outside it or outside the array.
    """
    # Nothing outside this box is a surface of either.
    box = ndimage.find_objects((mask | truth).astype(np.uint8))[0]
    of_mask, of_truth = _surface(mask[box]), _surface(truth[box])
    to_truth = ndimage.distance_transform_edt(~of_truth, sampling=spacing)
    to_mask = ndimage.distance_transform_edt(~of_mask, sampling=spacing)
    return to_truth[of_mask], to_mask[of_truth]


def _surface(mask: np.ndarray) -> np.ndarray:
    return np.asarray(mask & ~ndimage.binary_erosion(mask))
