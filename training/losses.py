"""The losses of the refiner, each a few lines on logits of y0, and the noisy masks it learns from.

The flips of the paper are derived: eps = y_t XOR y0, eps_hat = |y_t - y0_hat|. :func:`draw` makes
noisy masks with their times from clean ones; its noise (:func:`uniform`) belongs to the sample and
is the same on every device, process and batch size.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_hidiff.diffusion.bernoulli import POSTERIORS, BernoulliDiffusion
from napari_hidiff.diffusion.process import Process
from napari_hidiff.diffusion.samplers import clamp_fixed, to_mask
from napari_hidiff.masks import EPSILON
from napari_hidiff.networks.refiner import probabilities
from napari_hidiff.training.recipes import LOSSES

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def segmentation_loss(classes: int) -> nn.Module:
    """L_CE + L_Dice on logits [B, K, H, W] against one-hot (K > 1) or binary masks."""
    from monai.losses import DiceCELoss

    if classes == 1:
        return DiceCELoss(sigmoid=True, batch=True)
    return DiceCELoss(softmax=True, batch=True)


def bernoulli_kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(B(q) || B(p)) in nats, element by element; q may be 0 or 1, p is clamped into (0, 1)."""
    p = p.clamp(EPSILON, 1 - EPSILON)
    # xlogy(q, q) has an infinite slope at 0, and q has a gradient through the prior.
    low, high = q.clamp(min=EPSILON), (1 - q).clamp(min=EPSILON)
    entropy = torch.special.xlogy(q, low) + torch.special.xlogy(1 - q, high)
    out: Tensor = entropy - torch.special.xlogy(q, p) - torch.special.xlogy(1 - q, 1 - p)
    return out


def focal(eps_hat: Tensor, eps: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p)^gamma ln p with p the probability of the true eps; element by element."""
    p = torch.where(eps > 0.5, eps_hat, 1 - eps_hat).clamp(min=EPSILON)
    return -((1 - p) ** gamma) * p.log()


class RefinerLoss(nn.Module):
    """L_Diff, equation (13), in one of three modes.

    ``ce-dice``: cross entropy + soft Dice on y0. ``kl``: KL(posterior(y0) || reverse mean).
    ``kl-focal``: the same plus the focal loss of the flips (the paper, with ``plugin``).
    """

    def __init__(self, process: Process, classes: int, mode: str, posterior: str) -> None:
        super().__init__()
        if mode not in LOSSES:
            raise ValueError(f"loss must be one of {LOSSES}, not {mode!r}")
        if posterior not in POSTERIORS:
            raise ValueError(f"posterior must be one of {POSTERIORS}, not {posterior!r}")
        if mode != "ce-dice" and not isinstance(process, BernoulliDiffusion):
            raise ValueError(f"the loss {mode} is about flips, a Gaussian kernel has none: ce-dice")
        self.process, self.mode, self.posterior = process, mode, posterior
        self.segmentation = segmentation_loss(classes)

    def forward(self, logits: Tensor, y0: Tensor, y_t: Tensor, prior: Tensor, t: Tensor) -> Tensor:
        """A scalar from logits of y0, y0 and y_t in {0, 1}, the prior, all [B, K, H, W]; t [B]."""
        if self.mode == "ce-dice":
            out: Tensor = self.segmentation(logits, y0)
            return out
        assert isinstance(self.process, BernoulliDiffusion)
        y0_hat = probabilities(logits).clamp(EPSILON, 1 - EPSILON)
        prior = self.process.end(prior.clamp(EPSILON, 1 - EPSILON))
        truth = self.process.posterior_mean(y0, y_t, prior, t)
        mean = self.process.reverse_mean(y0_hat, y_t, prior, t, self.posterior)
        loss = bernoulli_kl(truth, mean).mean()
        if self.mode == "kl":
            return loss
        return loss + focal((y_t - y0_hat).abs(), (y_t - y0).abs()).mean()


class Noisy(NamedTuple):
    """A draw of the forward process: states y_t [B, K, H, W] at times t int64 [B]."""

    y_t: Tensor
    t: Tensor


def one_hot(truth: Tensor, classes: int) -> Tensor:
    """int64 [B, H, W] -> float32 [B, K, H, W]; K = 1 keeps the one foreground class."""
    if classes == 1:
        return truth[:, None].float()
    # F.one_hot looks at the values, for which a GPU would have to wait.
    labels = torch.arange(classes, device=truth.device)
    return (truth[..., None] == labels).movedim(-1, 1).float()


def to_device(
    batch: dict[str, Tensor], device: torch.device, real: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """A batch on the device; images are channels last in memory, which is fast to convolve."""
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
    int64 [B] and ``stream`` determine the noise of each sample (:func:`uniform`).
    """
    chance = uniform(numbers, 2 * stream, (2,))
    start = chance[:, 0] < one_step
    t = 1 + (chance[:, 1] * process.steps).long()
    t = t.masked_fill(start, process.steps)
    noise = uniform(numbers, 2 * stream + 1, y0.shape[1:])
    drawn = process.noisy(y0, prior.clamp(EPSILON, 1 - EPSILON), t, noise)
    y_t = torch.where(start[:, None, None, None], to_mask(prior), drawn.to(y0.dtype))
    return Noisy(clamp_fixed(y_t, fixed), t)


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
    drawn time, so that training sees states made from predictions, as sampling does. ``numbers``
    int64 [B] and the two streams from ``stream`` on determine the noise. Without gradient.
    """
    chosen = uniform(numbers, 2 * stream, (1,))[:, 0] < share
    chosen &= noisy.t < process.steps
    # A GPU would have to wait for what is chosen.
    if not share or (chosen.device.type == "cpu" and not chosen.any()):
        return noisy
    shape = noisy.y_t.shape[1:]
    first, second = (uniform(numbers, n, shape) for n in (2 * stream + 1, 2 * stream + 2))
    y = process.start(prior.clamp(EPSILON, 1 - EPSILON), first).to(prior.dtype)
    y = clamp_fixed(y, fixed)
    with torch.no_grad():
        y0_hat = clamp_fixed(answer(y, fixed), fixed)
    end = torch.full_like(noisy.t, process.steps)
    y_t = clamp_fixed(process.ddim(y0_hat, y, end, noisy.t, second).to(prior.dtype), fixed)
    return Noisy(torch.where(chosen[:, None, None, None], y_t, noisy.y_t), noisy.t)


def uniform(numbers: Tensor, stream: int | Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniform in [0, 1), float32 [B, *shape], a function of (number, stream, place) alone.

    numbers : int64 [B], a number per sample. The values are counters through the finalizer of
    SplitMix64 (Steele, Lea and Flood 2014), 24 bits each.
    """
    count = torch.Size(shape).numel()
    key = _mix(_mix(numbers * GOLDEN + stream) + GOLDEN)
    counter = torch.arange(count, device=numbers.device) * GOLDEN
    bits = _shift(_mix(key[:, None] + counter), 40)
    return (bits.to(torch.float32) * 2.0**-24).reshape(-1, *shape)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * FIRST
    x = (x ^ _shift(x, 27)) * SECOND
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Right shift of int64 that fills with zeros, as of an unsigned number."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
