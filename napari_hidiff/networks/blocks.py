"""The blocks of the refiner: convolution, normalisation, shortcut, activation; and the X-Former.

The X-Former is two cross-transformer blocks that join diffusion and segmentor features. Attention
runs inside windows of 8 x 8 tokens that are aligned to the image grid, so that a tile which starts
at a multiple of 8 tokens computes the same as the whole image.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.networks.binary import TIE, BinaryConv2d, Convolution

TIME_FREQUENCIES = 16
WINDOW = 8


class TimeEmbedding(nn.Module):
    """A time t in 1..T as a vector [B or 1, width].

    Narrow: at T = 10 all time layers are a table of ten rows, so a wide embedding gains nothing.
    """

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.steps, self.width = steps, width
        self.mlp = nn.Sequential(
            nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, t: Tensor | int) -> Tensor:
        like = next(self.parameters())
        # No copy from the CPU here: it would make a GPU wait for all its work.
        at = t.to(like) if isinstance(t, Tensor) else like.new_full((1,), t)
        time = at.reshape(-1, 1) / self.steps
        count = torch.arange(1, TIME_FREQUENCIES + 1, device=like.device).to(time)
        frequencies = count * (math.pi / 2)
        out: Tensor = self.mlp(
            torch.cat([torch.sin(time * frequencies), torch.cos(time * frequencies)], 1)
        )
        return out


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
        out: Tensor = F.prelu(u - gamma, self.slope.to(u.dtype)) + zeta
        return out


class Folded(NamedTuple):
    """The arithmetic around a binary convolution in evaluation, per channel: [C] or (time) [B, C].

    PReLU(sums * scale + shift + shortcut; slope) + zeta, rounded after every operation.
    """

    scale: Tensor
    shift: Tensor
    slope: Tensor
    zeta: Tensor


class Layer(NamedTuple):
    """A binary convolution in evaluation at one time, with all that weights and time decide.

    threshold : [inputs, 1, 1]; weights : signs [outputs, part of inputs, k, k] of a float dtype
    that holds the sums of each part exactly; one, minus : 1 and -1 of that dtype, on the device;
    folded : what follows it.
    """

    threshold: Tensor
    weights: tuple[Tensor, ...]
    one: Tensor
    minus: Tensor
    folded: Folded

    def sums(self, x: Tensor, stride: int, padding: int) -> Tensor:
        """:meth:`BinaryConv2d.sums`, to the same whole numbers."""
        signs = torch.where(x >= self.threshold, self.one, self.minus)
        if len(self.weights) == 1:
            return F.conv2d(signs, self.weights[0], None, stride, padding).to(x.dtype)
        parts = signs.split(self.weights[0].shape[1], 1)
        first, *others = (
            F.conv2d(part, weight, None, stride, padding).to(x.dtype)
            for part, weight in zip(parts, self.weights, strict=True)
        )
        for other in others:
            first += other
        return first


class Moment(NamedTuple):
    """A time as every binary convolution of a network sees it, in place of its embedding."""

    layers: Mapping[nn.Module, Layer]


Time = Tensor | Moment
"""An embedding [B or 1, width], or in evaluation what was made of one beforehand."""


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


def normalise(convolution: nn.Module, norm: nn.Module, x: Tensor, time: Time) -> Tensor:
    """BN(convolution(x, t))."""
    if isinstance(time, Moment):
        return affine(*_known(convolution, x, time))
    if norm.training or not isinstance(convolution, BinaryConv2d):
        out: Tensor = norm(convolution(x, time))
        return out
    assert isinstance(norm, nn.BatchNorm2d)
    folded = fold(convolution, norm, None, time)
    return affine(convolution.sums(x, time), folded)


def update(
    convolution: nn.Module,
    norm: nn.Module,
    activation: TimeActivation,
    x: Tensor,
    shortcut: Tensor,
    time: Time,
) -> Tensor:
    """TA(BN(convolution(x, t)) + shortcut)."""
    if isinstance(time, Moment):
        return _activated(*_known(convolution, x, time), shortcut)
    if norm.training or not isinstance(convolution, BinaryConv2d):
        out: Tensor = activation(norm(convolution(x, time)) + shortcut, time)
        return out
    assert isinstance(norm, nn.BatchNorm2d)
    folded = fold(convolution, norm, activation, time)
    return _activated(convolution.sums(x, time), folded, shortcut)


def _known(convolution: nn.Module, x: Tensor, time: Moment) -> tuple[Tensor, Folded]:
    """Sums, and what follows them."""
    layer = time.layers[convolution]
    assert isinstance(convolution, BinaryConv2d)
    return layer.sums(x, convolution.stride, convolution.padding), layer.folded


def _activated(sums: Tensor, folded: Folded, shortcut: Tensor) -> Tensor:
    u = affine(sums, folded)
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

    The shortcut has no weights: a 2 x 2 mean for stride 2, channels repeated if their number
    doubles, the mean of the two halves if it is halved.

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

    def forward(self, x: Tensor, time: Time) -> Tensor:
        return update(self.convolution, self.norm, self.activation, x, self.shortcut(x), time)

    def shortcut(self, x: Tensor) -> Tensor:
        """The shortcut of x [B, inputs, H, W], without weights."""
        if self.stride == 2:
            x = F.avg_pool2d(x, 2)
        if self.outputs == 2 * self.inputs:
            x = torch.cat([x, x], 1)
        elif self.inputs == 2 * self.outputs:
            first, second = x.chunk(2, 1)
            x = (first + second) / 2
        return x


class XFormer(nn.Module):
    """(f_d, f_p) -> f_p', then (f_p', f_d) -> f_d' (paper, section III-C).

    f_d: features of the diffusion network, f_p: of the segmentor, both [B, C, h, w]; returns
    f_d' [B, C, h, w]. With the binary convolution this is the BX-Former: projections are binary
    convolutions of kernel 1, and queries, keys and values are signs; the attention weights
    between them stay real.
    """

    def __init__(
        self, channels: int, time_width: int, convolution: Convolution, heads: int = 4
    ) -> None:
        super().__init__()
        self.prior = CrossBlock(channels, time_width, convolution, heads)
        self.diffusion = CrossBlock(channels, time_width, convolution, heads)

    def forward(self, f_d: Tensor, f_p: Tensor, time: Time) -> Tensor:
        f_p = self.prior(f_p, f_d, time)
        out: Tensor = self.diffusion(f_d, f_p, time)
        return out


class CrossBlock(nn.Module):
    """Cross attention from ``x`` to ``other``, then a feed-forward pair; all [B, C, h, w]."""

    def __init__(
        self, channels: int, time_width: int, convolution: Convolution, heads: int
    ) -> None:
        super().__init__()

        def project() -> nn.Module:
            return convolution(channels, channels, 1, 1, time_width)

        self.heads, self.quantize = heads, convolution.quantize
        self.query, self.key, self.value, self.out = (project() for _ in range(4))
        norms = [nn.BatchNorm2d(channels) for _ in range(4)]
        for norm in norms:
            nn.init.uniform_(norm.bias, -TIE, TIE)
        self.norms = nn.ModuleList(norms)
        self.position = nn.Parameter(torch.zeros(heads, WINDOW**2, WINDOW**2))
        self.activation = TimeActivation(channels, time_width)
        self.expand = Block(channels, 2 * channels, time_width, convolution, kernel=1)
        self.reduce = Block(2 * channels, channels, time_width, convolution, kernel=1)

    def forward(self, x: Tensor, other: Tensor, time: Time) -> Tensor:
        projections = ((self.query, x), (self.key, other), (self.value, other))
        q, k, v = (
            self.quantize(normalise(project, norm, source, time))
            for norm, (project, source) in zip(self.norms, projections, strict=False)
        )
        x = update(self.out, self.norms[3], self.activation, self.attend(q, k, v), x, time)
        out: Tensor = self.reduce(self.expand(x, time), time)
        return out

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(d) + position) v within each window; [B, C, h, w] in and out."""
        height, width = q.shape[-2:]
        present = windows(q.new_ones(1, 1, height, width), 1)[:, :, None, :, 0] > 0
        present = present.repeat(q.shape[0], 1, 1, 1)
        bias = self.position.to(q.dtype).masked_fill(~present, float("-inf"))
        q, k, v = (windows(part, self.heads) for part in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return unwindow(attended, height, width)


def windows(x: Tensor, heads: int) -> Tensor:
    """Cut [B, heads * d, h, w] into [B * windows, heads, 64, d]; missing tokens are 0."""
    batch, channels, height, width = x.shape
    x = F.pad(x, (0, -width % WINDOW, 0, -height % WINDOW))
    rows, columns = x.shape[-2] // WINDOW, x.shape[-1] // WINDOW
    x = x.reshape(batch, heads, channels // heads, rows, WINDOW, columns, WINDOW)
    return x.permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, heads, WINDOW**2, channels // heads)


def unwindow(x: Tensor, height: int, width: int) -> Tensor:
    """The inverse of :func:`windows`: [B * windows, heads, 64, d] -> [B, heads * d, h, w]."""
    rows, columns = -(-height // WINDOW), -(-width // WINDOW)
    heads, _, depth = x.shape[1:]
    x = x.reshape(-1, rows, columns, heads, WINDOW, WINDOW, depth).permute(0, 3, 6, 1, 4, 2, 5)
    return x.reshape(x.shape[0], heads * depth, rows * WINDOW, columns * WINDOW)[
        :, :, :height, :width
    ]
