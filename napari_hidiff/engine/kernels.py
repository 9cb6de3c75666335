"""The packed kernels: row ranges of binary convolutions and of the layers around them.

All arrays are flat and C-contiguous; layouts are those of :mod:`napari_hidiff.engine.layout`, float
tensors are float32 [B, H, W, C]. Rows count through the batch, 0 .. B * H, so that a pool may deal
out any range of them. Kernels release Python's lock and start no threads of their own: numba's
workqueue kills the process when two Python threads enter at once.

Compiled kernels are cached on disk under a digest of all sources; a cache that cannot be written
or read is ignored.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache

from napari_hidiff.engine.layout import BOTTOM, LEFT, RIGHT, TOP, WORD
from napari_hidiff.engine.microkernels import make_dense, make_tile, sign_word
from napari_hidiff.engine.simd import PIXELS

SOURCES = ("layout", "simd", "microkernels", "kernels")


def _digest() -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in SOURCES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """Numba's cache, valid for all sources; numba itself checks only the function's own file.

    A folder that cannot be written or read only costs the time of compiling.
    """

    stamp = _digest()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), self.stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # any broken file there: compile again
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:  # a full disk, or a removed folder
            return


def compiled(function: Callable[..., Any]) -> Any:
    """The function as a kernel, cached on disk if numba finds a writable folder."""
    kernel: Any = njit(nogil=True)(function)
    with suppress(RuntimeError):  # no writable folder
        kernel._cache = _Cache(function)
    return kernel


NARROW = 16
"""Output channels in a block of the last convolution, which has few."""

_MANY, _ONE = make_tile(PIXELS), make_tile(1)
_ENTER, _ENTER_ONE = make_dense(PIXELS, WORD), make_dense(1, WORD)
_PRODUCTS, _PRODUCTS_ONE = make_dense(PIXELS, NARROW), make_dense(1, NARROW)

FLOATS, INTS, BITS = np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, np.uint32)
"""Empty arrays, for arguments that are not needed."""


@compiled
def convolve(
    begin, end, height, width, in_height, in_width, kernel, stride,
    a, a_words, b, b_words, weights, halves, coefficients, channels,
    kind, larger, first, second, second_at, step,
    extra, extra_images, out, limit_1, bits_1, limit_2, bits_2,
):  # fmt: skip
    """Rows begin..end of TA(BN(conv(a, b)) + shortcut) + extra, as float32 and as bits.

    a, b : bits [B, in_height + 2, in_width + 2, a_words or b_words]; b_words = 0 without a second
        source. weights : uint32 [channels / 32, taps, 32]; halves : int32 [16, channels].
    coefficients : float32 [4, channels], scale (of the halves), shift, slope and zeta.
    kind : of the shortcut, which reads ``first`` and ``second`` with ``step`` channels per pixel,
        the latter from ``second_at`` on, of half the size where larger = 1.
    extra : float32 [extra_images, height, width, channels] added last; extra_images is 0 (no
        extra), 1 (for all images) or B.
    limit_n, bits_n : thresholds [channels] of a reader, and its bits; empty without a reader.
    """
    line_a, line_b = (in_width + 2) * a_words, (in_width + 2) * b_words
    run_a, run_b = kernel * a_words, kernel * b_words
    taps = kernel * (run_a + run_b) * WORD
    words = channels // WORD
    lead = 1 - kernel // 2
    rows_b = kernel if b_words else 0
    for row in range(begin, end):
        image = row // height
        y = row - image * height
        top = (image * (in_height + 2) + y * stride + lead) * (in_width + 2) + lead
        sides = (TOP if y == 0 else 0) + (BOTTOM if y * stride + 1 >= in_height else 0)
        scale = 2 if stride == 2 else 1
        source_width = width // 2 if larger else width * scale
        source_height = height // 2 if larger else height * scale
        source_y = y // 2 if larger else y * scale
        source = (image * source_height + source_y) * source_width
        extra_row = (row if extra_images > 1 else y) * width
        x = 0
        while x < width:
            count = PIXELS if x + PIXELS <= width else 1
            at = top + x * stride
            left = LEFT if x == 0 else 0
            right = RIGHT if (x + count - 1) * stride + 1 >= in_width else 0
            a_at = (at * a_words, line_a, stride * a_words, kernel, run_a)
            b_at = (at * b_words, line_b, stride * b_words, rows_b, run_b)
            pixel = source + (x // 2 if larger else x * scale)
            target = (row * width + x) * channels
            for block in range(words):
                o = block * WORD
                only = right if count == 1 else 0
                cases = (
                    (sides + left + only) * channels + o,
                    sides * channels + o,
                    (sides + right) * channels + o,
                )
                here = pixel * step + o % step
                shortcut = (kind, here, here + second_at, step, source_width * step, larger)
                e_at = (min(extra_images, 1), (extra_row + x) * channels + o, channels)
                if count == PIXELS:
                    _MANY(
                        a, a_at, b, b_at, weights, block * taps, halves, cases, coefficients,
                        (o, channels), shortcut, first, second, extra, e_at, out,
                        (target + o, channels),
                    )  # fmt: skip
                else:
                    _ONE(
                        a, a_at, b, b_at, weights, block * taps, halves, cases, coefficients,
                        (o, channels), shortcut, first, second, extra, e_at, out,
                        (target + o, channels),
                    )  # fmt: skip
                place = (image * (height + 2) + y + 1) * (width + 2) + x + 1
                for p in range(count):
                    value, word = target + p * channels + o, (place + p) * words + block
                    if bits_1.size:
                        bits_1[word] = sign_word(out, value, limit_1, o)
                    if bits_2.size:
                        bits_2[word] = sign_word(out, value, limit_2, o)
            x += count


@compiled
def pack(begin, end, height, width, channels, x, limit, bits):
    """Rows of the bits x >= limit; x [B, height, width, channels]."""
    words = channels // WORD
    for row in range(begin, end):
        image = row // height
        place = (image * (height + 2) + row - image * height + 1) * (width + 2) + 1
        for pixel in range(width):
            for block in range(words):
                value = (row * width + pixel) * channels + block * WORD
                bits[(place + pixel) * words + block] = sign_word(x, value, limit, block * WORD)


@compiled
def enlarge(begin, end, height, width, words, small, bits):
    """Rows of bits [B, height + 2, width + 2, words] by nearest upsampling of half the size."""
    for row in range(begin, end):
        image = row // height
        y = row - image * height
        source = (image * (height // 2 + 2) + y // 2 + 1) * (width // 2 + 2) + 1
        target = (image * (height + 2) + y + 1) * (width + 2) + 1
        for x in range(width):
            for word in range(words):
                bits[(target + x) * words + word] = small[(source + x // 2) * words + word]


@compiled
def enter(
    begin, end, height, width, inputs, y, weights, static, images, channels, out, limit, bits
):  # fmt: skip
    """Rows of the input convolution: ``static`` plus the part that reads y_t, and its bits.

    y : float32 [B, height + 2, width + 2, inputs], zeros around it; weights : float32
    [channels / 32, 9 * inputs, 32], taps row by row; static : float32 [images, height, width,
    channels].
    """
    words = channels // WORD
    line, run = (width + 2) * inputs, 3 * inputs
    for row in range(begin, end):
        image = row // height
        top = row - image * height
        place = (image * (height + 2) + top + 1) * (width + 2) + 1
        start = (image * (height + 2) + top) * line
        before = (row if images > 1 else top) * width
        x = 0
        while x < width:
            count = PIXELS if x + PIXELS <= width else 1
            where = (start + x * inputs, line, inputs, 3, run)
            for block in range(words):
                o = block * WORD
                taps = block * 3 * run * WORD
                b_at = ((before + x) * channels + o, channels)
                o_at = ((row * width + x) * channels + o, channels)
                if count == PIXELS:
                    _ENTER(y, where, weights, taps, static, b_at, out, o_at)
                else:
                    _ENTER_ONE(y, where, weights, taps, static, b_at, out, o_at)
                for p in range(count):
                    word = sign_word(out, (row * width + x + p) * channels + o, limit, o)
                    bits[(place + x + p) * words + block] = word
            x += count


@compiled
def multiply(begin, end, width, channels, x, weights, outputs, zeros, out):
    """Rows of products of every pixel; x [B, height, width, channels], out [..., outputs].

    weights : float32 [outputs / 16, channels, 16]; zeros : float32 [outputs].
    """
    at = begin * width
    while at < end * width:
        count = PIXELS if at + PIXELS <= end * width else 1
        where = (at * channels, 0, channels, 1, channels)
        for o in range(0, outputs, NARROW):
            o_at = (at * outputs + o, outputs)
            if count == PIXELS:
                _PRODUCTS(x, where, weights, o * channels, zeros, (o, 0), out, o_at)
            else:
                _PRODUCTS_ONE(x, where, weights, o * channels, zeros, (o, 0), out, o_at)
        at += count


@compiled
def leave(begin, end, height, width, outputs, size, products, bias, out):
    """Rows of the output convolution from its products with all pixels.

    products : float32 [B, height, width, size], the first 9 * outputs of them tap by tap; out :
    float32 [B, height, width, outputs]. Summing products of a pixel costs one pass over a few
    channels, where a window over the features would read them nine times.
    """
    for row in range(begin, end):
        y = row % height
        for x in range(width):
            for o in range(outputs):
                total = bias[o]
                for dy in range(-1, 2):
                    if 0 <= y + dy < height:
                        for dx in range(-1, 2):
                            if 0 <= x + dx < width:
                                at = ((row + dy) * width + x + dx) * size
                                total += products[at + (3 * (dy + 1) + dx + 1) * outputs + o]
                out[(row * width + x) * outputs + o] = total
