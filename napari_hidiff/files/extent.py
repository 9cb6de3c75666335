"""Whether a file can hold what its header says, asked before memory is taken for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_hidiff.errors import InputError

RATIO = 1500
"""How much smaller than its pixels a file can be: zlib and LZW pack no further."""

SMALL = 2**26
"""Bytes that any file may ask for, as other compressions pack one flat value without a bound."""


def check_extent(path: Path, shape: Sequence[Any], bits: float, packed: bool = True) -> None:
    """InputError where a file is too small for an array of this shape with ``bits`` per value.

    packed : whether the file may be compressed.
    """
    size, held = path.stat().st_size, bits / 8
    for length in shape:
        held *= int(length)
    if held > (max(SMALL, RATIO * size) if packed else size):
        text = " x ".join(str(int(length)) for length in shape[:6])
        raise InputError(
            f"{path}: {size} bytes cannot hold {text} values of {bits:g} bits; the file is cut "
            "off, or its header is damaged"
        )


def check_pages(path: Path, series: Any) -> None:
    """The same of a series of pages in a TIFF, and of the pieces that it is read in."""
    page = series.keyframe
    check_extent(path, series.shape, page.bitspersample)
    check_extent(path, page.chunks, page.bitspersample)
    check_extent(path, page.chunked, 16, packed=False)  # each piece needs an offset
    check_extent(path, [max(page.databytecounts, default=0)], 8, packed=False)
