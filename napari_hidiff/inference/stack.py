"""An image of any axes as slices that a model reads: one array, or one for every channel."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.lazy import planes
from napari_hidiff.slices import Index, slicer

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff
    from napari_hidiff.inference.preprocessing import Intensity

Channels = Literal["none", "first", "last", "apart"]
"""Where channels are: nowhere, on the first axis, on the last one, or in arrays of their own."""


class Stack:
    """One image, of which a model reads one slice at a time.

    arrays : one numeric array, or with ``apart`` one per channel, all of one shape; they are only
        read and never copied, lazy ones (dask, zarr) piece by piece. channels : where their
        channels are.

    Attributes
    ----------
    shape : of a mask of the image, its axes without channels.
    whole : whether the grey values of a slice are normalised by the statistics of all slices. They
        are for a volume; pictures (two axes) and series of colour pictures stand for themselves.

    Raises
    ------
    InputError : arrays of different shapes.
    """

    def __init__(self, arrays: Sequence[np.ndarray], channels: Channels = "none") -> None:
        self.arrays, self.channels = tuple(arrays), channels
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise InputError(f"the channels have different shapes: {', '.join(map(str, shapes))}")
        shape = self.arrays[0].shape
        self.shape = shape[channels == "first" : len(shape) - (channels == "last")]
        self.whole = len(self.shape) > 2 and channels != "last"
        self._measured: dict[Intensity, np.ndarray] = {}

    @property
    def facts(self) -> dict[str, int]:
        """What the log says of it: ``layers``, how many, where every channel is one."""
        return {"layers": len(self.arrays)} if self.channels == "apart" else {}

    def same(self, arrays: Sequence[np.ndarray], channels: Channels) -> bool:
        """Whether it was made from these very arrays."""
        return (
            channels == self.channels
            and len(arrays) == len(self.arrays)
            and all(mine is other for mine, other in zip(self.arrays, arrays, strict=True))
        )

    def plane(self, index: Index) -> np.ndarray:
        """A slice as it is stored, [H, W] or [H, W, C]; a view where that can be."""
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
        """A slice float32 [H, W, C] with normalised grey values; InputError as :meth:`read`."""
        from napari_hidiff.inference.preprocessing import check_image

        plane = check_image(self.plane(index), model.card.channels)
        if not self.whole:
            return model.intensity(plane)
        return model.intensity.scale(plane, self._statistics(model.intensity))

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
