"""Arrays that are used again from step to step: fresh pages cost more than many a kernel."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from napari_hidiff.engine.layout import WORD

Size = tuple[int, int, int]
"""Batch, height and width of a tensor."""
Values = np.ndarray
"""float32, flat, channels last."""

KEPT, SMALL = 2**30, 2**28
"""Bytes of arrays that are kept for later steps, and beside a set of another size that is made;
several threads make as many sets as they need."""


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
    """Sets of arrays that wait for the next step; safe among threads."""

    def __init__(self) -> None:
        self._free: OrderedDict[int, tuple[Size, Memory]] = OrderedDict()
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def borrow(self, size: Size) -> Iterator[Memory]:
        """A set of arrays that nobody else uses meanwhile, for tensors of this size."""
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
        """Drop the oldest sets until the rest holds no more bytes than that."""
        while sum(memory.nbytes for _, memory in self._free.values()) > limit:
            self._free.popitem(last=False)

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        Shelf.__init__(self)

    def __deepcopy__(self, memo: dict[int, object]) -> "Shelf":
        return Shelf()
