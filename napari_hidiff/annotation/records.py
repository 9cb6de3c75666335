"""What outlives the program of a slice, in memory and as text."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from napari_hidiff.annotation.fixed import FREE
from napari_hidiff.masks import of_mask, pack, unpack
from napari_hidiff.slices import Index, shown


class SliceRecord(NamedTuple):
    """What outlives the program: strokes int32 [H, W]; the accepted mask [H, W] or None."""

    fixed: np.ndarray
    accepted: np.ndarray | None


def _fixed(fixed: np.ndarray) -> str:
    where = np.flatnonzero(fixed != FREE)
    return pack(where, fixed.ravel()[where])


def packed(slices: Mapping[Index, SliceRecord]) -> list[dict[str, Any]]:
    """Slices as the file has them, JSON-able; the inverse of :func:`records`."""
    found: list[dict[str, Any]] = []
    for index, record in slices.items():
        found.append({"slice": index, "fixed": _fixed(record.fixed)})
        if record.accepted is not None:
            found[-1]["accepted"] = of_mask(record.accepted)
    return found


def _unpack(text: str, size: tuple[int, ...], rest: int, dtype: type) -> np.ndarray:
    values: np.ndarray = np.full(size, rest, dtype)
    where, labels = unpack(text, values.size)
    if labels.size and labels.max() > np.iinfo(dtype).max:
        raise ValueError("a label is out of range")
    values.reshape(-1)[where] = labels
    return values


def records(packed: list[dict[str, Any]], shape: Sequence[int]) -> dict[Index, SliceRecord]:
    """Slices as the file has them, unpacked; ValueError and others where they are damaged."""
    slices = {}
    for one in packed:
        index = tuple(one["slice"])
        size = shown(shape, index)
        accepted = one.get("accepted")
        slices[index] = SliceRecord(
            _unpack(one["fixed"], size, FREE, np.int32),
            None if accepted is None else _unpack(accepted, size, 0, np.uint8),
        )
    return slices
