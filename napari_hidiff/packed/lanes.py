"""The vector arithmetic of the kernels, written as LLVM's vectors of any width.

LLVM turns them into the instructions of the processor at hand; here is only decided how many
lanes and pixels fit its registers, and whether it counts bits in words or in bytes.

Functions take flat arrays and offsets in elements and check no bounds: whoever calls them answers
for that (tests compare every kernel with a slow one over odd sizes).
"""

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from napari_hidiff.packed.bits import WORD

NONE, SAME, MEAN, PAIR = 0, 1, 2, 3
"""Shortcuts: none, the same pixel, the mean of 2 x 2 pixels, the mean of two tensors."""


def _features() -> str:
    chosen = config.CPU_FEATURES
    if chosen is not None:
        return str(chosen)
    if config.CPU_NAME == "generic":
        return ""
    return str(binding.get_host_cpu_features().flatten())


FEATURES = _features().split(",")
LANES = 16 if "+avx512f" in FEATURES else 8 if "+avx2" in FEATURES else 4
"""Words of 32 bits in a register."""
PIXELS = {16: 4, 8: 2, 4: 1}[LANES]
"""Pixels that are computed together: with 32 channels each, as many sums as registers hold."""
BYTEWISE = "+avx512vpopcntdq" not in FEATURES
"""Without an instruction for words, bits are counted and summed in bytes, at most 31 words long."""
PARTS = WORD // LANES
LONGEST = 31

_I32, _F32 = ir.IntType(32), ir.FloatType()
_INTS, _FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)
_BYTES = ir.VectorType(ir.IntType(8), 4 * LANES)
_HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)

Builder = Any
Value = Any


class _Arrays:
    """The arguments of an intrinsic by name: pointers of arrays, integers, unpacked tuples."""

    def __init__(self, context: Any, builder: Builder, signature: Any, args: Any) -> None:
        self.context, self.builder = context, builder
        self.types, self.values = signature.args, args

    def pointer(self, index: int) -> Value:
        array = cgutils.create_struct_proxy(self.types[index])(
            self.context, self.builder, value=self.values[index]
        )
        return array.data

    def numbers(self, index: int) -> list[Value]:
        return list(cgutils.unpack_tuple(self.builder, self.values[index]))


def _call(builder: Builder, name: str, kind: Any, *args: Value) -> Value:
    """An LLVM intrinsic of a vector type, such as llvm.ctpop.v16i32."""
    letter = "f" if kind.element is _F32 else "i"
    bits = 32 if kind.element is _F32 else kind.element.width
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, [kind] * len(args)),
        f"llvm.{name}.v{kind.count}{letter}{bits}",
    )
    return builder.call(function, args)


def _splat(builder: Builder, value: Value, kind: Any) -> Value:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def _fill(kind: Any, value: float) -> Value:
    return ir.Constant(kind, [value] * kind.count)


def _at(builder: Builder, pointer: Value, *offsets: Value) -> Value:
    for offset in offsets:
        pointer = builder.gep(pointer, [offset])
    return pointer


def _vector(builder: Builder, pointer: Value, kind: Any, *offsets: Value) -> Value:
    """Load a vector; only its elements are aligned."""
    address = builder.bitcast(_at(builder, pointer, *offsets), kind.as_pointer())
    return builder.load(address, align=4)


def _index(value: int) -> Value:
    return ir.Constant(ir.IntType(64), value)


def _widen(builder: Builder, counts: Value) -> Value:
    """Sums of the four bytes of each word, from bytes."""
    pairs = builder.bitcast(counts, _HALVES)
    pairs = builder.add(
        builder.and_(pairs, _fill(_HALVES, 255)), builder.lshr(pairs, _fill(_HALVES, 8))
    )
    words = builder.bitcast(pairs, _INTS)
    return builder.add(
        builder.and_(words, _fill(_INTS, 65535)), builder.lshr(words, _fill(_INTS, 16))
    )


def _popcounts(
    builder: Builder, sums: list[list[Value]], bits: Value, where: list[Value], weights: Value
) -> Value:
    """Add popcount(bits XOR weights) of a window to ``sums`` [pixels][parts] of int32 vectors.

    where : offset of the window, words from one row of bits to the next, words from one pixel to
    the next, rows, words in a row. Returns the pointer behind the weights that were read.
    """
    start, row_step, pixel_step, rows, run = where
    kind = _BYTES if BYTEWISE else _INTS
    bits = _at(builder, bits, start)

    def words(row: Value, first: Value, count: Value, totals: list[list[Value]]) -> None:
        line = builder.add(builder.mul(row, row_step), first)
        taps = builder.mul(builder.add(builder.mul(row, run), first), _index(WORD))
        with cgutils.for_range(builder, count) as loop:
            here = _at(builder, weights, taps, builder.mul(loop.index, _index(WORD)))
            lanes = [_vector(builder, here, _INTS, _index(j * LANES)) for j in range(PARTS)]
            for p, parts in enumerate(totals):
                offset = builder.add(builder.mul(pixel_step, _index(p)), loop.index)
                word = builder.load(_at(builder, bits, line, offset))
                broadcast = _splat(builder, word, _INTS)
                for part, lane in zip(parts, lanes, strict=True):
                    differ = builder.bitcast(builder.xor(lane, broadcast), kind)
                    count_ = _call(builder, "ctpop", kind, differ)
                    builder.store(builder.add(builder.load(part), count_), part)

    with cgutils.for_range(builder, rows) as loop:
        if not BYTEWISE:
            words(loop.index, _index(0), run, sums)
        else:
            chunks = builder.udiv(builder.add(run, _index(LONGEST - 1)), _index(LONGEST))
            with cgutils.for_range(builder, chunks) as chunk:
                first = builder.mul(chunk.index, _index(LONGEST))
                left = builder.sub(run, first)
                short = builder.icmp_signed("<", left, _index(LONGEST))
                count = builder.select(short, left, _index(LONGEST))
                totals = [[_variable(builder, _BYTES) for _ in parts] for parts in sums]
                words(loop.index, first, count, totals)
                for parts, counted in zip(sums, totals, strict=True):
                    for part, total in zip(parts, counted, strict=True):
                        wide = _widen(builder, builder.load(total))
                        builder.store(builder.add(builder.load(part), wide), part)
    return _at(builder, weights, builder.mul(builder.mul(rows, run), _index(WORD)))


def _variable(builder: Builder, kind: Any) -> Value:
    """A zeroed local; LLVM keeps it in a register."""
    variable = cgutils.alloca_once(builder, kind)
    builder.store(ir.Constant(kind, None), variable)
    return variable


def make_tile(pixels: int) -> Callable[..., None]:
    """The intrinsic that computes 32 output channels of ``pixels`` pixels side by side."""

    @intrinsic
    def tile(
        typing: Any, a: Any, a_at: Any, b: Any, b_at: Any, weights: Any, w_at: Any, halves: Any,
        h_at: Any, coefficients: Any, c_at: Any, shortcut: Any, first: Any, second: Any,
        extra: Any, e_at: Any, out: Any, o_at: Any,
    ) -> Any:  # fmt: skip
        """TA(scale * 2 (halves - popcounts) + shift + shortcut) + extra, stored in ``out``.

        a, b : bits uint32 of one or two sources; a_at, b_at : as in :func:`_popcounts`.
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
            given = _Arrays(context, builder, signature, args)
            sums = [[_variable(builder, _INTS) for _ in range(PARTS)] for _ in range(pixels)]
            taps = _at(builder, given.pointer(4), args[5])
            taps = _popcounts(builder, sums, given.pointer(0), given.numbers(1), taps)
            _popcounts(builder, sums, given.pointer(2), given.numbers(3), taps)
            values = _affine(builder, sums, given)
            _shortcut(builder, values, given)
            _finish(builder, values, given)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _affine(builder: Builder, sums: list[list[Value]], given: _Arrays) -> list[list[Value]]:
    """Variables float32 [pixels][parts] with scale * (halves - sums) + shift."""
    table, cases = given.pointer(6), given.numbers(7)
    at, step = given.numbers(9)
    values = []
    for p, parts in enumerate(sums):
        case = cases[0] if p == 0 else cases[2] if p == len(sums) - 1 else cases[1]
        row = []
        for j, part in enumerate(parts):
            lane = _index(j * LANES)
            half = _vector(builder, table, _INTS, case, lane)
            scale = _vector(builder, given.pointer(8), _FLOATS, at, lane)
            shift = _vector(builder, given.pointer(8), _FLOATS, at, step, lane)
            total = builder.sitofp(builder.sub(half, builder.load(part)), _FLOATS)
            value = _variable(builder, _FLOATS)
            builder.store(_call(builder, "fmuladd", _FLOATS, total, scale, shift), value)
            row.append(value)
        values.append(row)
    return values


def _shortcut(builder: Builder, values: list[list[Value]], given: _Arrays) -> None:
    """Add the shortcut to ``values``; fetch what the next pixels to the right will need."""
    kind, first_at, second_at, per_pixel, per_row, larger = given.numbers(10)
    first = _at(builder, given.pointer(11), first_at)
    second = _at(builder, given.pointer(12), second_at)

    def add(sources: list[tuple[Value, Value]], factor: float, step: int) -> None:
        for pointer, _ in sources:
            for p in range(len(values)):
                ahead = builder.lshr(_index(step * (p + len(values))), larger)
                _prefetch(builder, _at(builder, pointer, builder.mul(ahead, per_pixel)))
        for p, parts in enumerate(values):
            at = builder.mul(builder.lshr(_index(step * p), larger), per_pixel)
            for j, value in enumerate(parts):
                lane = _index(j * LANES)
                loaded = [_vector(builder, q, _FLOATS, at, o, lane) for q, o in sources]
                total = loaded[0]
                for other in loaded[1:]:
                    total = builder.fadd(total, other)
                if factor != 1:
                    total = builder.fmul(total, _fill(_FLOATS, factor))
                builder.store(builder.fadd(builder.load(value), total), value)

    zero = _index(0)
    with builder.if_then(builder.icmp_signed("==", kind, _index(SAME))):
        add([(first, zero)], 1, 1)
    with builder.if_then(builder.icmp_signed("==", kind, _index(PAIR))):
        add([(first, zero), (second, zero)], 0.5, 1)
    with builder.if_then(builder.icmp_signed("==", kind, _index(MEAN))):
        below = _at(builder, first, per_row)
        add([(q, o) for q in (first, below) for o in (zero, per_pixel)], 0.25, 2)


def _prefetch(builder: Builder, pointer: Value) -> None:
    """Ask for the 128 bytes of 32 float32 channels; a wrong address does no harm."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    for offset in (0, 16):
        address = builder.bitcast(_at(builder, pointer, _index(offset)), byte)
        builder.call(function, [address, *(ir.Constant(_I32, n) for n in (0, 3, 1))])


def _finish(builder: Builder, values: list[list[Value]], given: _Arrays) -> None:
    """PReLU, the second shift and ``extra``; store."""
    at, step = given.numbers(9)
    wanted, extra_at, extra_step = given.numbers(14)
    out_at, out_step = given.numbers(16)
    rows = [_at(builder, given.pointer(8), at, builder.mul(step, _index(n))) for n in (2, 3)]
    slopes, zetas = ([_vector(builder, row, _FLOATS, _index(j * LANES)) for j in range(PARTS)]
                     for row in rows)  # fmt: skip
    for parts in values:
        for value, slope, zeta in zip(parts, slopes, zetas, strict=True):
            before = builder.load(value)
            positive = builder.fcmp_ordered(">", before, _fill(_FLOATS, 0.0))
            after = builder.select(positive, before, builder.fmul(before, slope))
            builder.store(builder.fadd(after, zeta), value)
    with builder.if_then(builder.icmp_signed("!=", wanted, _index(0))):
        for p, parts in enumerate(values):
            pixel = builder.mul(extra_step, _index(p))
            for j, value in enumerate(parts):
                lane = _index(j * LANES)
                add = _vector(builder, given.pointer(13), _FLOATS, extra_at, pixel, lane)
                builder.store(builder.fadd(builder.load(value), add), value)
    for p, parts in enumerate(values):
        pixel = _at(builder, given.pointer(15), out_at, builder.mul(out_step, _index(p)))
        for j, value in enumerate(parts):
            address = _at(builder, pixel, _index(j * LANES))
            builder.store(
                builder.load(value), builder.bitcast(address, _FLOATS.as_pointer()), align=4
            )


@intrinsic
def sign_word(typing: Any, x: Any, x_at: Any, threshold: Any, t_at: Any) -> Any:
    """uint32: bit c is x[x_at + c] >= threshold[t_at + c], for 32 channels of float32."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        given = _Arrays(context, builder, signature, args)
        word = ir.Constant(_I32, 0)
        for j in range(PARTS):
            lane = _index(j * LANES)
            value = _vector(builder, given.pointer(0), _FLOATS, args[1], lane)
            limit = _vector(builder, given.pointer(2), _FLOATS, args[3], lane)
            bits = builder.bitcast(builder.fcmp_ordered(">=", value, limit), ir.IntType(LANES))
            wide = builder.zext(bits, _I32)
            word = builder.or_(word, builder.shl(wide, ir.Constant(_I32, j * LANES)))
        return word

    return types.uint32(x, x_at, threshold, t_at), generate


@intrinsic
def add_scaled(typing: Any, out: Any, o_at: Any, w: Any, w_at: Any, factor: Any) -> Any:
    """out[o_at + c] += factor * w[w_at + c] for 32 channels of float32."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Value:
        given = _Arrays(context, builder, signature, args)
        broadcast = _splat(builder, args[4], _FLOATS)
        for j in range(PARTS):
            lane = _index(j * LANES)
            value = _vector(builder, given.pointer(0), _FLOATS, args[1], lane)
            weight = _vector(builder, given.pointer(2), _FLOATS, args[3], lane)
            address = _at(builder, given.pointer(0), args[1], lane)
            total = _call(builder, "fmuladd", _FLOATS, broadcast, weight, value)
            builder.store(total, builder.bitcast(address, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(out, o_at, w, w_at, factor), generate
