"""Arrays that are read when they are needed (dask, zarr), piece by piece, as NumPy arrays."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError

MOST = 2**32
"""Bytes of a lazy image that is worked on: it is read as a whole, for its key and its grey values.
"""
AT_ONCE = 2**28
"""Bytes that are read of it at once, where a plane is not larger."""


def check_lazy(data: Any, name: str) -> None:
    """InputError where ``data`` is no array of a known size, or a lazy one beyond :data:`MOST`.

    name : of the image, for the line.
    """
    if isinstance(data, np.ndarray):
        return
    try:
        size = int(np.prod(data.shape, dtype=float)) * np.dtype(data.dtype).itemsize
    except (AttributeError, TypeError, ValueError) as error:
        kind = type(data).__module__.split(".")[0]
        raise InputError(f"{name} is of a kind that cannot be read ({kind}).") from error
    if size > MOST:
        raise InputError(
            f"{name} is lazy and has {size / 1e9:.3g} GB, more than {MOST / 1e9:.2g}: open a part "
            "of it, or a coarser level, as an image of its own."
        )


def planes(array: Any, axis: int = 0) -> Iterator[np.ndarray]:
    """The parts of an array along an axis, one after the other and without that axis.

    Of a NumPy array they are views. Of another one as many are read at once as hang together in
    its chunks, so that no chunk is read twice, unless these are larger than :data:`AT_ONCE`.
    """
    for first, last in _runs(array, axis):
        part = np.asarray(array[(*(slice(None),) * axis, slice(first, last))])
        yield from np.moveaxis(part, axis, 0)


def _runs(array: Any, axis: int) -> Iterator[tuple[int, int]]:
    """Runs of positions along an axis, first and after the last, that are read together."""
    length = array.shape[axis]
    if isinstance(array, np.ndarray):
        yield 0, length
        return
    plane = int(np.prod(array.shape)) // max(length, 1) * array.dtype.itemsize
    most = max(1, AT_ONCE // max(plane, 1))
    chunks = getattr(array, "chunks", None) or (1,) * array.ndim
    sizes = chunks[axis]  # dask gives all sizes, zarr the one that all chunks have
    ends = np.cumsum(sizes) if isinstance(sizes, tuple) else range(sizes, length + sizes, sizes)
    first = 0
    for end in ends:
        stop = min(int(end), length)
        for start in range(first, stop, most):
            yield start, min(start + most, stop)
        first = stop
