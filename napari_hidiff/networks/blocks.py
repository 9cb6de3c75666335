"""The block that the refiner is made of: convolution, normalisation, shortcut, activation."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.networks.binary import BinaryConv2d, Convolution

TIME_FREQUENCIES = 16


class TimeEmbedding(nn.Module):
    """A time t in 1..T as a vector [B or 1, width]; narrow, because every layer reads it.

    At T = 10 all time layers are a table of ten rows, so a wide embedding buys nothing.
    """

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.steps, self.width = steps, width
        self.mlp = nn.Sequential(
            nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, t: Tensor | int) -> Tensor:
        like = next(self.parameters())
        # Nothing is copied from the CPU here, which would make a GPU wait for all its work.
        at = t.to(like) if isinstance(t, Tensor) else like.new_full((1,), t)
        time = at.reshape(-1, 1) / self.steps
        count = torch.arange(1, TIME_FREQUENCIES + 1, device=like.device).to(time)
        frequencies = count * (math.pi / 2)
        return self.mlp(
            torch.cat([torch.sin(time * frequencies), torch.cos(time * frequencies)], 1)
        )


class TimeActivation(nn.Module):
    """TA, RPReLU with shifts of time: PReLU(u - gamma_i(t); beta_i) + zeta_i(t) per channel."""

    def __init__(self, channels: int, time_width: int) -> None:
        super().__init__()
        self.shifts = nn.Linear(time_width, 2 * channels)
        nn.init.zeros_(self.shifts.weight)
        nn.init.zeros_(self.shifts.bias)
        self.slope = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, u: Tensor, time: Tensor) -> Tensor:
        gamma, zeta = self.shifts(time)[:, :, None, None].chunk(2, 1)
        return F.prelu(u - gamma, self.slope.to(u.dtype)) + zeta


class Folded(NamedTuple):
    """What surrounds a binary convolution in evaluation, per channel: [C] or, of time, [B, C].

    PReLU(sums * scale + shift + shortcut; slope) + zeta, rounded after every operation.
    """

    scale: Tensor
    shift: Tensor
    slope: Tensor
    zeta: Tensor


def fold(
    convolution: BinaryConv2d, norm: nn.BatchNorm2d, activation: TimeActivation | None, time: Tensor
) -> Folded:
    """The scale of the weights, BN and the first shift of TA in one product and one sum.

    Without an activation the slope is 1 and zeta 0. Every engine takes its numbers from here.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * gain
    if activation is None:
        return Folded(
            gain * convolution.scale, shift, torch.ones_like(shift), torch.zeros_like(shift)
        )
    gamma, zeta = activation.shifts(time).chunk(2, 1)
    return Folded(gain * convolution.scale, shift - gamma, activation.slope, zeta)


def normalise(convolution: nn.Module, norm: nn.Module, x: Tensor, time: Tensor) -> Tensor:
    """BN(convolution(x, t))."""
    if norm.training or not isinstance(convolution, BinaryConv2d):
        return norm(convolution(x, time))
    assert isinstance(norm, nn.BatchNorm2d)
    folded = fold(convolution, norm, None, time)
    return affine(convolution.sums(x, time), folded)


def update(
    convolution: nn.Module,
    norm: nn.Module,
    activation: TimeActivation,
    x: Tensor,
    shortcut: Tensor,
    time: Tensor,
) -> Tensor:
    """TA(BN(convolution(x, t)) + shortcut)."""
    if norm.training or not isinstance(convolution, BinaryConv2d):
        return activation(norm(convolution(x, time)) + shortcut, time)
    assert isinstance(norm, nn.BatchNorm2d)
    folded = fold(convolution, norm, activation, time)
    u = affine(convolution.sums(x, time), folded)
    if torch.is_grad_enabled():
        return F.prelu(u + shortcut, folded.slope.to(u.dtype)) + channels(folded.zeta)
    return F.prelu(u.add_(shortcut), folded.slope.to(u.dtype)).add_(channels(folded.zeta))


def affine(sums: Tensor, folded: Folded) -> Tensor:
    """sums * scale + shift, rounded twice; in place where no gradient needs the sums."""
    if torch.is_grad_enabled():
        return sums * channels(folded.scale) + channels(folded.shift)
    return sums.mul_(channels(folded.scale)).add_(channels(folded.shift))


def channels(x: Tensor) -> Tensor:
    """[C] or [B, C] to be broadcast over [B, C, H, W]."""
    return x[..., None, None]


class Block(nn.Module):
    """TA(BN(convolution(x, t)) + shortcut(x)): [B, inputs, H, W] -> [B, outputs, H', W'].

    The shortcut has no weights: 2 x 2 mean where the stride is 2, channels repeated where their
    number doubles, the mean of the two halves where it is halved.

    Raises
    ------
    ValueError : the numbers of channels are neither equal nor a factor of two apart.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        time_width: int,
        convolution: Convolution,
        kernel: int = 3,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if outputs not in (inputs, 2 * inputs) and inputs != 2 * outputs:
            raise ValueError(f"no shortcut leads from {inputs} to {outputs} channels")
        self.inputs, self.outputs, self.stride = inputs, outputs, stride
        self.convolution = convolution(inputs, outputs, kernel, stride, time_width)
        self.norm = nn.BatchNorm2d(outputs)
        self.activation = TimeActivation(outputs, time_width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return update(self.convolution, self.norm, self.activation, x, self.shortcut(x), time)

    def shortcut(self, x: Tensor) -> Tensor:
        """The part of the block that has no weights, for x [B, inputs, H, W]."""
        if self.stride == 2:
            x = F.avg_pool2d(x, 2)
        if self.outputs == 2 * self.inputs:
            x = torch.cat([x, x], 1)
        elif self.inputs == 2 * self.outputs:
            first, second = x.chunk(2, 1)
            x = (first + second) / 2
        return x
