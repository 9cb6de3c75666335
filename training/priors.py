"""Priors as a refiner will meet them: with the errors of unseen images, and with corrections.

A segmentor has fitted its training images; priors taken from it there teach a refiner to do
nothing. Errors come from segmentors that never saw the image (out of fold), from damage added
here, and from masks drawn by hand or by other software; corrections from a simulated annotator.
"""

import numpy as np
from scipy import ndimage

Rng = np.random.Generator


def corrupt(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Add one to three kinds of error inside smooth random regions.

    prior : float32 [K, H, W] in [0, 1]; the same comes back.
    """
    kinds = rng.permutation(len(DAMAGE))[: rng.integers(1, 4)]
    for kind in kinds:
        region = _region(prior.shape[1:], rng)
        prior = prior + region * (DAMAGE[kind](prior, rng) - prior)
    return prior.clip(0, 1).astype(np.float32)


def _missed(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Structures are not found: the background takes nearly all."""
    rest = prior * rng.uniform(0.02, 0.3)
    if len(prior) > 1:
        rest[0] = 1 - rest[1:].sum(0)
    return rest


def _invented(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Structures of another place of the image appear here."""
    height, width = prior.shape[1:]
    moved = np.roll(prior, (rng.integers(height), rng.integers(width)), (1, 2))
    return np.maximum(prior, moved) if len(prior) == 1 else moved


def _thickened(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Borders lie too far outside."""
    size = int(rng.choice([3, 5, 7]))
    return _normalised(ndimage.maximum_filter(prior, (1, size, size)))


def _thinned(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Borders lie too far inside, thin parts vanish."""
    size = int(rng.choice([2, 3]))
    return _normalised(ndimage.minimum_filter(prior, (1, size, size)))


def _vague(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Blurred and less certain."""
    sigma = rng.uniform(1, 4)
    blurred = ndimage.gaussian_filter(prior, (0, sigma, sigma))
    uniform = 1 / max(2, len(prior))
    return uniform + rng.uniform(0.3, 0.9) * (blurred - uniform)


DAMAGE = (_missed, _missed, _invented, _thickened, _thinned, _vague)


def _normalised(prior: np.ndarray) -> np.ndarray:
    """Class probabilities that sum to 1 again (K > 1)."""
    return prior if len(prior) == 1 else prior / prior.sum(0).clip(1e-6)


def _region(shape: tuple[int, ...], rng: Rng) -> np.ndarray:
    """A smooth random region, 1 inside, 0 outside, that covers 5 to 40 % of the image."""
    coarse = rng.normal(size=tuple(max(2, side // 16) for side in shape))
    coarse = ndimage.gaussian_filter(coarse, rng.uniform(0.6, 2))
    zoom = [side / small for side, small in zip(shape, coarse.shape, strict=True)]
    field = ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode="nearest")
    return (field > np.quantile(field, 1 - rng.uniform(0.05, 0.4))).astype(np.float32)


def simulate_corrections(
    mask: np.ndarray, truth: np.ndarray, rng: Rng, most: int = 8
) -> np.ndarray:
    """Pixels that an annotator who sees ``mask`` would have fixed after a few strokes.

    mask, truth : int [H, W]. Returns int64 [H, W], -1 = free, else the true label. A stroke lies
    on a component of the errors, larger ones first, and is either a disc painted with the truth
    or a scribble along the error itself.
    """
    fixed = np.full(truth.shape, -1, dtype=np.int64)
    errors, count = ndimage.label(mask != truth, structure=np.ones((3, 3)))
    if not count:
        return fixed
    sizes = np.bincount(errors.ravel())[1:]
    strokes = min(count, int(rng.integers(1, most + 1)))
    chosen = rng.choice(count, strokes, replace=False, p=sizes / sizes.sum())
    rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
    for component in chosen + 1:
        ys, xs = np.nonzero(errors == component)
        at = rng.integers(len(ys))
        reach = rng.uniform(2, max(truth.shape) / 16)
        near = (rows - ys[at]) ** 2 + (columns - xs[at]) ** 2 <= reach**2
        scribble = rng.random() < 0.5
        stroke = near & (errors == component) if scribble else near
        fixed[stroke] = truth[stroke]
    return fixed
