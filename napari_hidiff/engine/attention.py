"""The X-Former: packed projections and feed-forward pairs, attention between signs in torch.

It stands at stride 32, where a 256 x 256 image has 64 tokens, so its readers' signs are packed in
passes of their own and the products of queries and keys stay floats of +1 and -1.
"""

from dataclasses import dataclass

import torch

from napari_hidiff.engine.layers import Layer, Times
from napari_hidiff.engine.memory import Memory, Size, Values
from napari_hidiff.networks.xformer import CrossBlock, XFormer


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
