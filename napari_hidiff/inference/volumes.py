"""A volume [D, H, W, C] through a model of slices: normalised once, then many slices at a time.

A slice comes out as it would alone (:meth:`HiDiff.prior`, :meth:`HiDiff.refine`) with the same
noise, up to float rounding, which can push single pixels over a threshold. Small slices together
are two to three times faster than one after another (``python -m benchmarks.volumes``). A picture
is a volume of one slice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.diffusion.samplers import clamp_fixed, stream
from napari_hidiff.engine.precision import full_precision
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Sampling
from napari_hidiff.inference.denoiser import PIXELS_AT_ONCE
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.preprocessing import check_labels, with_neighbours
from napari_hidiff.inference.prompted import says_where
from napari_hidiff.inference.resampling import View
from napari_hidiff.masks import FREE
from napari_hidiff.networks.refiner import probabilities
from napari_hidiff.networks.segmentor import MULTIPLE


def normalise(model: HiDiff, volume: np.ndarray) -> np.ndarray:
    """A volume float32 [D, H, W, C], normalised by its own statistics: the input of this module.

    For a model of several slices C is that of all of them (:attr:`Card.inputs`). A prompted model
    normalises the windows that it looks at: for it the volume is unchanged.
    InputError if the model cannot read the slices (their size, their channels, NaN).
    """
    for plane in volume:
        model.check_image(plane)
    if model.card.prompted:
        return volume
    measured = model.intensity.measure(volume, volume.shape[-1])
    normalised = np.empty(volume.shape, np.float32)
    for plane, scaled in zip(volume, normalised, strict=True):  # no second copy
        scaled[...] = model.intensity.scale(plane, measured)
    return with_neighbours(normalised, model.card.slices)


def prior(model: HiDiff, volume: np.ndarray, scale: float | None = None) -> np.ndarray:
    """The segmentor's probabilities float32 [K, D, H, W] of a *normalised* volume [D, H, W, C];
    0 of a model that needs a prompt.

    scale : of its slices, see :meth:`HiDiff.steps`.
    """
    if model.card.prompted:
        return np.stack([model.prior(plane) for plane in volume], 1)
    if (view := model.view((volume.shape[1], volume.shape[2]), scale)) is not None:
        return view.back(prior(model, np.stack([view.image(plane) for plane in volume]), 1))
    parts = []
    for here in chunks(len(volume), volume.shape[1:3]):
        planes = volume[here]
        if len(planes) == 1:  # a single slice uses the model's tile cache
            parts.append(model.prior(planes[0], True, 1)[:, None])
            continue
        with torch.inference_mode(), full_precision(model.device):
            segmented = probabilities(model.segmentor(_tensor(model, planes))[0])
        parts.append(segmented.float().cpu().numpy().swapaxes(0, 1))
    return np.concatenate(parts, 1)


def refine(
    model: HiDiff,
    volume: np.ndarray,
    prior: np.ndarray | None = None,
    on_slice: Callable[[int], None] = lambda index: None,
    sampling: Sampling | None = None,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """The mean probability float32 [K, D, H, W] of every refined slice of a *normalised* volume.

    prior : float32 [K, D, H, W], an integer mask [D, H, W], or None for the segmentor's.
    sampling : None = the card's default; every slice has the same seed.
    fixed : int [D, H, W], -1 = free, else the label of the voxel.
    ``on_slice(index)`` is called with the first slice of the next batch.

    InputError if prior, fixed or settings do not fit, before their slices are refined, and if no
    slice has a prompt for a prompted model.
    """
    if model.card.needs_prompt and not (
        says_where(prior) or (fixed is not None and (fixed == 1).any())
    ):
        raise InputError("no slice has a stroke inside the object, or a mask to start from")
    for what, given in (("prior", prior), ("fixed map", fixed)):
        if given is not None and given.shape[-3] != len(volume):
            raise InputError(f"the {what} has {given.shape[-3]} slices, the volume {len(volume)}")
    refined = []
    for here in chunks(len(volume), volume.shape[1:3]):
        on_slice(here.start)
        numbers = range(here.start, here.stop)
        starts = [None if prior is None else prior[..., at, :, :] for at in numbers]
        labels = [None if fixed is None else fixed[at] for at in numbers]
        part = together(model, volume[here], starts, labels, sampling)
        refined.append(part.probability)
    return np.concatenate(refined, 1)


class Together(NamedTuple):
    """Some slices: their priors and their refined probabilities, both float32 [K, B, H, W]."""

    prior: np.ndarray
    probability: np.ndarray


def together(
    model: HiDiff,
    planes: np.ndarray,
    priors: Sequence[np.ndarray | None],
    fixed: Sequence[np.ndarray | None],
    sampling: Sampling | None = None,
) -> Together:
    """Refine *normalised* slices [B, H, W, C] of one size as one batch.

    priors : per slice a prior as for :meth:`HiDiff.refine`, None = the segmentor's.
    fixed : per slice int [H, W], -1 = free, or None.
    sampling : None = the card's default.

    A prompted model leaves a slice without a stroke on the object and without a prior that holds
    one empty.
    InputError if an argument does not fit, before anything is computed.
    """
    if model.card.prompted:
        return _prompted(model, planes, priors, fixed, sampling)
    sampling = sampling or model.sampling()
    if (view := model.view((planes.shape[1], planes.shape[2]), sampling.scale)) is not None:
        return _resampled(model, view, planes, priors, fixed, sampling)
    if len(planes) == 1:  # a single slice uses the model's cache and tiles
        prior = model.prior(planes[0], True, 1) if priors[0] is None else priors[0]
        how = sampling.drawing
        alone = model.refine(planes[0], prior, fixed[0], **how, normalised=True, scale=1)
        return Together(_checked(model, prior)[:, None], alone.probability[:, None])
    size = (planes.shape[1], planes.shape[2])
    starts = [None if one is None else model.check_prior(one, size) for one in priors]
    maps = [np.full(size, -1) if one is None else one for one in fixed]
    labels = np.stack([check_labels(one, size, model.labels, "fixed map") for one in maps])
    with torch.inference_mode(), full_precision(model.device):
        image = _tensor(model, planes)
        logits, features = model.segmentor(image)
        start = probabilities(logits)
        for number, one in enumerate(starts):
            if one is not None:
                start[number] = torch.from_numpy(one).to(model.device)
        shown = start.float().cpu().numpy()
        kept = torch.from_numpy(labels).to(model.device)
        start = clamp_fixed(start, kept)
        refiner = model.backend.pick().refiner
        condition = refiner.condition(image, start, kept, features)

        def denoise(y_t: Tensor, t: int) -> Tensor:  # [B, S, K, H, W]: a sample of every slice
            parts = [probabilities(refiner(y, t, condition)) for y in y_t.unbind(1)]
            return torch.stack(parts, 1)

        # One more axis for the samples: a voxel is fixed in all of them.
        run = stream(model.process, denoise, start, kept[:, None], **sampling.drawing)
        *_, last = run
    return Together(shown.swapaxes(0, 1), last.probability.swapaxes(0, 1))


def _resampled(
    model: HiDiff,
    view: View,
    planes: np.ndarray,
    given: Sequence[np.ndarray | None],
    fixed: Sequence[np.ndarray | None],
    sampling: Sampling,
) -> Together:
    """:func:`together` of slices that the networks see through a view."""
    size = (planes.shape[1], planes.shape[2])
    seen = np.stack([view.image(plane) for plane in planes])
    own = view.back(prior(model, seen, 1)) if any(one is None for one in given) else None
    maps = [np.full(size, FREE) if one is None else one for one in fixed]
    maps = [check_labels(one, size, model.labels, "fixed map") for one in maps]
    shown, starts = [], []
    for number, one in enumerate(given):
        if one is None and own is not None:
            one = own[:, number]
        assert one is not None
        shown.append(model.check_prior(one, size))
        starts.append(view.prior(one, model.classes, model.card.soften))
    found = together(
        model, seen, starts, [view.fixed(one) for one in maps], replace(sampling, scale=1)
    )
    full = [
        view.full(one, fix) for one, fix in zip(found.probability.swapaxes(0, 1), maps, strict=True)
    ]
    return Together(np.stack(shown, 1), np.stack(full, 1))


def _prompted(
    model: HiDiff,
    planes: np.ndarray,
    given: Sequence[np.ndarray | None],
    fixed: Sequence[np.ndarray | None],
    sampling: Sampling | None,
) -> Together:
    """:func:`together` of a model that looks at a window of every slice."""
    how, size = asdict(sampling or model.sampling()), (planes.shape[1], planes.shape[2])
    priors, probabilities = np.zeros((2, 1, len(planes), *size), np.float32)
    for number, (plane, prior, kept) in enumerate(zip(planes, given, fixed, strict=True)):
        if prior is None and not model.card.needs_prompt:
            prior = model.prior(plane)
        if prior is not None:
            priors[:, number] = model.check_prior(prior, size)
        if says_where(prior) or (kept is not None and (kept == 1).any()):
            probabilities[:, number] = model.refine(plane, prior, kept, **how).probability
    return Together(priors, probabilities)


def _checked(model: HiDiff, prior: np.ndarray) -> np.ndarray:
    size = (prior.shape[-2], prior.shape[-1])
    return model.check_prior(prior, size)


def chunks(count: int, size: Sequence[int], pixels: int | None = None) -> Iterator[slice]:
    """Ranges of ``count`` slices of a size (H, W) that make one batch each, in order.

    pixels : of a batch; None = ``PIXELS_AT_ONCE``.
    """
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in size)
    together = max(1, (pixels or PIXELS_AT_ONCE) // (height * width))
    for first in range(0, count, together):
        yield slice(first, min(first + together, count))


def _tensor(model: HiDiff, planes: np.ndarray) -> Tensor:
    """float32 [B, C, H, W] on the model's device."""
    return torch.from_numpy(np.ascontiguousarray(planes.transpose(0, 3, 1, 2))).to(model.device)
