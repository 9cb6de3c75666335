"""The vector arithmetic of the kernels, written as LLVM vectors of any width.

LLVM turns them into the instructions of the processor at hand. Decided here: how many lanes and
pixels fit its registers, and whether it counts bits in words or in bytes.

Nothing here checks bounds: the caller must, and tests compare every kernel with a slow one over
odd sizes.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, config

from napari_hidiff.engine.layout import WORD


def _features() -> str:
    settings: Any = config
    if settings.CPU_FEATURES is not None:
        return str(settings.CPU_FEATURES)
    if settings.CPU_NAME == "generic":
        return ""
    return str(binding.get_host_cpu_features().flatten())


FEATURES = _features().split(",")
LANES = 16 if "+avx512f" in FEATURES else 8 if "+avx2" in FEATURES else 4
"""Words of 32 bits in a register."""
PIXELS = {16: 4, 8: 2, 4: 1}[LANES]
"""Pixels that are computed together: with 32 channels each, as many sums as registers hold."""
BYTEWISE = "+avx512vpopcntdq" not in FEATURES
"""Without an instruction for words, bits are counted and summed in bytes, at most 31 words long."""
LONGEST = 31

_I32, _F32 = ir.IntType(32), ir.FloatType()
INTS, FLOATS = ir.VectorType(_I32, LANES), ir.VectorType(_F32, LANES)
BYTES = ir.VectorType(ir.IntType(8), 4 * LANES)
_HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)

Builder = Any
Value = Any


class Given:
    """The arguments of an intrinsic by number: pointers of arrays, integers, unpacked tuples."""

    def __init__(self, context: Any, builder: Builder, signature: Any, args: Any) -> None:
        self.context, self.builder = context, builder
        self.types, self.values = signature.args, args

    def pointer(self, n: int) -> Value:
        array = cgutils.create_struct_proxy(self.types[n])(
            self.context, self.builder, value=self.values[n]
        )
        return array.data

    def numbers(self, n: int) -> list[Value]:
        return list(cgutils.unpack_tuple(self.builder, self.values[n]))


def call(builder: Builder, name: str, kind: Any, *args: Value) -> Value:
    """An LLVM intrinsic of a vector type, such as llvm.ctpop.v16i32."""
    letter = "f" if kind.element is _F32 else "i"
    bits = 32 if kind.element is _F32 else kind.element.width
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(kind, [kind] * len(args)),
        f"llvm.{name}.v{kind.count}{letter}{bits}",
    )
    return builder.call(function, args)


def splat(builder: Builder, value: Value, kind: Any) -> Value:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def fill(kind: Any, value: float) -> Value:
    return ir.Constant(kind, [value] * kind.count)


def at(builder: Builder, pointer: Value, *offsets: Value) -> Value:
    for offset in offsets:
        pointer = builder.gep(pointer, [offset])
    return pointer


def vector(builder: Builder, pointer: Value, kind: Any, *offsets: Value) -> Value:
    """Load a vector; only its elements are aligned."""
    address = builder.bitcast(at(builder, pointer, *offsets), kind.as_pointer())
    return builder.load(address, align=4)


def index(value: int) -> Value:
    return ir.Constant(ir.IntType(64), value)


def _widen(builder: Builder, counts: Value) -> Value:
    """Sums of the four bytes of each word, from bytes."""
    pairs = builder.bitcast(counts, _HALVES)
    pairs = builder.add(
        builder.and_(pairs, fill(_HALVES, 255)), builder.lshr(pairs, fill(_HALVES, 8))
    )
    words = builder.bitcast(pairs, INTS)
    return builder.add(builder.and_(words, fill(INTS, 65535)), builder.lshr(words, fill(INTS, 16)))


def accumulate(
    builder: Builder,
    sums: list[list[Value]],
    source: Value,
    where: list[Value],
    weights: Value,
    add: Callable[[Value, Value, Value], Value],
) -> Value:
    """``sums[pixel][part] = add(sum, weight, broadcast)`` over all elements of a window.

    where : offset of the window in ``source``, elements from one of its rows to the next, elements
    from one pixel to the next, rows, elements in a row. weights : [rows * elements, parts of
    registers]. Returns the pointer behind the weights that were read.
    """
    start, row_step, pixel_step, rows, run = where
    source, width = at(builder, source, start), index(len(sums[0]) * LANES)
    with cgutils.for_range(builder, rows) as row:
        line = builder.mul(row.index, row_step)
        taps = at(builder, weights, builder.mul(builder.mul(row.index, run), width))
        _elements(builder, sums, at(builder, source, line), pixel_step, run, taps, add)
    return at(builder, weights, builder.mul(builder.mul(rows, run), width))


def _elements(
    builder: Builder,
    sums: list[list[Value]],
    source: Value,
    pixel_step: Value,
    count: Value,
    weights: Value,
    add: Callable[[Value, Value, Value], Value],
) -> None:
    """The elements of one row of a window."""
    parts = len(sums[0])
    kind = FLOATS if weights.type.pointee == _F32 else INTS
    with cgutils.for_range(builder, count) as loop:
        here = at(builder, weights, builder.mul(loop.index, index(parts * LANES)))
        lanes = [vector(builder, here, kind, index(j * LANES)) for j in range(parts)]
        for p, row in enumerate(sums):
            offset = builder.add(builder.mul(pixel_step, index(p)), loop.index)
            broadcast = splat(builder, builder.load(at(builder, source, offset)), kind)
            for total, lane in zip(row, lanes, strict=True):
                builder.store(add(builder.load(total), lane, broadcast), total)


def popcounts(
    builder: Builder, sums: list[list[Value]], bits: Value, where: list[Value], weights: Value
) -> Value:
    """Add popcount(bits XOR weights) of a window to the sums, as :func:`accumulate` does."""
    kind = BYTES if BYTEWISE else INTS

    def add(total: Value, lane: Value, broadcast: Value) -> Value:
        differ = builder.bitcast(builder.xor(lane, broadcast), kind)
        return builder.add(total, call(builder, "ctpop", kind, differ))

    if not BYTEWISE:
        return accumulate(builder, sums, bits, where, weights, add)
    start, row_step, pixel_step, rows, run = where
    width = index(WORD)
    bits = at(builder, bits, start)
    chunks = builder.udiv(builder.add(run, index(LONGEST - 1)), index(LONGEST))
    with cgutils.for_range(builder, rows) as row, cgutils.for_range(builder, chunks) as chunk:
        first = builder.mul(chunk.index, index(LONGEST))
        left = builder.sub(run, first)
        short = builder.icmp_signed("<", left, index(LONGEST))
        count = builder.select(short, left, index(LONGEST))
        here = at(builder, bits, builder.mul(row.index, row_step), first)
        tap = builder.add(builder.mul(row.index, run), first)
        totals = [[variable(builder, BYTES) for _ in parts] for parts in sums]
        taps = at(builder, weights, builder.mul(tap, width))
        _elements(builder, totals, here, pixel_step, count, taps, add)
        for parts, counted in zip(sums, totals, strict=True):
            for part, total in zip(parts, counted, strict=True):
                wide = _widen(builder, builder.load(total))
                builder.store(builder.add(builder.load(part), wide), part)
    return at(builder, weights, builder.mul(builder.mul(rows, run), width))


def variable(builder: Builder, kind: Any) -> Value:
    """A zeroed local; LLVM keeps it in a register."""
    variable = cgutils.alloca_once(builder, kind)
    builder.store(ir.Constant(kind, None), variable)
    return variable
