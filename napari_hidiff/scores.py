"""The one score that the program itself prints; a full evaluation is ``napari-hidiff-evaluate``."""

import numpy as np


def dice(mask: np.ndarray, truth: np.ndarray, label: int | None = None) -> float:
    """Dice coefficient ``2 |A & B| / (|A| + |B|)`` of two masks of one shape, in [0, 1].

    label: compare the pixels of this class; None compares everything that is not background (0).
    Two empty sets are equal: 1.0.  Raises ValueError if the shapes differ.
    """
    mask, truth = np.asarray(mask), np.asarray(truth)
    if mask.shape != truth.shape:
        raise ValueError(f"shapes differ: {mask.shape} and {truth.shape}")
    a, b = (mask != 0, truth != 0) if label is None else (mask == label, truth == label)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def mean_dice(mask: np.ndarray, truth: np.ndarray, labels: int) -> float:
    """Mean of :func:`dice` over the foreground classes ``1..labels-1``."""
    return float(np.mean([dice(mask, truth, label) for label in range(1, labels)]))
