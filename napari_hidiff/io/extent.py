"""Can a file hold the array that its header declares? Asked before memory is allocated for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tifffile

from napari_hidiff.errors import InputError

STORED = 1
"""Largest ratio of pixels to file size without compression."""

PACKED = 3000
"""The same for zlib, LZW, run lengths and JPEG, for pixels of one value."""

ANYHOW = 40_000
"""The same for every other compression; Zstandard packs 32,768 bytes into one."""

LEAST = 2**20
"""Bytes of an array that any compressed file may have."""

TIFF_PACKED = frozenset({"NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "JPEG"})
"""Compressions of TIFF that pack no further than ``PACKED``; pages may be left out when stored."""


def check_extent(path: Path, shape: Sequence[Any], bits: float, ratio: int) -> None:
    """InputError if a file is too small for an array of this shape with ``bits`` per value."""
    size, needed = path.stat().st_size, bits / 8
    for length in shape:
        needed *= int(length)
    if needed > max(size * ratio, LEAST if ratio > STORED else 0):
        text = " x ".join(str(int(length)) for length in shape[:6])
        raise InputError(
            f"{path}: {size} bytes cannot hold {text} values of {bits:g} bits; the file is cut "
            "off, or its header is damaged"
        )


def check_pages(path: Path, series: Any) -> None:
    """The same for a series of pages in a TIFF, and for the pieces that are read."""
    page = series.keyframe
    known = tifffile.COMPRESSION(page.compression).name in TIFF_PACKED
    ratio = PACKED if known else ANYHOW
    check_extent(path, series.shape, page.bitspersample, ratio)
    check_extent(path, page.chunks, page.bitspersample, ratio)
    check_extent(path, page.chunked, 16, STORED)  # each piece needs an offset
    check_extent(path, [max(page.databytecounts, default=0)], 8, STORED)


def check_picture(path: Path, picture: Any) -> None:
    """The same for a picture opened by Pillow; fewer than 8 bits become 8 in memory."""
    check_extent(path, picture.size, 8 * len(picture.getbands()), ANYHOW)
