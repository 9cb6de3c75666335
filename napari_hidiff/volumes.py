"""A volume [D, H, W, C] through a model of slices: normalised once, then many slices at a time.

A slice comes out as it would alone (:meth:`HiDiff.prior`, :meth:`HiDiff.refine`) with the same
noise, up to float rounding, which can push single pixels over a threshold. Small slices together
are two to three times faster than one after another (``python -m benchmarks.volumes``). A picture
is a volume of one slice.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.errors import InputError
from napari_hidiff.model import HiDiff
from napari_hidiff.network import probabilities
from napari_hidiff.network.segmentor import MULTIPLE
from napari_hidiff.refine import stream
from napari_hidiff.seen import PIXELS_AT_ONCE


def normalise(model: HiDiff, volume: np.ndarray) -> np.ndarray:
    """float32 [D, H, W, C] with the statistics of the whole volume, as the functions here want it.

    InputError when the model cannot read the slices (their size, their channels, NaN).
    """
    for plane in volume:
        model.check_image(plane)
    return model.intensity(volume)


def prior(model: HiDiff, volume: np.ndarray) -> np.ndarray:
    """The segmentor's probabilities float32 [K, D, H, W] of a *normalised* volume [D, H, W, C]."""
    parts = []
    for here in chunks(volume):
        planes = volume[here]
        if len(planes) == 1:  # the model remembers what its segmentor saw in one slice
            parts.append(model.prior(planes[0], normalised=True)[:, None])
            continue
        with torch.inference_mode():
            segmented = probabilities(model.segmentor(_tensor(model, planes))[0])
        parts.append(segmented.float().cpu().numpy().swapaxes(0, 1))
    return np.concatenate(parts, 1)


def refine(
    model: HiDiff,
    volume: np.ndarray,
    prior: np.ndarray | None = None,
    on_slice: Callable[[int], None] = lambda index: None,
    sampler: str | None = None,
    steps: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """The mean probability float32 [K, D, H, W] of every refined slice of a *normalised* volume.

    prior : float32 [K, D, H, W], an integer mask [D, H, W], or None for the segmentor's.
    sampler, steps, samples, seed : as for :meth:`HiDiff.refine`; every slice has the same seed.
    fixed : int [D, H, W], -1 = free, else the label that the voxel keeps; slices that lie near
        such a voxel are refined one by one.
    ``on_slice(index)`` is called with the first of the slices that are refined next.

    InputError when prior or settings do not fit, before their slices are refined.
    """
    if prior is not None and prior.shape[-3] != len(volume):
        raise InputError(f"the prior has {prior.shape[-3]} slices, the volume {len(volume)}")
    refined = []
    if fixed is not None and fixed.shape != volume.shape[:3]:
        raise InputError(f"the fixed map has shape {fixed.shape}, the volume {volume.shape[:3]}")
    for here in chunks(volume):
        on_slice(here.start)
        planes, start = volume[here], None if prior is None else prior[..., here, :, :]
        known = None if fixed is None or (fixed[here] < 0).all() else fixed[here]
        if len(planes) == 1 or known is not None:
            for i, plane in enumerate(planes):
                alone = None if start is None else start[..., i, :, :]
                kept = None if known is None else known[i]
                result = model.refine(plane, alone, kept, sampler, steps, samples, seed, True)
                refined.append(result.probability[:, None])
        else:
            settings = model._settings(sampler, steps, samples)
            refined.append(_together(model, planes, start, seed=seed, **settings))
    return np.concatenate(refined, 1)


def _together(
    model: HiDiff,
    planes: np.ndarray,
    prior: np.ndarray | None,
    sampler: str,
    steps: int,
    samples: int,
    seed: int,
) -> np.ndarray:
    """Several slices [B, H, W, C] as one batch; probabilities float32 [K, B, H, W]."""
    size = (planes.shape[1], planes.shape[2])
    given = None
    if prior is not None:
        slices = range(prior.shape[-3])
        given = np.stack([model._check_prior(prior[..., i, :, :], size) for i in slices])
    with torch.inference_mode():
        image = _tensor(model, planes)
        logits, features = model.segmentor(image)
        start = probabilities(logits)
        if given is not None:
            start = torch.from_numpy(given).to(model.device)
        free = torch.full(size, -1, device=model.device)
        refiner = model.runs.pick().refiner
        known = refiner.remember(image, features)
        condition = refiner.on(known, start, free.expand(len(planes), *size))

        def denoise(y_t: Tensor, t: int) -> Tensor:  # [B, S, K, H, W]: a sample of every slice
            parts = [probabilities(refiner(y, t, condition)) for y in y_t.unbind(1)]
            return torch.stack(parts, 1)

        taken = stream(model.process, denoise, start, free, sampler, steps, samples, seed)
        *_, last = taken
    return last.probability.swapaxes(0, 1)


def chunks(volume: np.ndarray) -> Iterator[slice]:
    """Runs of slices that are small enough to be computed together, in order."""
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in volume.shape[1:3])
    together = max(1, PIXELS_AT_ONCE // (height * width))
    for first in range(0, len(volume), together):
        yield slice(first, min(first + together, len(volume)))


def _tensor(model: HiDiff, planes: np.ndarray) -> Tensor:
    """float32 [B, C, H, W] on the model's device."""
    return torch.from_numpy(np.ascontiguousarray(planes.transpose(0, 3, 1, 2))).to(model.device)
