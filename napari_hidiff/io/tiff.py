"""TIFF stacks with the size of their voxels: as ImageJ, OME and we write them."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io import record
from napari_hidiff.io.extent import check_pages
from napari_hidiff.io.pages import main_series, strict
from napari_hidiff.io.pictures import CMYK, TIFF, check_file, doubt, is_separated
from napari_hidiff.io.volume import Source, Volume, millimetres, rows, upright


def is_stack(path: Path) -> bool:
    """Whether a file is a TIFF of several planes; False for one that cannot be opened."""
    if path.suffix.lower() not in TIFF or not path.is_file():
        return False
    try:
        with tifffile.TiffFile(path) as tiff:
            first = main_series(tiff)[0]
            axes, shape = first.axes, first.shape
            return any(n > 1 for axis, n in zip(axes, shape, strict=True) if axis not in "YXS")
    except Exception:  # the next reader reports the fault
        return False


def read_tiff(path: Path) -> Volume:
    """Read a stack [Z, Y, X] or [Z, Y, X, C]; a single page is a stack of one.

    One axis beside Y, X and channels is the stack, under any name; the spacing is 1 without a unit
    of length.

    Raises
    ------
    InputError : names the file when it is missing, damaged, has pages of several sizes, or more
        axes (a time series of stacks).
    """
    check_file(path)
    try:
        with strict(), tifffile.TiffFile(path) as tiff:
            series = main_series(tiff)
            if len(series) != 1:
                raise InputError(f"{path}: holds pages of several sizes; give one stack per file")
            if is_separated(series[0].keyframe):
                raise InputError(f"{path}: {CMYK}")
            check_pages(path, series[0])
            array = _ordered(path, series[0])
            source = _source(path, tiff, array.shape)
    except InputError:
        raise
    except Exception as error:  # damaged bytes raise nearly anything
        raise InputError(f"{path}: cannot be read as TIFF: {first_line(error)}") from error
    if array.size == 0 or array.dtype.kind not in "buif":
        raise InputError(f"{path}: holds {array.dtype} {array.shape}; wanted a stack of numbers")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    z, y, x = source.header["spacing"]
    return Volume(array, (z, y, x), np.array(source.affine), source)


def read_source(path: Path) -> Source | None:
    """The source of a TIFF, without its pixels; None if it cannot be read."""
    try:
        with tifffile.TiffFile(path) as tiff:
            series = main_series(tiff)[0]
            sizes = dict(zip(series.axes, series.shape, strict=True))
            deep = [n for axis, n in sizes.items() if axis not in "YXSC"]
            shape = (int(np.prod(deep, initial=1)), sizes.get("Y", 1), sizes.get("X", 1))
            return _source(path, tiff, shape)
    except Exception:  # a damaged file has no source
        return None


def write_tiff(
    part: Path, mask: np.ndarray, text: str, colours: np.ndarray, spacing: Any, unit: str
) -> None:
    """Write a mask [Y, X], [Z, Y, X] or [T, Z, Y, X] as ImageJ does, with a table of colours.

    text : goes into its *Info*; colours : uint8 [256, 3]; spacing : along the last axes, in
    ``unit``. More than four axes are written as tifffile orders them.
    """
    y, x = spacing[-2:]
    if mask.ndim > 4:
        options: dict[str, Any] = {"photometric": "minisblack", "description": text}
    else:
        facts: dict[str, Any] = {
            "axes": "TZYX"[-mask.ndim :],
            "unit": unit,
            "Info": text,
            "LUTs": [colours.T],
        }
        if mask.ndim > 2:
            facts["spacing"] = float(spacing[-3])
        facts |= {"min": 0.0, "max": 255.0}  # else ImageJ stretches the colours
        options = {"imagej": True, "metadata": facts}
    tifffile.imwrite(part, mask, resolution=(1 / x, 1 / y), compression="zlib", **options)


def _ordered(path: Path, series: Any) -> np.ndarray:
    """The pixels as [Z, Y, X] or [Z, Y, X, C]."""
    axes = "".join(
        axis for axis, n in zip(series.axes, series.shape, strict=True) if n > 1 or axis in "YX"
    )
    channels = [axis for axis in axes if axis in "SC"]
    deep = [axis for axis in axes if axis not in "YXSC"]
    if len(deep) > 1 or len(channels) > 1 or not {"Y", "X"} <= {*axes}:
        raise InputError(f"{path}: has axes {series.axes} {series.shape}; wanted one stack")
    array = series.asarray().reshape([series.shape[series.axes.index(axis)] for axis in axes])
    array = array.transpose([axes.index(axis) for axis in (*deep, "Y", "X", *channels)])
    result: np.ndarray = array if deep else array[None]
    return result


def _source(path: Path, tiff: Any, shape: tuple[int, ...]) -> Source:
    page = main_series(tiff)[0].keyframe
    unit, spacing = _spacing(tiff, page)
    facts: dict[str, Any] = {"unit": "mm" if unit else "pixel", "spacing": list(spacing)}
    text = (tiff.imagej_metadata or {}).get("Info") or page.description
    if found := record.parse(text):
        facts["record"] = found
    if unclear := doubt(page):
        facts["doubt"] = unclear
    z, y, x = shape[:3]
    return Source(str(path), "tiff", (x, y, z), rows(upright(spacing)), False, facts)


def _spacing(tiff: Any, page: Any) -> tuple[bool, tuple[float, float, float]]:
    """Whether the file gives sizes with a unit, and those sizes along Z, Y, X in mm, else 1."""
    z, y, x, scale = 1.0, 1.0, 1.0, None
    if tiff.ome_metadata:
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
        pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
        sizes = [pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"]
        units = [millimetres(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"]
        if sizes[1] and sizes[2] and units[1] and units[2]:
            y, x = float(sizes[1]) * units[1], float(sizes[2]) * units[2]
            z = float(sizes[0]) * units[0] if sizes[0] and units[0] else 1.0
            scale = 1.0
    elif tiff.imagej_metadata is not None:
        facts = tiff.imagej_metadata
        scale = millimetres(facts.get("unit", ""))
        y, x = (_size(page, f"{axis}Resolution") for axis in "YX")
        z = abs(float(facts.get("spacing", 1.0))) or 1.0
    elif page.tags.valueof("ResolutionUnit") == tifffile.RESUNIT.CENTIMETER:
        # inches are ignored: most programs write 72 or 96 dpi for any picture
        y, x, scale = _size(page, "YResolution"), _size(page, "XResolution"), 10.0
        z = 1.0 / scale
    if scale is None:
        return False, (1.0, 1.0, 1.0)
    return True, (z * scale, y * scale, x * scale)


def _size(page: Any, name: str) -> float:
    """The size of a pixel from a tag of pixels per unit; 1 without it."""
    above, below = page.tags.valueof(name) or (1, 1)
    return below / above if above and below else 1.0
