"""How large what a mask shows is: area or volume of every class and of its objects, as a table."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from napari_hidiff.errors import InputError
from napari_hidiff.io.record import named
from napari_hidiff.io.storage import write_table
from napari_hidiff.masks import Label

COLUMNS = ("label", "class", "object", "pixels", "size", "unit")
"""Of a table; in a file the name of the mask's file comes first."""
MM2, ML = "mm2", "ml"
UNITS = {2: MM2, 3: ML}
"""Unit of a size, by the number of axes of the mask."""


class Size(NamedTuple):
    """The size of a class, or of one of its objects.

    label, name : of the class. object : number of a connected part, 1 = the largest; None = the
    whole class. pixels : or voxels. size : in ``unit``, mm2 or ml; without a spacing None and "".
    """

    label: int
    name: str
    object: int | None
    pixels: int
    size: float | None
    unit: str


def sizes_of(
    mask: np.ndarray, classes: Sequence[Label] | None, spacing: Sequence[float] | None
) -> list[Size]:
    """The classes in a mask, each followed by its objects, if it has several; the largest first.

    mask : integers [H, W] or [D, H, W], 0 = background. classes : names by label, background
    first; None = unknown. spacing : in mm along the axes; None = unknown.

    An object is a connected part: a pixel touches 8 others, a voxel 26.

    Raises
    ------
    InputError : the mask has another number of axes.
    """
    if mask.ndim not in UNITS:
        raise InputError(f"sizes are those of a picture or a volume, not of {mask.ndim} axes")
    names = named(classes, int(mask.max(initial=0)) + 1)
    touching = np.ones((3,) * mask.ndim)
    found = []
    for label, place in enumerate(ndimage.find_objects(mask.astype(np.int32)), 1):
        if place is None:
            continue
        parts, _ = ndimage.label(mask[place] == label, touching)
        counts = np.sort(np.bincount(parts.ravel())[1:])[::-1].tolist()
        numbered: list[tuple[int | None, int]] = [(None, sum(counts))]
        if len(counts) > 1:
            numbered += enumerate(counts, 1)
        for number, pixels in numbered:
            size = None if spacing is None else pixels * _each(spacing)
            unit = "" if spacing is None else UNITS[mask.ndim]
            found.append(Size(label, names[label].name, number, pixels, size, unit))
    return found


def write_sizes(path: Path, rows: Iterable[tuple[str, Size]]) -> None:
    """Write sizes, each with the name of its file, as a table of comma-separated values, which
    spreadsheets open; InputError if it cannot be written."""
    write_table(path, ("file", *COLUMNS), ([name, *cells(size)] for name, size in rows))


def cells(size: Size) -> list[str]:
    """A row of the table; empty where something is not known."""
    number = "" if size.object is None else str(size.object)
    amount = "" if size.size is None else f"{size.size:.6g}"
    return [str(size.label), size.name, number, str(size.pixels), amount, size.unit]


def _each(spacing: Sequence[float]) -> float:
    """The size of a pixel in mm2, or of a voxel in ml."""
    return float(np.prod(spacing)) / (1000 if len(spacing) == 3 else 1)
