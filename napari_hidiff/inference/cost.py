"""What a refinement takes, foreseen: seconds and bytes."""

from typing import NamedTuple

from napari_hidiff.inference import tiling
from napari_hidiff.inference.card import Card, Sampling
from napari_hidiff.inference.denoiser import PIXELS_AT_ONCE
from napari_hidiff.networks.refiner import Refiner
from napari_hidiff.networks.segmentor import margins


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
) -> Estimate:
    """The cost of a segmentation and a refinement of an image, halos of its tiles included.

    engine : ``packed`` or ``torch``. size : (H, W). seconds : of segmentor and refiner, per pixel.
    """
    height, width = size
    full = height * width
    if card.prompted:  # one window, whatever the size of the image
        factor = card.longest_side / max(height, width)
        height, width = (max(1, round(side * factor)) for side in (height, width))
    sides = [side + sum(margins(side)) for side in (height, width)]
    segmented, refined = (
        [tiling.pixels(tile.outer) for tile in tiling.cut(sides[0], sides[1], halo)]
        for halo in (tiling.SEGMENTOR_HALO, tiling.HALO)
    )
    samples = 1 if sampling.sampler == "one-step" else sampling.samples
    denoised_pixels = sum(refined) * sampling.passes * samples
    duration = seconds[0] * sum(segmented) + seconds[1] * denoised_pixels
    at_once = min(samples, max(1, PIXELS_AT_ONCE // max(refined)))
    denoised = REFINER_BYTES[engine][refiner.stem] * refiner.entry.out_channels // 32
    peak = max(SEGMENTOR_BYTES * max(segmented), denoised * max(refined) * at_once)
    kept = KEPT_BYTES * full if len(refined) > 1 or card.prompted else 0
    return Estimate(duration, peak + kept)
