"""A fixed corruption of priors: does refinement repair them?

The truth is not used: discs (holes) and bands (cuts) are erased where the prior itself has
foreground, and the prior is thickened within a few discs (dilation). All sizes follow the shorter
side of the image. This is the corruption of the evaluation alone; training has its own
(:mod:`napari_hidiff.training.priors`).
"""

import numpy as np
from scipy import ndimage

HOLES = 8
CUTS = 8
THICK = 3
BACKGROUND = 0.02
"""Probability of a foreground class where something was erased."""


def damage(prior: np.ndarray, seed: int = 0) -> np.ndarray:
    """Damage a prior: float32 ``[K, H, W]`` probabilities in, the same out; the input stays.

    K = 1 is the probability of the foreground, K > 1 a distribution with background as channel 0.
    The same seed gives the same damage; a prior without any foreground is damaged at random places.
    """
    if prior.ndim != 3:
        raise ValueError(f"a prior is [K, H, W], got an array of shape {prior.shape}")
    rng = np.random.default_rng(seed)
    foreground = _foreground(prior)
    side = min(foreground.shape)
    thick = np.zeros(foreground.shape, bool)
    for _ in range(THICK):
        thick |= _disc(foreground.shape, _place(foreground, rng), side / 12)
    erased = np.zeros(foreground.shape, bool)
    for _ in range(HOLES):
        erased |= _disc(
            foreground.shape, _place(foreground, rng), rng.uniform(side / 48, side / 20)
        )
    for _ in range(CUTS):
        erased |= _band(foreground.shape, _place(foreground, rng), rng.uniform(0, np.pi), side)
    damaged = _thicken(prior, thick, max(1, round(side / 240)))
    if prior.shape[0] == 1:
        damaged[:, erased] = np.minimum(prior[:, erased], BACKGROUND)
    else:
        damaged[:, erased] = BACKGROUND / (prior.shape[0] - 1)
        damaged[0, erased] = 1 - BACKGROUND
    return damaged.astype(np.float32)


def _foreground(prior: np.ndarray) -> np.ndarray:
    return np.asarray(prior[0] >= 0.5 if prior.shape[0] == 1 else prior.argmax(axis=0) > 0)


def _place(foreground: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """A random pixel of the foreground, or of the image where there is none."""
    pixels = np.flatnonzero(foreground if foreground.any() else ~foreground)
    row, column = np.unravel_index(rng.choice(pixels), foreground.shape)
    return int(row), int(column)


def _offsets(shape: tuple[int, ...], centre: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return rows - centre[0], columns - centre[1]


def _disc(shape: tuple[int, ...], centre: tuple[int, int], radius: float) -> np.ndarray:
    down, right = _offsets(shape, centre)
    return np.asarray(down**2 + right**2 <= max(radius, 1.0) ** 2)


def _band(shape: tuple[int, ...], centre: tuple[int, int], angle: float, side: int) -> np.ndarray:
    """A straight band, a quarter of the shorter side long and a sixtieth (one pixel) wide."""
    down, right = _offsets(shape, centre)
    along = np.abs(np.cos(angle) * right + np.sin(angle) * down)
    across = np.abs(np.cos(angle) * down - np.sin(angle) * right)
    return np.asarray((along <= side / 8) & (across <= max(side / 120, 0.5)))


def _thicken(prior: np.ndarray, where: np.ndarray, radius: int) -> np.ndarray:
    """Grow the foreground by ``radius`` pixels within ``where``; channels keep their sum of 1."""
    down, right = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    footprint = (down**2 + right**2 <= radius**2)[None]
    first = 0 if prior.shape[0] == 1 else 1
    grown = prior.copy()
    grown[first:] = np.where(
        where, ndimage.maximum_filter(prior[first:], footprint=footprint), prior[first:]
    )
    if first:
        share = np.maximum(grown[1:].sum(axis=0), 1.0)
        grown[1:] /= share
        grown[0] = np.maximum(1 - grown[1:].sum(axis=0), 0)  # never below 0 by rounding
    return grown
