"""Microkernels: a few pixels by one block of channels, in registers throughout.

Kernels call these functions; they take flat arrays and offsets in elements.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from napari_hidiff.engine.layout import WORD
from napari_hidiff.engine.simd import (
    FLOATS,
    INTS,
    LANES,
    Builder,
    Given,
    Value,
    accumulate,
    at,
    call,
    fill,
    index,
    popcounts,
    variable,
    vector,
)

NONE, SAME, MEAN, PAIR = 0, 1, 2, 3
"""Shortcuts: none, the same pixel, the mean of 2 x 2 pixels, the mean of two tensors."""
PARTS = WORD // LANES
_I32 = ir.IntType(32)


def make_tile(pixels: int) -> Callable[..., None]:
    """The intrinsic that computes 32 output channels of ``pixels`` pixels side by side."""

    @intrinsic
    def tile(
        typing: Any, a: Any, a_at: Any, b: Any, b_at: Any, weights: Any, w_at: Any, halves: Any,
        h_at: Any, coefficients: Any, c_at: Any, shortcut: Any, first: Any, second: Any,
        extra: Any, e_at: Any, out: Any, o_at: Any,
    ) -> Any:  # fmt: skip
        """TA(scale * 2 (halves - popcounts) + shift + shortcut) + extra, stored in ``out``.

        a, b : bits uint32 of one or two sources; a_at, b_at : as in :func:`popcounts`.
        weights : uint32 from w_at on; halves : int32, h_at : offsets for the first pixel, those
            between and the last; coefficients : float32 scale, shift, slope, zeta; c_at: the
            offset of scale, and from one to the next.
        shortcut : kind, offsets in ``first`` and ``second`` (float32), elements per pixel and
            row, and 1 where the shortcut's pixels are twice as large, else 0.
        extra : float32 to add last; e_at : 0 or 1 (whether), offset, elements per pixel.
        out : float32, may be one of the tensors of the shortcut; o_at : offset, per pixel.
        """
        signature = types.void(
            a, a_at, b, b_at, weights, w_at, halves, h_at, coefficients, c_at, shortcut, first,
            second, extra, e_at, out, o_at,
        )  # fmt: skip

        def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
            given = Given(context, builder, signature, args)
            sums = [[variable(builder, INTS) for _ in range(PARTS)] for _ in range(pixels)]
            taps = at(builder, given.pointer(4), args[5])
            taps = popcounts(builder, sums, given.pointer(0), given.numbers(1), taps)
            popcounts(builder, sums, given.pointer(2), given.numbers(3), taps)
            values = _affine(builder, sums, given)
            _shortcut(builder, values, given)
            _finish(builder, values, given)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _affine(builder: Builder, sums: list[list[Value]], given: Given) -> list[list[Value]]:
    """Variables float32 [pixels][parts] with scale * (halves - sums) + shift."""
    table, cases = given.pointer(6), given.numbers(7)
    start, step = given.numbers(9)
    values = []
    for p, parts in enumerate(sums):
        case = cases[0] if p == 0 else cases[2] if p == len(sums) - 1 else cases[1]
        row = []
        for j, part in enumerate(parts):
            lane = index(j * LANES)
            half = vector(builder, table, INTS, case, lane)
            scale = vector(builder, given.pointer(8), FLOATS, start, lane)
            shift = vector(builder, given.pointer(8), FLOATS, start, step, lane)
            total = builder.sitofp(builder.sub(half, builder.load(part)), FLOATS)
            value = variable(builder, FLOATS)
            # Two roundings, as in torch: fused they are one, and a sign somewhere differs.
            builder.store(builder.fadd(builder.fmul(total, scale), shift), value)
            row.append(value)
        values.append(row)
    return values


def _shortcut(builder: Builder, values: list[list[Value]], given: Given) -> None:
    """Add the shortcut to ``values``; prefetch the pixels to the right."""
    kind, first_at, second_at, per_pixel, per_row, larger = given.numbers(10)
    first = at(builder, given.pointer(11), first_at)
    second = at(builder, given.pointer(12), second_at)

    def add(sources: list[tuple[Value, Value]], factor: float, step: int) -> None:
        for pointer, offset in sources:
            for p in range(len(values)):
                ahead = builder.lshr(index(step * (p + len(values))), larger)
                _prefetch(builder, at(builder, pointer, builder.mul(ahead, per_pixel), offset))
        for p, parts in enumerate(values):
            place = builder.mul(builder.lshr(index(step * p), larger), per_pixel)
            for j, value in enumerate(parts):
                lane = index(j * LANES)
                loaded = [vector(builder, q, FLOATS, place, o, lane) for q, o in sources]
                total = loaded[0]
                for other in loaded[1:]:
                    total = builder.fadd(total, other)
                if factor != 1:
                    total = builder.fmul(total, fill(FLOATS, factor))
                builder.store(builder.fadd(builder.load(value), total), value)

    zero = index(0)
    with builder.if_then(builder.icmp_signed("==", kind, index(SAME))):
        add([(first, zero)], 1, 1)
    with builder.if_then(builder.icmp_signed("==", kind, index(PAIR))):
        add([(first, zero), (second, zero)], 0.5, 1)
    with builder.if_then(builder.icmp_signed("==", kind, index(MEAN))):
        below = at(builder, first, per_row)
        add([(q, o) for q in (first, below) for o in (zero, per_pixel)], 0.25, 2)


def _prefetch(builder: Builder, pointer: Value) -> None:
    """Ask for the 128 bytes of 32 float32 channels; a wrong address does no harm."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    for offset in (0, 16):
        address = builder.bitcast(at(builder, pointer, index(offset)), byte)
        builder.call(function, [address, *(ir.Constant(_I32, n) for n in (0, 3, 1))])


def _finish(builder: Builder, values: list[list[Value]], given: Given) -> None:
    """PReLU, the second shift and ``extra``; store."""
    start, step = given.numbers(9)
    wanted, extra_at, extra_step = given.numbers(14)
    out_at, out_step = given.numbers(16)
    rows = [at(builder, given.pointer(8), start, builder.mul(step, index(n))) for n in (2, 3)]
    slopes, zetas = ([vector(builder, row, FLOATS, index(j * LANES)) for j in range(PARTS)]
                     for row in rows)  # fmt: skip
    for parts in values:
        for value, slope, zeta in zip(parts, slopes, zetas, strict=True):
            before = builder.load(value)
            positive = builder.fcmp_ordered(">", before, fill(FLOATS, 0.0))
            after = builder.select(positive, before, builder.fmul(before, slope))
            builder.store(builder.fadd(after, zeta), value)
    with builder.if_then(builder.icmp_signed("!=", wanted, index(0))):
        for p, parts in enumerate(values):
            pixel = builder.mul(extra_step, index(p))
            for j, value in enumerate(parts):
                lane = index(j * LANES)
                add = vector(builder, given.pointer(13), FLOATS, extra_at, pixel, lane)
                builder.store(builder.fadd(builder.load(value), add), value)
    for p, parts in enumerate(values):
        pixel = at(builder, given.pointer(15), out_at, builder.mul(out_step, index(p)))
        for j, value in enumerate(parts):
            address = at(builder, pixel, index(j * LANES))
            builder.store(
                builder.load(value), builder.bitcast(address, FLOATS.as_pointer()), align=4
            )


@intrinsic
def _sign_word(typing: Any, x: Any, x_at: Any, threshold: Any, t_at: Any) -> Any:
    """uint32: bit c is x[x_at + c] >= threshold[t_at + c], for 32 channels of float32."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        given = Given(context, builder, signature, args)
        word = ir.Constant(_I32, 0)
        for j in range(PARTS):
            lane = index(j * LANES)
            value = vector(builder, given.pointer(0), FLOATS, args[1], lane)
            limit = vector(builder, given.pointer(2), FLOATS, args[3], lane)
            bits = builder.bitcast(builder.fcmp_ordered(">=", value, limit), ir.IntType(LANES))
            wide = builder.zext(bits, _I32)
            word = builder.or_(word, builder.shl(wide, ir.Constant(_I32, j * LANES)))
        return word

    return types.uint32(x, x_at, threshold, t_at), generate


sign_word: Any = _sign_word
"""The same for type checkers: the call in a kernel has no argument ``typing``."""


def make_dense(pixels: int, width: int) -> Callable[..., None]:
    """The intrinsic of real products, for ``width`` output channels of ``pixels`` pixels."""

    @intrinsic
    def dense(
        typing: Any, x: Any, x_at: Any, weights: Any, w_at: Any, base: Any, b_at: Any,
        out: Any, o_at: Any,
    ) -> Any:  # fmt: skip
        """out = (the sum of x * weights over a window) + base; all float32.

        x, x_at : as the bits of a tile; weights : [window, width] from w_at on; b_at, o_at :
        offset, and elements from one pixel to the next.
        """

        def add(builder: Builder) -> Callable[[Value, Value, Value], Value]:
            return lambda total, lane, one: call(builder, "fmuladd", FLOATS, lane, one, total)

        def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
            given = Given(context, builder, signature, args)
            sums: list[list[Value]] = []
            base_at, base_step = given.numbers(5)
            out_at, out_step = given.numbers(7)
            for _ in range(pixels):
                sums.append([variable(builder, FLOATS) for _ in range(width // LANES)])
            taps = at(builder, given.pointer(2), args[3])
            accumulate(builder, sums, given.pointer(0), given.numbers(1), taps, add(builder))
            for p, parts in enumerate(sums):
                base = at(builder, given.pointer(4), base_at, builder.mul(base_step, index(p)))
                first = at(builder, given.pointer(6), out_at, builder.mul(out_step, index(p)))
                for j, part in enumerate(parts):
                    lane = index(j * LANES)
                    total = builder.fadd(builder.load(part), vector(builder, base, FLOATS, lane))
                    address = builder.bitcast(at(builder, first, lane), FLOATS.as_pointer())
                    builder.store(total, address, align=4)
            return context.get_dummy_value()

        return types.void(x, x_at, weights, w_at, base, b_at, out, o_at), generate

    return dense
