"""What a refinement will take, in seconds and bytes, before it is begun."""

import time
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_hidiff.network import probabilities

if TYPE_CHECKING:
    from napari_hidiff.model import HiDiff

BYTES_PER_PIXEL = {"torch": {1: 1260, 2: 530}, "packed": {1: 1260, 2: 530}}
"""Peak memory of one denoised pixel at width 32, by the stem's stride (results/memory.json)."""
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
            condition = refiner.on(refiner.remember(image, features), prior, free)
            refiner(prior, model.process.steps, condition).sum().item()
            end = time.perf_counter()
    return (middle - start) / SIDE**2, (end - middle) / SIDE**2


def peak_bytes(engine: str, stem: int, width: int, pixels: int) -> int:
    """Memory of one forward of so many pixels."""
    return BYTES_PER_PIXEL[engine][stem] * width // 32 * pixels
