"""The layers of the packed refiner: binary convolutions and the X-Former.

A :class:`Layer` is a binary convolution with its normalisation and activation, as the tables that
its kernel reads. :class:`PackedXFormer` has packed projections and feed-forward pairs; attention
between signs runs in torch. It works at stride 32, where a 256 x 256 image has 64 tokens, so the
signs of its inputs are packed in passes of their own, and the products of queries and keys stay
floats of +1 and -1.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from napari_hidiff.engine import kernels, pool
from napari_hidiff.engine.layout import WORD, Memory, Size, Values, halves, pack_weights
from napari_hidiff.engine.microkernels import MEAN, NONE, PAIR, SAME
from napari_hidiff.errors import Unpackable
from napari_hidiff.networks.binary import BinaryConv2d
from napari_hidiff.networks.blocks import (
    Block,
    CrossBlock,
    TimeActivation,
    TimeEmbedding,
    XFormer,
    fold,
)

Times = list[Tensor]
"""The embedding [1, time_width] of every time; entry 0 is unused and repeats that of time 1."""


def embed_times(embedding: TimeEmbedding) -> Times:
    return [embedding(max(1, t)) for t in range(embedding.steps + 1)]


@dataclass(frozen=True)
class Signs:
    """Bits of a tensor: uint32 flat [B, H + 2, W + 2, words]."""

    bits: np.ndarray
    size: Size
    words: int


@dataclass(frozen=True)
class Reader:
    """A layer that reads the signs of a result: its thresholds float32 [C], and its bits."""

    limit: np.ndarray
    bits: np.ndarray


NOBODY = Reader(kernels.FLOATS, kernels.BITS)


@dataclass(frozen=True)
class Layer:
    """TA(BN(binary convolution) + shortcut) for every time t = 0 .. T.

    weights : uint32 flat [outputs / 32, taps, 32], taps of one source after those of the other.
    halves : int32 flat [16, outputs]; coefficients : float32 [T + 1, 4 * outputs].
    limits : float32 [T + 1, inputs], the thresholds of the input; first those of the first source.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    sources: int
    weights: np.ndarray
    halves: np.ndarray
    coefficients: np.ndarray
    limits: np.ndarray

    @classmethod
    def of_block(cls, block: Block, times: Times, sources: int = 1) -> "Layer":
        return cls.of(block.convolution, block.norm, block.activation, times, sources)

    @classmethod
    def of(
        cls,
        convolution: nn.Module,
        norm: nn.Module,
        activation: TimeActivation | None,
        times: Times,
        sources: int = 1,
    ) -> "Layer":
        """Compile the modules; without an activation the result is BN + shortcut."""
        if not isinstance(convolution, BinaryConv2d):
            raise Unpackable("the refiner's convolutions are real, not binary: nothing to pack")
        assert isinstance(norm, nn.BatchNorm2d)
        weight = convolution.weight.detach().float().cpu()
        outputs, inputs, kernel, _ = weight.shape
        if outputs % WORD or inputs % (WORD * sources):
            raise Unpackable(f"{inputs} to {outputs} channels are not whole words of {WORD} bits")
        signs = weight.numpy() >= 0
        parts = np.split(signs, sources, axis=1)
        weights = np.concatenate([pack_weights(part) for part in parts], axis=1)

        if norm.running_mean is None or norm.running_var is None:
            raise Unpackable("a BatchNorm of the refiner has no running statistics to fold")
        rows = []
        for time in times:
            tables = fold(convolution, norm, activation, time)
            scale = 2 * tables.scale  # of the halves: exact
            parts_of = (scale, *tables[1:])
            rows.append(torch.cat([table.detach().cpu().flatten() for table in parts_of]))
        limits = [convolution.threshold.alpha(time)[0].detach().cpu().float() for time in times]
        return cls(
            inputs,
            outputs,
            kernel,
            convolution.stride,
            sources,
            weights.ravel(),
            sum(halves(part) for part in parts).ravel(),  # type: ignore[union-attr]
            torch.stack(rows).numpy(),
            torch.stack(limits).numpy(),
        )

    def reader(self, t: int, bits: np.ndarray, source: int = 0) -> Reader:
        """This layer as a reader of its source, at time t."""
        width = self.inputs // self.sources
        return Reader(self.limits[t, source * width : (source + 1) * width], bits)

    def read(self, memory: Memory, name: str, x: Values, size: Size, t: int) -> Signs:
        """The signs of x [B, H, W, inputs] for this layer, in a pass of their own."""
        bits = memory.bits(name, size, self.inputs)
        pack(x, size, self.inputs, self.reader(t, bits))
        return Signs(bits, size, self.inputs // WORD)

    def run(
        self,
        t: int,
        a: Signs,
        out: Values,
        *,
        b: Signs | None = None,
        shortcut: tuple[Values, ...] = (),
        larger: bool = False,
        extra: tuple[Values, int] = (kernels.FLOATS, 0),
        readers: tuple[Reader, ...] = (),
    ) -> None:
        """Compute float32 flat [B, H / stride, W / stride, outputs] and the bits of its readers.

        shortcut : none, the block's input, or the two sources of its input.
        larger : the input has half the height and width of ``a``, which was upsampled.
        extra : added last, and its number of images (1 = the same for all).
        """
        height, width = -(-a.size[1] // self.stride), -(-a.size[2] // self.stride)
        kind, first, second, second_at, step = self._shortcut(shortcut)
        one, two = (*readers, NOBODY, NOBODY)[:2]
        taps = self.weights.size // self.outputs
        rows = a.size[0] * height
        pool.rows(
            kernels.convolve, rows, rows * width * self.outputs // 16 * (taps + 8),
            height, width, a.size[1], a.size[2], self.kernel, self.stride,
            a.bits, a.words, *((b.bits, b.words) if b else (kernels.BITS, 0)),
            self.weights, self.halves, self.coefficients[t], self.outputs,
            kind, int(larger), first, second, second_at, step,
            *extra, out, one.limit, one.bits, two.limit, two.bits,
        )  # fmt: skip

    def _shortcut(self, tensors: tuple[Values, ...]) -> tuple[int, Values, Values, int, int]:
        """Kind, both tensors, offset into the second, channels per pixel."""
        if not tensors:
            return NONE, kernels.FLOATS, kernels.FLOATS, 0, self.outputs
        if len(tensors) == 2:
            return PAIR, tensors[0], tensors[1], 0, self.outputs
        x = tensors[0]
        if self.stride == 2:
            return MEAN, x, x, 0, self.inputs
        if self.inputs == 2 * self.outputs:
            return PAIR, x, x, self.outputs, self.inputs
        return SAME, x, x, 0, self.inputs


def pack(x: Values, size: Size, channels: int, reader: Reader) -> None:
    """The signs of float32 flat [B, H, W, channels] for a reader."""
    batch, height, width = size
    work = batch * height * width * channels // 4
    pool.rows(
        kernels.pack, batch * height, work, height, width, channels, x, reader.limit, reader.bits
    )


def enlarge(memory: Memory, name: str, small: Signs) -> Signs:
    """Signs of twice the height and width, by nearest upsampling."""
    batch, height, width = small.size[0], 2 * small.size[1], 2 * small.size[2]
    bits = memory.bits(name, (batch, height, width), small.words * WORD)
    work = batch * height * width * small.words
    pool.rows(kernels.enlarge, batch * height, work, height, width, small.words, small.bits, bits)
    return Signs(bits, (batch, height, width), small.words)


@dataclass(frozen=True)
class PackedCross:
    """A :class:`CrossBlock`: x attends to ``other``, then a feed-forward pair.

    attend : the network's own attention within windows, [B, C, h, w] of +1 and -1.
    """

    name: str
    block: CrossBlock
    projections: tuple[Layer, Layer, Layer]
    out: Layer
    expand: Layer
    reduce: Layer

    @classmethod
    def of(cls, name: str, block: CrossBlock, times: Times) -> "PackedCross":
        convolutions = (block.query, block.key, block.value)
        query, key, value = (
            Layer.of(convolution, norm, None, times)
            for convolution, norm in zip(convolutions, block.norms, strict=False)
        )
        return cls(
            name,
            block,
            (query, key, value),
            Layer.of(block.out, block.norms[3], block.activation, times),
            Layer.of_block(block.expand, times),
            Layer.of_block(block.reduce, times),
        )

    def run(self, memory: Memory, x: Values, other: Values, size: Size, t: int) -> Values:
        """Values flat [B, h, w, C] of x and other to x', which is a new tensor."""
        batch, height, width = size
        channels = self.out.outputs
        signs = []
        for n, (layer, source) in enumerate(zip(self.projections, (x, other, other), strict=True)):
            projected = memory.values(f"{self.name}.projection{n}", size, channels)
            layer.run(t, layer.read(memory, f"{self.name}.source", source, size, t), projected)
            tensor = torch.from_numpy(projected).view(batch, height, width, channels)
            signs.append(self.block.quantize(tensor.permute(0, 3, 1, 2)))
        attended = self.block.attend(*signs).permute(0, 2, 3, 1).contiguous().view(-1).numpy()

        result = memory.values(f"{self.name}.result", size, channels)
        wide = memory.values(f"{self.name}.wide", size, 2 * channels)
        bits = memory.bits(f"{self.name}.wide", size, 2 * channels)
        first = self.out.read(memory, f"{self.name}.attended", attended, size, t)
        self.out.run(t, first, result, shortcut=(x,))
        second = self.expand.read(memory, f"{self.name}.attended", result, size, t)
        self.expand.run(t, second, wide, shortcut=(result,), readers=(self.reduce.reader(t, bits),))
        third = type(second)(bits, size, 2 * second.words)
        self.reduce.run(t, third, result, shortcut=(wide,))
        return result


@dataclass(frozen=True)
class PackedXFormer:
    """An :class:`XFormer`: (f_d, f_p) -> f_p', then (f_p', f_d) -> f_d'."""

    prior: PackedCross
    diffusion: PackedCross

    @classmethod
    def of(cls, xformer: XFormer, times: Times) -> "PackedXFormer":
        return cls(
            PackedCross.of("prior", xformer.prior, times),
            PackedCross.of("diffusion", xformer.diffusion, times),
        )

    def run(self, memory: Memory, f_d: Values, f_p: Values, size: Size, t: int) -> Values:
        f_p = self.prior.run(memory, f_p, f_d, size, t)
        return self.diffusion.run(memory, f_d, f_p, size, t)
