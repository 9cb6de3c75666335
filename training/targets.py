"""What a refiner is trained on: clean masks as channels, and noisy masks with their times."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hidiff.bernoulli import BernoulliDiffusion, bernoulli
from napari_hidiff.refine import EPSILON, harden, stamp


class Noisy(NamedTuple):
    """A draw of the forward process: y_t [B, K, H, W] in {0, 1} at times t int64 [B]."""

    y_t: Tensor
    t: Tensor


def one_hot(truth: Tensor, classes: int) -> Tensor:
    """int64 [B, H, W] -> float32 [B, K, H, W]; K = 1 keeps the one foreground class."""
    if classes == 1:
        return truth[:, None].float()
    return F.one_hot(truth, classes).movedim(-1, 1).float()


def draw(
    process: BernoulliDiffusion,
    y0: Tensor,
    prior: Tensor,
    fixed: Tensor,
    one_step: float,
    generator: torch.Generator,
) -> Noisy:
    """Times uniform in 1..T with y_t ~ q(y_t | y_0, f), equation (6).

    A share ``one_step`` of the batch is at T and starts, as the one-step sampler does, from
    [f >= .5]. Fixed pixels (int64 [B, H, W], -1 = free) are without noise in both.
    """
    batch = y0.shape[0]
    start = torch.rand(batch, generator=generator) < one_step
    t = torch.randint(1, process.steps + 1, (batch,), generator=generator)
    t = torch.where(start, process.steps, t).to(y0.device)
    mean = process.forward_mean(y0, prior.clamp(EPSILON, 1 - EPSILON), t)
    drawn = bernoulli(mean, generator).to(y0.dtype)
    y_t = torch.where(start.to(y0.device)[:, None, None, None], harden(prior), drawn)
    return Noisy(stamp(y_t, fixed), t)
