"""Where an annotator should look next: the most uncertain places of a mask."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from napari_hidiff.errors import InputError

LEAST = 1e-3
"""Nats; a place with less uncertainty than this is not worth a look."""


class Place(NamedTuple):
    """A pixel to look at, and the uncertainty around it in the unit of the map."""

    row: int
    column: int
    uncertainty: float


def radius(shape: tuple[int, ...]) -> float:
    """Pixels around a place that one look takes in, for an image [H, W]."""
    return min(shape[:2]) / 16


def uncertain_places(
    uncertainty: np.ndarray, count: int = 20, fixed: np.ndarray | None = None
) -> list[Place]:
    """At most ``count`` places, the most uncertain first, no two within :func:`radius`.

    uncertainty : float [H, W], 0 = certain (entropy in nats, say). It is averaged with a Gaussian,
        so that an uncertain region comes before a single pixel.
    fixed : int [H, W], -1 = free; a fixed pixel is certain and never a place.

    Fewer places come back where less than ``LEAST`` is left.

    Raises
    ------
    InputError : not an image [H, W] of finite values, or a fixed map of another shape.
    """
    if uncertainty.ndim != 2 or not np.isfinite(uncertainty).all():
        raise InputError(f"wanted finite uncertainty [H, W], got an array {uncertainty.shape}")
    free = np.ones(uncertainty.shape, bool) if fixed is None else fixed < 0
    if free.shape != uncertainty.shape:
        raise InputError(f"the fixed map has shape {free.shape}, not {uncertainty.shape}")
    sigma = max(1.0, min(uncertainty.shape) / 64)
    left = ndimage.gaussian_filter(np.where(free, uncertainty, 0).astype(np.float64), sigma)
    left[~free] = 0
    places: list[Place] = []
    while left.size and len(places) < count:
        row, column = (int(at) for at in np.unravel_index(left.argmax(), left.shape))
        if left[row, column] < LEAST:
            break
        places.append(Place(row, column, float(left[row, column])))
        left[disc(left.shape, row, column)] = 0
    return places


def disc(shape: tuple[int, ...], row: int, column: int) -> np.ndarray:
    """bool [H, W], the pixels within :func:`radius` of a pixel."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius(shape) ** 2)
