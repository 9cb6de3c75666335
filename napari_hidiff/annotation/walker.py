"""Completion of strokes without a model: the random walker of Grady (2006) in scikit-image."""

import numpy as np

from napari_hidiff.annotation.fixed import FREE
from napari_hidiff.errors import InputError

BETA = 130.0
"""How hard it is to cross an edge; scikit-image's default."""


def complete(image: np.ndarray, fixed: np.ndarray, beta: float = BETA) -> np.ndarray:
    """Give every free pixel the label whose strokes a random walker from there meets first.

    image : [H, W] or [H, W, C], any real dtype; scaled to 0..1 by its own range.
    fixed : integer [H, W], the label of every painted pixel (0 = background), -1 where free.
    beta : the weight between neighbours falls with beta times their squared difference.

    Returns the mask, uint8 [H, W]; painted pixels keep their label. The same input gives the
    same mask.

    Raises
    ------
    InputError : the shapes differ, fewer than two labels are painted, or the image holds NaN or
        infinite values.
    """
    from skimage.segmentation import random_walker

    if image.shape[:2] != fixed.shape:
        raise InputError(f"The strokes have shape {fixed.shape}, the image {image.shape[:2]}.")
    labels = np.unique(fixed[fixed != FREE])
    if labels.size < 2:
        raise InputError(
            "Paint at least one stroke inside the object and one on the background (label 0, or "
            "the eraser), then complete them."
        )
    pixels = np.asarray(image, np.float64)
    if not np.isfinite(pixels).all():
        raise InputError("The image holds NaN or infinite values.")
    low, high = float(pixels.min()), float(pixels.max())
    pixels = (pixels - low) / ((high - low) or 1.0)
    seeds = np.zeros(fixed.shape, np.int32)  # for scikit-image 0 means free
    for number, label in enumerate(labels, start=1):
        seeds[fixed == label] = number
    if np.any(seeds == 0):
        axis = -1 if pixels.ndim == 3 else None
        seeds = random_walker(pixels, seeds, beta, mode="cg_j", tol=1e-5, channel_axis=axis)
    return labels[np.asarray(seeds) - 1].astype(np.uint8)
