"""The layout of signs as bits, and binary weights in it; NumPy only.

A sign is one bit: 1 for +1, 0 for -1. 32 channels make a word (uint32, channel c is bit c % 32),
so that every width the refiner can have, a multiple of 32, is whole words.

Activations: uint32 [B, H + 2, W + 2, words], channels last, with a border of one pixel that is
always 0. The three taps of a row of a 3 x 3 window are then one run of 3 * words words.

Weights: uint32 [blocks, taps * words, 32]. A block is 32 output channels, which lie side by side
because they are the lanes of the vector registers; taps go row by row, then word by word.

A product of n signs is n - 2 popcount(a XOR w). In the border the bits are 0, that is -1, but
zero padding needs 0. The contribution of these taps is a constant per case, and there are 16 cases:
the sides of the window that lie outside (:func:`halves`).

:class:`Memory` has the arrays of a step. :class:`Shelf` reuses them in the next one, since fresh
pages cost more than many a kernel.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

WORD = 32
"""Channels in a word, and output channels in a block of weights."""

TOP, BOTTOM, LEFT, RIGHT = 1, 2, 4, 8
"""A case of the border is the sum of the sides of the window outside the image."""
CASES = 16


def words_of(signs: np.ndarray) -> np.ndarray:
    """bool [..., C] as uint32 [..., C / 32]; C is a multiple of 32."""
    packed = np.packbits(signs, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4").astype(np.uint32)


def pack_activations(x: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """The bits x >= threshold with their border; x [B, H, W, C], threshold [C].

    The reference of the kernels, for tests and for arrays that are packed once.
    """
    batch, height, width, channels = x.shape
    bits = np.zeros((batch, height + 2, width + 2, channels // WORD), np.uint32)
    bits[:, 1:-1, 1:-1] = words_of(x >= threshold)
    return bits


def pack_weights(signs: np.ndarray) -> np.ndarray:
    """bool [O, I, k, k] (True for +1) as uint32 [O / 32, k * k * I / 32, 32]."""
    outputs = signs.shape[0]
    words = words_of(signs.transpose(0, 2, 3, 1)).reshape(outputs // WORD, WORD, -1)
    return np.ascontiguousarray(words.transpose(0, 2, 1))


def halves(signs: np.ndarray) -> np.ndarray:
    """int32 [16, O]: h such that a zero-padded sum of products is 2 (h - popcounts).

    signs : bool [O, I, k, k], k = 1 or 3. Row c belongs to case c of the border: n / 2 less the
    contribution of the taps outside, inputs - 2 popcount(w) each. All are whole, because the
    number of inputs is even.
    """
    outputs, inputs, kernel, _ = signs.shape
    contribution = inputs // 2 - signs.sum(1, dtype=np.int64)  # [O, k, k], in halves
    table = np.full((CASES, outputs), inputs * kernel**2 // 2, np.int64)
    if kernel == 3:
        for case in range(CASES):
            outside = np.zeros((3, 3), bool)
            outside[0] |= bool(case & TOP)
            outside[2] |= bool(case & BOTTOM)
            outside[:, 0] |= bool(case & LEFT)
            outside[:, 2] |= bool(case & RIGHT)
            table[case] -= contribution[:, outside].sum(1)
    return table.astype(np.int32)


Size = tuple[int, int, int]
"""Batch, height and width of a tensor."""
Values = np.ndarray
"""float32, flat, channels last."""

KEPT, SMALL = 2**30, 2**28
"""Bytes of arrays that wait for later steps, in all and beside a new set of another size."""


class Memory:
    """The arrays of one step, by name; all steps of one image size use the same."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, Size, int], np.ndarray] = {}

    def values(self, name: str, size: Size, channels: int) -> Values:
        """float32 flat [B, H, W, channels], not initialised."""
        key = (name, size, channels)
        if key not in self._arrays:
            self._arrays[key] = np.empty(int(np.prod(size)) * channels, np.float32)
        return self._arrays[key]

    def bits(self, name: str, size: Size, channels: int) -> np.ndarray:
        """uint32 flat [B, H + 2, W + 2, channels / 32]; kernels never write its border of zeros."""
        key = (name + ".bits", size, channels)
        if key not in self._arrays:
            batch, height, width = size
            count = batch * (height + 2) * (width + 2) * (channels // WORD)
            self._arrays[key] = np.zeros(count, np.uint32)
        return self._arrays[key]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._arrays.values())


class Shelf:
    """Sets of arrays that wait for the next step; thread-safe."""

    def __init__(self) -> None:
        self._free: OrderedDict[int, tuple[Size, Memory]] = OrderedDict()
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def borrow(self, size: Size) -> Iterator[Memory]:
        """A set of arrays for tensors of this size, for exclusive use."""
        with self._lock:
            found = next((n for n, (of, _) in self._free.items() if of == size), None)
            if found is None:
                self._keep(SMALL)
            memory = Memory() if found is None else self._free.pop(found)[1]
        yield memory
        with self._lock:  # not reached after an error: those arrays are not used again
            self._count += 1
            self._free[self._count] = size, memory
            self._keep(KEPT)

    def _keep(self, limit: int) -> None:
        """Drop the oldest sets until at most ``limit`` bytes are left."""
        while sum(memory.nbytes for _, memory in self._free.values()) > limit:
            self._free.popitem(last=False)

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        Shelf.__init__(self)

    def __deepcopy__(self, memo: dict[int, object]) -> "Shelf":
        return Shelf()
