"""A volume [D, H, W, C] through a model of slices: normalised once, then slice by slice."""

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_hidiff.model import HiDiff


def normalise(model: HiDiff, volume: np.ndarray) -> np.ndarray:
    """float32 [D, H, W, C] with the statistics of the whole volume, for ``normalised=True``."""
    return model.intensity(volume)


def prior(model: HiDiff, volume: np.ndarray) -> np.ndarray:
    """The segmentor's probabilities float32 [K, D, H, W] of a *normalised* volume [D, H, W, C]."""
    return np.stack([model.prior(plane, normalised=True) for plane in volume], 1)


def refine(
    model: HiDiff,
    volume: np.ndarray,
    prior: np.ndarray | None = None,
    on_slice: Callable[[int], None] = lambda index: None,
    **settings: Any,
) -> np.ndarray:
    """The mean probability float32 [K, D, H, W] of every refined slice of a *normalised* volume.

    prior : float32 [K, D, H, W], an integer mask [D, H, W], or None for the segmentor's.
    settings : sampler, steps, samples, seed, as for :meth:`HiDiff.refine`; every slice has the
    same seed. ``on_slice(index)`` is called before each slice.
    """
    refined = []
    for index, plane in enumerate(volume):
        on_slice(index)
        start = None if prior is None else prior[..., index, :, :]
        result = model.refine(plane, prior=start, normalised=True, **settings)
        refined.append(result.probability)
    return np.stack(refined, 1)
