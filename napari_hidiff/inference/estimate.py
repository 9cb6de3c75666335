"""What a refinement will take, in seconds and bytes, before it is begun."""

import time
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_hidiff.inference import tiling
from napari_hidiff.inference.denoiser import PIXELS_AT_ONCE
from napari_hidiff.networks import probabilities
from napari_hidiff.networks.segmentor import margins

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

REFINER_BYTES = {"torch": {1: 1558, 2: 460}, "packed": {1: 627, 2: 235}}
"""Peak memory of one denoised pixel at width 32, by engine and the stem's stride, and"""
SEGMENTOR_BYTES = 425
"""of one segmented pixel (results/memory.json); the larger of both decides, one runs at a time."""
KEPT_BYTES = 120
"""Of a pixel of an image in tiles: what is known of it, and the arrays of its whole size."""
SIDE = 256
"""Pixels of a side of the image that is measured."""


class Estimate(NamedTuple):
    """What a refinement will take: seconds on this device, bytes of memory at its peak."""

    seconds: float
    bytes: int


def seconds_per_pixel(model: "HiDiff") -> tuple[float, float]:
    """Measured seconds per pixel of the segmentor and of one refiner forward, on a blank image."""
    image = torch.zeros(1, len(model.card.channels), SIDE, SIDE, device=model.device)
    free = torch.full((1, SIDE, SIDE), -1, device=model.device)
    refiner = model.runs.pick().refiner
    with torch.inference_mode():
        for _ in range(2):  # the first round pays for allocation and kernel choice
            start = time.perf_counter()
            logits, features = model.segmentor(image)
            prior = probabilities(logits)
            middle = time.perf_counter()
            condition = refiner.condition(image, prior, free, features)
            refiner(prior, model.process.steps, condition).sum().item()
            end = time.perf_counter()
    return (middle - start) / SIDE**2, (end - middle) / SIDE**2


def estimate(
    model: "HiDiff",
    height: int,
    width: int,
    steps: int,
    samples: int,
    seconds: tuple[float, float],
) -> Estimate:
    """The cost of a segmentation and a refinement of an image, halos of its tiles included.

    seconds : of segmentor and refiner, per pixel.
    """
    sides = [side + sum(margins(side)) for side in (height, width)]
    segmented, refined = (
        [tiling.pixels(tile.outer) for tile in tiling.cut(sides[0], sides[1], halo)]
        for halo in (tiling.SEGMENTOR_HALO, tiling.HALO)
    )
    duration = seconds[0] * sum(segmented) + seconds[1] * sum(refined) * steps * samples
    at_once = min(samples, max(1, PIXELS_AT_ONCE // max(refined)))
    refiner = model.refiner
    denoised = REFINER_BYTES[model.engine][refiner.stem] * refiner.entry.out_channels // 32
    peak = max(SEGMENTOR_BYTES * max(segmented), denoised * max(refined) * at_once)
    return Estimate(duration, peak + (KEPT_BYTES * height * width if len(refined) > 1 else 0))
