"""Pictures of bright discs on a dark, noisy ground: objects that any prompted model must find."""

from collections.abc import Sequence

import numpy as np

Disc = tuple[int, int, int]
"""Row and column of the centre, radius."""


def disc(size: tuple[int, int], at: Disc) -> np.ndarray:
    """A disc, bool [H, W]."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= at[2] ** 2


def picture(size: tuple[int, int], discs: Sequence[Disc], seed: int = 0) -> np.ndarray:
    """Grey, uint8 [H, W]."""
    rng = np.random.default_rng(seed)
    image = 60 + 6 * rng.standard_normal(size)
    for at in discs:
        image[disc(size, at)] += 110
    return image.clip(0, 255).astype(np.uint8)


def stroke(size: tuple[int, int], at: Disc) -> np.ndarray:
    """A fixed map int8 [H, W] with a stroke over the middle of a disc."""
    fixed = np.full(size, -1, np.int8)
    fixed[disc(size, (at[0], at[1], max(1, at[2] // 3)))] = 1
    return fixed
