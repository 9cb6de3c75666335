"""What a refiner is trained on: clean masks as channels, and noisy masks with their times."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hidiff.diffusion.process import Process
from napari_hidiff.diffusion.samplers import harden, stamp
from napari_hidiff.probability import EPSILON
from napari_hidiff.training.noise import uniform


class Noisy(NamedTuple):
    """A draw of the forward process: states y_t [B, K, H, W] at times t int64 [B]."""

    y_t: Tensor
    t: Tensor


def one_hot(truth: Tensor, classes: int) -> Tensor:
    """int64 [B, H, W] -> float32 [B, K, H, W]; K = 1 keeps the one foreground class."""
    if classes == 1:
        return truth[:, None].float()
    return F.one_hot(truth, classes).movedim(-1, 1).float()


def to_device(
    batch: dict[str, Tensor], device: torch.device, real: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """A batch on the device, images with channels last in memory, as convolutions like them."""
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    moved |= {name: value.to(real) for name, value in moved.items() if value.is_floating_point()}
    moved["image"] = moved["image"].contiguous(memory_format=torch.channels_last)
    return moved


def draw(
    process: Process,
    y0: Tensor,
    prior: Tensor,
    fixed: Tensor,
    one_step: float,
    numbers: Tensor,
    stream: int,
) -> Noisy:
    """Times uniform in 1..T with y_t ~ q(y_t | y_0, f).

    A share ``one_step`` of the samples is at T and starts, as the one-step sampler does, from
    [f >= .5]. Fixed pixels (int64 [B, H, W], -1 = free) are without noise in both. ``numbers``
    int64 [B] and ``stream`` decide the noise of each sample (:func:`noise.uniform`).
    """
    chance = uniform(numbers, 2 * stream, (2,))
    start = chance[:, 0] < one_step
    t = 1 + (chance[:, 1] * process.steps).long()
    t = torch.where(start, process.steps, t)
    noise = uniform(numbers, 2 * stream + 1, y0.shape[1:])
    drawn = process.noisy(y0, prior.clamp(EPSILON, 1 - EPSILON), t, noise)
    y_t = torch.where(start[:, None, None, None], harden(prior), drawn.to(y0.dtype))
    return Noisy(stamp(y_t, fixed), t)


def walked(
    process: Process,
    answer: Callable[[Tensor, Tensor], Tensor],
    noisy: Noisy,
    prior: Tensor,
    fixed: Tensor,
    share: float,
    numbers: Tensor,
    stream: int,
) -> Noisy:
    """A share of the draws below T replaced by states of the network's own trajectory.

    ``answer(y_T, fixed)`` is y0_hat [B, K, H, W] at T; a DDIM step leads from y_T to the
    time that was drawn, so that training sees masks made of guesses, as sampling does. ``numbers``
    int64 [B] and the two streams from ``stream`` on decide the noise. Without gradient.
    """
    chosen = uniform(numbers, 2 * stream, (1,))[:, 0] < share
    chosen &= noisy.t < process.steps
    if not chosen.any():
        return noisy
    shape = noisy.y_t.shape[1:]
    first, second = (uniform(numbers, n, shape) for n in (2 * stream + 1, 2 * stream + 2))
    y = process.start(prior.clamp(EPSILON, 1 - EPSILON), first).to(prior.dtype)
    y = stamp(y, fixed)
    with torch.no_grad():
        y0_hat = stamp(answer(y, fixed), fixed)
    end = torch.full_like(noisy.t, process.steps)
    y_t = stamp(process.ddim(y0_hat, y, end, noisy.t, second).to(prior.dtype), fixed)
    return Noisy(torch.where(chosen[:, None, None, None], y_t, noisy.y_t), noisy.t)
