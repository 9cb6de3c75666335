"""A brush that paints only pixels whose grey values are like those under its centre."""

import numpy as np
from scipy import ndimage

SHARE = 0.3
"""Difference that is still alike, as a share of the contrast round the brush."""
NOISE = 3.0
"""Standard deviations of the noise that are always alike: an even ground is painted whole."""
SMOOTH = 3
"""Pixels along a side over which grey values are averaged before they are compared."""
AROUND = 2
"""The contrast is that within so many radii of the brush."""
LEAST = 3
"""Pixels round the centre that are always looked at."""


def noise_of(image: np.ndarray) -> np.ndarray:
    """The standard deviation of the noise of an image [H, W, C], float64 [C]: from the median
    difference of neighbours in a row, which edges hardly move."""
    steps = np.abs(np.diff(image.astype(np.float64), axis=1))
    return np.asarray(np.median(steps, axis=(0, 1)) / 0.6745 / np.sqrt(2))


def reach(radius: float) -> int:
    """How far round the centre of a brush of a radius :func:`similar` looks, in pixels."""
    return max(LEAST, int(np.ceil(AROUND * radius)))


def similar(
    window: np.ndarray, centre: tuple[int, int], noise: np.ndarray, share: float = SHARE
) -> np.ndarray:
    """Which pixels of a window are like its centre; bool [h, w].

    window : [h, w, C], the surroundings of the brush (:func:`reach`). centre : (row, column) in it.
    noise : [C], of the whole image. share : 0..1, of the contrast in the window, the distance of
    its 5th and 95th percentile. All channels must be alike; what counts is relative to the
    contrast, so that CT, MR and photographs need no other setting.
    """
    values = ndimage.uniform_filter(window.astype(np.float64), (SMOOTH, SMOOTH, 1), mode="nearest")
    low, high = np.percentile(values, [5, 95], axis=(0, 1))
    alike = np.maximum(share * (high - low), NOISE / SMOOTH * noise)
    return np.asarray((np.abs(values - values[centre]) <= alike).all(axis=-1))
