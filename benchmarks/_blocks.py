"""Single blocks of a refiner: ours on bits against torch's on floats."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._packed import clean_twin, digits, interleaved, lively, ratios
from benchmarks._steps import TIME
from napari_hidiff.engine.layers import Layer, Signs, embed_times, pack
from napari_hidiff.engine.layout import Memory
from napari_hidiff.networks.binary import BinaryConv2d
from napari_hidiff.networks.blocks import Block, TimeEmbedding


class Shape(NamedTuple):
    """A block at the sides of its input. ``joined``: the input is two tensors, as after a skip."""

    inputs: int
    outputs: int
    side: int
    stride: int = 1
    joined: bool = False

    @property
    def name(self) -> str:
        """As a row of the table."""
        what = " joined" if self.joined else f" stride {self.stride}"
        return f"{self.inputs}->{self.outputs} at {self.side}{what}"


SHAPES = (
    Shape(32, 32, 256),
    Shape(64, 64, 256),
    Shape(128, 128, 256),
    Shape(128, 128, 128),
    Shape(256, 256, 64),
    Shape(512, 512, 16),
    Shape(256, 128, 256, joined=True),
    Shape(64, 64, 256, stride=2),
    Shape(128, 128, 256, stride=2),
    Shape(128, 256, 128, stride=2),
    Shape(256, 512, 32, stride=2),
)


class BlockCase:
    """A block at work: ours on bits (it also writes the bits of the next), torch's on floats.

    As in the packed program the result takes the place of the block's input where it fits.
    """

    def __init__(self, shape: Shape) -> None:
        torch.manual_seed(0)
        self.shape = shape
        parts = 2 if shape.joined else 1
        block = Block(shape.inputs, shape.outputs, 32, BinaryConv2d, stride=shape.stride)
        embedding = TimeEmbedding(10, 32)
        lively(block)
        self.twin, self.block = clean_twin(block), block
        with torch.no_grad():
            times = embed_times(embedding)
            self.time = times[TIME]
            self.layer = Layer.of_block(block, times, parts)
            follower = Block(shape.outputs, shape.outputs, 32, BinaryConv2d)
            self.follower = Layer.of_block(follower, times)
        x = torch.randn(1, shape.inputs, shape.side, shape.side)
        last = torch.channels_last
        self.x = [part.contiguous(memory_format=last) for part in x.chunk(parts, 1)]
        self.signs = torch.sign(x).contiguous(memory_format=last)
        memory, size = Memory(), (1, shape.side, shape.side)
        self.values = [part.permute(0, 2, 3, 1).numpy().flatten() for part in self.x]
        width = shape.inputs // parts
        self.bits = []
        for n, values in enumerate(self.values):
            bits = memory.bits(f"source{n}", size, width)
            pack(values, size, width, self.layer.reader(TIME, bits, n))
            self.bits.append(Signs(bits, size, width // 32))
        half = shape.side // shape.stride
        fits = shape.stride == 1 and width == shape.outputs
        out = memory.values("out", (1, half, half), shape.outputs)
        self.out = self.values[0] if fits else out
        self.reader = self.follower.reader(TIME, memory.bits("out", (1, half, half), shape.outputs))

    def packed(self) -> np.ndarray:
        """From bits to float32 flat [H, W, outputs] and the next block's bits."""
        b = self.bits[1] if self.shape.joined else None
        self.layer.run(
            TIME, self.bits[0], self.out, b=b, shortcut=tuple(self.values), readers=(self.reader,)
        )
        return self.out

    @torch.inference_mode()
    def clean(self) -> Tensor:
        """From floats to floats; two sources are joined first, as a U-Net does."""
        return self.twin(torch.cat(self.x, 1) if self.shape.joined else self.x[0], self.time)

    @torch.inference_mode()
    def alone(self) -> Tensor:
        """Nothing but torch's convolution, on signs that are there already."""
        convolution = self.twin.convolution
        return F.conv2d(self.signs, convolution.weight, stride=self.shape.stride, padding=1)


def measure_block(shape: Shape, rounds: int, threads: int) -> dict[str, Any]:
    """Times and ratios of one block, and the greatest difference of a value from torch's."""
    case = BlockCase(shape)
    ours = torch.from_numpy(case.packed().copy())
    theirs = case.clean().permute(0, 2, 3, 1).flatten()
    variants = {"packed": case.packed, "clean": case.clean, "conv2d alone": case.alone}
    times = interleaved(variants, rounds, threads, warm=True)
    return times | {
        "ratios": ratios(times, "packed"),
        "greatest_difference": digits(float((ours - theirs).abs().max()), 2),
    }
