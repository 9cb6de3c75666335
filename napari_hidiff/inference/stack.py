"""An image of any axes as slices for a model: one array, or one per channel.

:class:`Stack` reads slices. :func:`check_lazy` and :func:`planes` read lazy arrays (dask, zarr)
piece by piece as NumPy arrays. :func:`guess` assigns images to channels by their names.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.preprocessing import check_image, neighbours
from napari_hidiff.masks import Index, slicer

if TYPE_CHECKING:
    from napari_hidiff.inference.card import Card
    from napari_hidiff.inference.model import HiDiff
    from napari_hidiff.inference.preprocessing import Intensity

Channels = Literal["none", "first", "last", "apart"]
"""The place of channels: none, the first axis, the last axis, or one array per channel."""
MOST = 2**32
"""Largest lazy image in bytes: it is read as a whole, for its key and its grey values.
"""
AT_ONCE = 2**28
"""Bytes of a lazy image to read at once; at least one plane."""
ALIKE = (
    {"flair", "t2f", "t2flair"},
    {"t1", "t1w", "t1n"},
    {"t1ce", "t1c", "t1gd", "t1post", "t1wce"},
    {"t2", "t2w"},
    {"red", "r"},
    {"green", "g"},
    {"blue", "b"},
)
"""Names of the same channel in different data sets."""


class Stack:
    """One image as slices for a model.

    arrays : one numeric array, or with ``apart`` one per channel, all of one shape; they are read
        only and never copied, lazy ones (dask, zarr) piece by piece. channels : the place of the
        channels. spacing : of the axes without channels in mm, None = unknown.

    Attributes
    ----------
    shape : of a mask of the image, its axes without channels.
    whole : whether a slice is normalised by the statistics of all slices: True for a volume, False
        for pictures (two axes) and series of colour pictures.

    Raises
    ------
    InputError : arrays of different shapes.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        channels: Channels = "none",
        spacing: Sequence[float] | None = None,
    ) -> None:
        self.arrays, self.channels, self.spacing = tuple(arrays), channels, spacing
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise InputError(f"the channels have different shapes: {', '.join(map(str, shapes))}")
        shape = self.arrays[0].shape
        self.shape = shape[channels == "first" : len(shape) - (channels == "last")]
        self.whole = len(self.shape) > 2 and channels != "last"
        self._measured: dict[Intensity, np.ndarray] = {}

    @property
    def facts(self) -> dict[str, int]:
        """For the log: ``layers``, the number of layers, if each channel is one."""
        return {"layers": len(self.arrays)} if self.channels == "apart" else {}

    def same(
        self,
        arrays: Sequence[np.ndarray],
        channels: Channels,
        spacing: Sequence[float] | None = None,
    ) -> bool:
        """Whether it was made from exactly these arrays."""
        return (
            (channels, spacing) == (self.channels, self.spacing)
            and len(arrays) == len(self.arrays)
            and all(mine is other for mine, other in zip(self.arrays, arrays, strict=True))
        )

    def scale(self, card: "Card", index: Index) -> float:
        """The factor by which a slice is resampled for a model (:meth:`Card.scale`)."""
        shown = [axis for axis, at in enumerate(index) if at < 0]
        sides = None if self.spacing is None else [self.spacing[axis] for axis in shown]
        return card.scale([self.shape[axis] for axis in shown], sides)

    def plane(self, index: Index) -> np.ndarray:
        """A slice as stored, [H, W] or [H, W, C]; a view if possible."""
        lead = (slice(None),) if self.channels == "first" else ()
        return self._joined([np.asarray(array[lead + slicer(index)]) for array in self.arrays])

    def _joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The same part of every array as one, with channels last if there are any."""
        if self.channels == "apart":
            return np.stack(parts, -1)
        return np.moveaxis(parts[0], 0, -1) if self.channels == "first" else parts[0]

    def read(self, model: "HiDiff", index: Index) -> tuple[np.ndarray, bool]:
        """A slice for :meth:`HiDiff.prior` and :meth:`HiDiff.steps`, and whether it is normalised.

        The first slice of a volume takes as long as measuring the volume. InputError when the
        model cannot read it.
        """
        return (self.normalised(model, index) if self.whole else self.plane(index)), self.whole

    def normalised(self, model: "HiDiff", index: Index) -> np.ndarray:
        """A slice float32 [H, W, C] with normalised grey values, and its neighbours for a model of
        several slices (:attr:`Card.inputs`); InputError as :meth:`read`."""
        if not self.whole or model.card.prompted:  # a window is normalised on its own
            return model.intensity(model.check_image(self.plane(index)))
        measured = self._statistics(model.intensity)
        near = (self.plane(there) for there in self._around(index, model.card.slices))
        planes = [check_image(plane, model.card.channels) for plane in near]
        return np.concatenate([model.intensity.scale(plane, measured) for plane in planes], -1)

    def _around(self, index: Index, slices: int) -> list[Index]:
        """The slices around one, along the last axis that is not shown."""
        axis = max(axis for axis, at in enumerate(index) if at >= 0)
        there = neighbours(index[axis], self.shape[axis], slices)
        return [(*index[:axis], at, *index[axis + 1 :]) for at in there]

    def _statistics(self, intensity: "Intensity") -> np.ndarray:
        if intensity not in self._measured:
            first = self.arrays[0].shape
            counts = {"none": 1, "first": first[0], "last": first[-1], "apart": len(self.arrays)}
            parts = _Parts(self)
            self._measured[intensity] = intensity.measure(parts, counts[self.channels])
        return self._measured[intensity]


class _Parts:
    """A stack [..., C] along its first axis, a part at a time: copies would be a second volume."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def __iter__(self) -> Iterator[np.ndarray]:
        stack = self._stack
        each = (planes(array, int(stack.channels == "first")) for array in stack.arrays)
        for parts in zip(*each, strict=True):
            joined = stack._joined(parts)
            yield joined[..., None] if stack.channels == "none" else joined


def check_lazy(data: Any, name: str) -> None:
    """InputError if ``data`` is no array of a known size, or a lazy one beyond :data:`MOST`.

    name : of the image, for the message.
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
    """The planes of an array along an axis, in order and without that axis.

    Planes of a NumPy array are views. Of a lazy array all planes of a chunk are read at once, so
    that no chunk is read twice, unless they are larger than :data:`AT_ONCE`.
    """
    for first, last in _runs(array, axis):
        part = np.asarray(array[(*(slice(None),) * axis, slice(first, last))])
        yield from np.moveaxis(part, axis, 0)


def _runs(array: Any, axis: int) -> Iterator[tuple[int, int]]:
    """Ranges of positions along an axis to read together."""
    length = array.shape[axis]
    if isinstance(array, np.ndarray):
        yield 0, length
        return
    plane = int(np.prod(array.shape)) // max(length, 1) * array.dtype.itemsize
    most = max(1, AT_ONCE // max(plane, 1))
    chunks = getattr(array, "chunks", None) or (1,) * array.ndim
    sizes = chunks[axis]  # dask lists all sizes, zarr has one for all chunks
    ends = np.cumsum(sizes) if isinstance(sizes, tuple) else range(sizes, length + sizes, sizes)
    first = 0
    for end in ends:
        stop = min(int(end), length)
        for start in range(first, stop, most):
            yield start, min(start + most, stop)
        first = stop


def guess(channels: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """For every channel the position of the only name that has it as a word, else None.

    Case and separators do not matter; ``BraTS2021_00000_t1ce`` is ``t1ce`` and not ``t1``. If two
    names fit, there is no guess.
    """
    words = [set(re.split(r"[^a-z0-9]+", name.lower())) for name in names]
    places: list[int | None] = []
    for channel in channels:
        wanted = channel.lower()
        meant = next((alike for alike in ALIKE if wanted in alike), {wanted})
        holding = [at for at, said in enumerate(words) if meant & said]
        places.append(holding[0] if len(holding) == 1 else None)
    left = [at for at in range(len(names)) if at not in places]
    if places.count(None) == 1 and len(names) == len(channels) and len(left) == 1:
        places[places.index(None)] = left[0]  # the last name is the last channel
    return [at if places.count(at) == 1 else None for at in places]
