"""An image of any axes as slices that a model reads: one array, or one for every channel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.slices import Index, slicer

if TYPE_CHECKING:
    from napari_hidiff.model import HiDiff
    from napari_hidiff.preprocess import Intensity

Channels = Literal["none", "first", "last", "apart"]
"""Where channels are: nowhere, on the first axis, on the last one, or in arrays of their own."""


class Stack:
    """One image, of which a model reads one slice at a time.

    arrays : one numeric array, or with ``apart`` one per channel, all of one shape; they are only
        read and never copied. channels : where their channels are.

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
        if self.channels == "apart":
            return np.stack([array[slicer(index)] for array in self.arrays], -1)
        if self.channels == "first":
            return np.moveaxis(self.arrays[0][(slice(None), *slicer(index))], 0, -1)
        return self.arrays[0][slicer(index)]

    def read(self, model: "HiDiff", index: Index) -> tuple[np.ndarray, bool]:
        """A slice for :meth:`HiDiff.prior` and :meth:`HiDiff.steps`, and whether it is normalised.

        The first slice of a volume takes as long as measuring the volume. InputError when the
        model cannot read it.
        """
        plane = self.plane(index)
        if not self.whole:
            return plane, False
        return self.normalised(model, index), True

    def normalised(self, model: "HiDiff", index: Index) -> np.ndarray:
        """A slice float32 [H, W, C] with normalised grey values; InputError as :meth:`read`."""
        from napari_hidiff.preprocess import check_image

        plane = check_image(self.plane(index), model.card.channels)
        if not self.whole:
            return model.intensity(plane)
        return model.intensity.scale(plane, self._statistics(model.intensity))

    def _statistics(self, intensity: "Intensity") -> np.ndarray:
        if intensity not in self._measured:
            parts = _Parts(self)
            self._measured[intensity] = intensity.measure(parts)
        return self._measured[intensity]


class _Parts(Sequence[np.ndarray]):
    """A stack [..., C] along its first axis, a part at a time: copies would be a second volume."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def __len__(self) -> int:
        return self._stack.shape[0]

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < len(self):
            raise IndexError(at)
        part = self._stack.plane((at, *(-1,) * (len(self._stack.shape) - 1)))
        return part[..., None] if self._stack.channels == "none" else part
