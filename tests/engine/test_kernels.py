"""The packed kernels against torch's float arithmetic on signs."""

import numpy as np
import pytest
import torch
from refiners import trained
from torch.nn import functional as F

from napari_hidiff.engine import kernels
from napari_hidiff.engine.layers import Layer, Reader, Signs, enlarge, pack
from napari_hidiff.engine.layout import (
    WORD,
    Memory,
    halves,
    pack_activations,
    pack_weights,
    words_of,
)
from napari_hidiff.engine.microkernels import NONE
from napari_hidiff.errors import Unpackable
from napari_hidiff.networks.binary import BinaryConv2d, RealConv2d
from napari_hidiff.networks.blocks import Block

TIME = 8


def rng(seed):
    return np.random.default_rng(seed)


def normal(generator, *shape):
    return generator.standard_normal(shape).astype(np.float32)


def channels_last(x):
    return np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()).ravel()


def image(flat, shape):
    batch, channels, height, width = shape
    return torch.from_numpy(flat).view(batch, height, width, channels).permute(0, 3, 1, 2)


def test_a_channel_is_a_bit_of_its_word():
    signs = np.zeros((2, 64), bool)
    signs[0, [0, 33]] = signs[1, 31] = True
    assert words_of(signs).tolist() == [[1, 2], [2**31, 0]]
    bits = pack_activations(np.array([[[[-0.0] * 31 + [-1.0]]]]), np.zeros(32))
    assert bits[0, 1, 1] == 2**31 - 1, "sign(0) = +1, also of a negative zero"
    assert bits.sum() == bits[0, 1, 1], "the border is 0"


def sums(sources, weight, stride):
    """The kernel's sums of products, [B, h, w, O], of float sources [B, H, W, C]."""
    batch, height, width, _ = sources[0].shape
    outputs, _, kernel, _ = weight.shape
    down, right = -(-height // stride), -(-width // stride)
    parts = np.split(weight >= 0, len(sources), axis=1)
    bits = [pack_activations(x, np.zeros(x.shape[-1])) for x in sources]
    words = [b.shape[-1] for b in bits] + [0]
    bits = [b.ravel() for b in bits] + [kernels.BITS]
    out = np.full((batch, down, right, outputs), np.nan, np.float32)
    table = np.concatenate([pack_weights(p) for p in parts], 1).ravel()
    whole = np.stack([np.full(outputs, v, np.float32) for v in (2, 0, 1, 0)]).ravel()
    for begin, end in ((0, batch * down // 3), (batch * down // 3, batch * down)):
        kernels.convolve(
            begin, end, down, right, height, width, kernel, stride,
            bits[0], words[0], bits[1], words[1],
            table, sum(halves(p) for p in parts).ravel(), whole, outputs,
            NONE, 0, kernels.FLOATS, kernels.FLOATS, 0, outputs,
            kernels.FLOATS, 0, out.ravel(),
            kernels.FLOATS, kernels.BITS, kernels.FLOATS, kernels.BITS,
        )  # fmt: skip
    return out


def reference(sources, weight, stride):
    signs = [torch.from_numpy(np.where(x >= 0, 1.0, -1.0)).permute(0, 3, 1, 2) for x in sources]
    weight = torch.from_numpy(np.where(weight >= 0, 1.0, -1.0))
    out = F.conv2d(torch.cat(signs, 1), weight, stride=stride, padding=weight.shape[-1] // 2)
    return out.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("seed", range(40))
def test_a_binary_convolution_is_exact(seed):
    generator = rng(seed)
    channels = int(generator.choice([32, 64, 96, 128, 512]))
    count, outputs = generator.integers(1, 3), int(generator.choice([32, 64, 96, 128]))
    kernel, stride = int(generator.choice([1, 3])), int(generator.integers(1, 3))
    height, width = (int(n) for n in generator.integers(1, 41, 2))
    sources = [normal(generator, 2, height, width, channels) for _ in range(count)]
    weight = normal(generator, outputs, channels * count, kernel, kernel)
    found = sums(sources, weight, stride)
    np.testing.assert_array_equal(found, reference(sources, weight, stride))


@pytest.mark.parametrize("height", [1, 2])
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_an_image_that_is_all_border_is_exact(height, width, stride):
    generator = rng(7)
    sources = [normal(generator, 1, height, width, 32)]
    weight = normal(generator, 32, 32, 3, 3)
    found = sums(sources, weight, stride)
    np.testing.assert_array_equal(found, reference(sources, weight, stride))


BLOCKS = {
    "same": (64, 64, 3, 1),
    "same, odd words": (96, 96, 3, 1),
    "wider": (32, 64, 3, 1),
    "narrower": (128, 64, 3, 1),
    "halved": (64, 64, 3, 2),
    "halved and wider": (32, 64, 3, 2),
    "expand": (64, 128, 1, 1),
    "reduce": (128, 64, 1, 1),
}


def agree(layer, found, expected, limit, bits, size):
    """The same values to the last bit, and so the same signs for the next reader."""
    expected_flat = channels_last(expected)
    np.testing.assert_array_equal(found, expected_flat)
    values = expected_flat.reshape(*size, layer.outputs)
    np.testing.assert_array_equal(bits, pack_activations(values, limit).ravel())


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_computes_what_torch_computes(kind):
    inputs, outputs, kernel, stride = BLOCKS[kind]
    block = trained(Block(inputs, outputs, TIME, BinaryConv2d, kernel, stride), 1)
    generator = torch.Generator().manual_seed(2)
    times = [torch.randn(1, TIME, generator=generator) for _ in range(3)]
    layer, memory = Layer.of_block(block, times), Memory()
    batch, height, width = size = (2, 22, 46)
    small = (batch, height // stride, width // stride)
    for t, time in enumerate(times):
        x = torch.randn(batch, inputs, height, width, generator=generator)
        values = channels_last(x)
        signs = layer.read(memory, "in", values, size, t)
        in_place = inputs == outputs and stride == 1
        out = values if in_place else memory.values("out", small, outputs)
        readers = [
            Reader(normal(rng(n), outputs), memory.bits(f"out{n}", small, outputs)) for n in (0, 1)
        ]
        expected = block(x, time)
        add = torch.randn(1 + t % 2, outputs, *small[1:], generator=generator)
        extra = (channels_last(add), len(add)) if t else (kernels.FLOATS, 0)
        layer.run(t, signs, out, shortcut=(values,), extra=extra, readers=tuple(readers))
        for reader in readers:
            agree(layer, out, expected + (add if t else 0), reader.limit, reader.bits, small)


def test_a_block_joins_two_sources_as_their_concatenation():
    block = trained(Block(128, 64, TIME, BinaryConv2d), 3)
    generator = torch.Generator().manual_seed(4)
    time = torch.randn(1, TIME, generator=generator)
    layer, memory, size = Layer.of_block(block, [time], sources=2), Memory(), (2, 9, 31)
    x, skip = (torch.randn(2, 64, 9, 31, generator=generator) for _ in range(2))
    expected = block(torch.cat([x, skip], 1), time)
    signs = []
    for n, part in enumerate((x, skip)):
        bits = memory.bits(f"source{n}", size, 64)
        pack(channels_last(part), size, 64, layer.reader(0, bits, n))
        signs.append(Signs(bits, size, 64 // WORD))
    out = channels_last(x)
    reader = Reader(normal(rng(5), 64), memory.bits("out", size, 64))
    layer.run(0, signs[0], out, b=signs[1], shortcut=(out, channels_last(skip)), readers=(reader,))
    agree(layer, out, expected, reader.limit, reader.bits, size)


@pytest.mark.parametrize("inputs", [64, 128])
def test_a_block_reads_an_upsampled_input_that_is_never_made(inputs):
    block = trained(Block(inputs, 64, TIME, BinaryConv2d), 6)
    generator = torch.Generator().manual_seed(7)
    time = torch.randn(1, TIME, generator=generator)
    layer, memory, size = Layer.of_block(block, [time]), Memory(), (2, 10, 14)
    x = torch.randn(2, inputs, 5, 7, generator=generator)
    expected = block(F.interpolate(x, scale_factor=2, mode="nearest"), time)
    values = channels_last(x)
    signs = enlarge(memory, "large", layer.read(memory, "small", values, (2, 5, 7), 0))
    out = memory.values("out", size, 64)
    reader = Reader(normal(rng(8), 64), memory.bits("out", size, 64))
    layer.run(0, signs, out, shortcut=(values,), larger=True, readers=(reader,))
    agree(layer, out, expected, reader.limit, reader.bits, size)


def test_packing_takes_ties_as_plus_one():
    size, limit = (1, 3, 5), normal(rng(9), 32)
    values = np.tile(limit, 15)
    values[::7] -= 1
    bits = np.zeros(5 * 7, np.uint32)
    pack(values, size, 32, Reader(limit, bits))
    np.testing.assert_array_equal(
        bits, pack_activations(values.reshape(1, 3, 5, 32), limit).ravel()
    )


def test_real_convolutions_are_refused_in_one_line():
    block = Block(32, 32, TIME, RealConv2d)
    with pytest.raises(Unpackable, match="real, not binary"):
        Layer.of_block(block, [torch.zeros(1, TIME)])
