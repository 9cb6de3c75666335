"""X-Former: two cross-transformer blocks that join diffusion and segmentor features.

Attention runs inside windows of 8 x 8 tokens that are aligned to the image grid, so that a tile
which starts at a multiple of 8 tokens computes what the whole image computes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.networks.binary import TIE, Convolution
from napari_hidiff.networks.blocks import Block, TimeActivation, normalise, update

WINDOW = 8


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

    def forward(self, f_d: Tensor, f_p: Tensor, time: Tensor) -> Tensor:
        f_p = self.prior(f_p, f_d, time)
        return self.diffusion(f_d, f_p, time)


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

    def forward(self, x: Tensor, other: Tensor, time: Tensor) -> Tensor:
        projections = ((self.query, x), (self.key, other), (self.value, other))
        q, k, v = (
            self.quantize(normalise(project, norm, source, time))
            for norm, (project, source) in zip(self.norms, projections, strict=False)
        )
        x = update(self.out, self.norms[3], self.activation, self.attend(q, k, v), x, time)
        return self.reduce(self.expand(x, time), time)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(d) + position) v within each window; [B, C, h, w] in and out."""
        height, width = q.shape[-2:]
        present = windows(q.new_ones(1, 1, height, width), 1)[:, :, None, :, 0] > 0
        present = present.repeat(q.shape[0], 1, 1, 1)
        bias = torch.where(present, self.position.to(q.dtype), float("-inf"))
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
