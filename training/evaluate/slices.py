"""Which slices of a volume stand for it where each has to be worked on by itself."""

import numpy as np


def foreground_slices(truth: np.ndarray, most: int) -> list[int]:
    """At most ``most`` numbers of slices of a truth [D, H, W] with foreground, evenly spaced: the
    middles of as many equal parts of them."""
    filled = np.flatnonzero(truth.any((1, 2)))
    count = min(most, len(filled))
    return [int(filled[int((i + 0.5) * len(filled) / count)]) for i in range(count)]
