"""What a refinement takes, foreseen: seconds and bytes."""

import time
from typing import NamedTuple

import torch
from torch import nn

from napari_hidiff.engine.engine import Steps
from napari_hidiff.engine.precision import full_precision
from napari_hidiff.inference import tiling
from napari_hidiff.inference.card import Card, Sampling
from napari_hidiff.inference.denoiser import pixels_at_once
from napari_hidiff.inference.resampling import View
from napari_hidiff.networks.refiner import Refiner, probabilities
from napari_hidiff.networks.segmentor import margins

SIDE = 256
"""Side in pixels of the measured image."""


class Estimate(NamedTuple):
    """What a refinement will take: seconds on this device, bytes of memory at its peak."""

    seconds: float
    bytes: int


REFINER_BYTES = {"torch": {1: 1558, 2: 460}, "packed": {1: 627, 2: 235}}
"""Peak memory of one denoised pixel at width 32, by engine and the stem's stride, and"""
SEGMENTOR_BYTES = 425
"""of one segmented pixel (results/memory.json); the larger of both decides, one runs at a time."""
KEPT_BYTES = 120
"""Of a pixel of an image in tiles: what is known of it, and the arrays of its whole size."""


def estimate(
    card: Card,
    refiner: Refiner,
    engine: str,
    size: tuple[int, int],
    sampling: Sampling,
    seconds: tuple[float, float],
    seen: View | None = None,
) -> Estimate:
    """The cost of a segmentation and a refinement of an image, halos of its tiles included.

    engine : ``packed`` or ``torch``. size : (H, W). seconds : of segmentor and refiner, per pixel.
    seen : how the image is resampled, None = not at all.
    """
    height, width = size
    full = height * width
    if card.prompted:  # one window, whatever the size of the image
        factor = card.longest_side / max(height, width)
        height, width = (max(1, round(side * factor)) for side in (height, width))
    elif seen is not None:
        height, width = seen.size
    sides = [side + sum(margins(side)) for side in (height, width)]
    segmented, refined = (
        [tiling.pixels(tile.outer) for tile in tiling.cut(sides[0], sides[1], halo)]
        for halo in (tiling.SEGMENTOR_HALO, tiling.HALO)
    )
    samples = 1 if sampling.sampler == "one-step" else sampling.samples
    denoised_pixels = sum(refined) * sampling.passes * samples
    duration = seconds[0] * sum(segmented) + seconds[1] * denoised_pixels
    at_once = min(samples, max(1, pixels_at_once(refiner) // max(refined)))
    denoised = REFINER_BYTES[engine][refiner.stem] * refiner.entry.out_channels // 32
    peak = max(SEGMENTOR_BYTES * max(segmented), denoised * max(refined) * at_once)
    apart = len(refined) > 1 or card.prompted or seen is not None
    kept = KEPT_BYTES * full if apart else 0
    return Estimate(duration, peak + kept)


def seconds_per_pixel(
    segmentor: nn.Module, refiner: Steps, channels: int, t: int, device: torch.device
) -> tuple[float, float]:
    """Measured seconds per pixel of the segmentor and of one refiner forward, on a blank image.

    channels : of the image. t : the time of the forward.
    """
    image = torch.zeros(1, channels, SIDE, SIDE, device=device)
    free = torch.full((1, SIDE, SIDE), -1, device=device)
    with torch.inference_mode(), full_precision(device):
        for _ in range(2):  # the first round includes allocation and kernel choice
            start = time.perf_counter()
            logits, features = segmentor(image)
            prior = probabilities(logits)
            middle = time.perf_counter()
            condition = refiner.condition(image, prior, free, features)
            refiner(prior, t, condition).sum().item()
            end = time.perf_counter()
    return (middle - start) / SIDE**2, (end - middle) / SIDE**2
