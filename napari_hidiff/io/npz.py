"""NumPy archives: an array, and if it is there its spacing, affine and classes."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io import record
from napari_hidiff.io.extent import PACKED, check_extent
from napari_hidiff.io.images import check_file
from napari_hidiff.io.volume import Source, Volume, lengths, rows, upright

BESIDE = frozenset({"spacing", "affine", "classes", "record"})
"""Arrays with facts about the image or the mask."""


def main_array(path: Path) -> str | None:
    """The name of the array that is an image or a mask; None without one, or with several.

    It is called ``image`` or ``mask``, or is alone; it has two to four axes of numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            others = names - BESIDE
            known = [name for name in ("image", "mask") if name in names]
            name: str | None = known[0] if known else None
            if name is None and len(others) == 1:
                name = others.pop()
            if name is None:
                return None
            with archive.open(f"{name}.npy") as file:
                shape, dtype = _header(file)
    except Exception:  # damaged bytes raise nearly anything; reading reports it
        return None
    usable = 2 <= len(shape) <= 4 and 0 not in shape and dtype.kind in "buif"
    return name if usable else None


def read_npz(path: Path) -> Volume:
    """Read ``image``, ``mask`` or the only array: [Y, X] as [1, Y, X], [Z, Y, X], [Z, Y, X, C].

    uint8 [Y, X, 3] or [Y, X, 4] is a colour picture, unless a ``spacing`` of three says that it is
    a stack. ``spacing`` is in mm (Z, Y, X), ``affine`` [4, 4] goes from X, Y, Z to mm.

    InputError names the file when it is missing, damaged or holds no such array.
    """
    check_file(path)
    name = main_array(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if name is None:
                for key in archive.files:  # a damaged one says so
                    _array(path, archive, key)
                found = ", ".join(archive.files) or "nothing"
                raise InputError(f"{path}: holds no image or mask, but {found}")
            array = _array(path, archive, name)
            beside = {key: _array(path, archive, key) for key in BESIDE & {*archive.files}}
    except InputError:
        raise
    except Exception as error:  # damaged bytes raise nearly anything
        raise InputError(f"{path}: cannot be read as NPZ: {first_line(error)}") from error
    facts: dict[str, Any] = {"axes": array.ndim, "array": name, "unit": "pixel"}
    spacing = _spacing(path, beside.get("spacing"))
    if spacing is not None or "affine" in beside:
        facts["unit"] = "mm"
    colour = array.ndim == 3 and array.shape[2] in (3, 4) and array.dtype == np.uint8
    if array.ndim == 2 or (colour and spacing is None and name != "mask"):
        array = array[None]
    affine = _affine(path, beside.get("affine"))
    if affine is None:
        affine = upright(spacing or (1.0, 1.0, 1.0))
    elif spacing is not None:
        said, known = lengths(affine), np.size(beside["spacing"])
        if not np.allclose(said[-known:], spacing[-known:], rtol=1e-3, atol=0):
            raise InputError(
                f"{path}: its spacing, {_sizes(spacing[-known:])}, contradicts its affine, "
                f"{_sizes(said[-known:])} (mm, X last); keep one of them"
            )
    if "record" in beside and (parsed := record.parse(str(beside["record"]))):
        facts["record"] = parsed
    z, y, x = array.shape[:3] if array.ndim < 4 or name != "mask" else array.shape[-3:]
    source = Source(str(path), "npz", (x, y, z), rows(affine), False, facts)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Volume(array, lengths(affine), affine, source)


def write_npz(part: Path, mask: np.ndarray, text: str, affine: np.ndarray) -> None:
    """Write ``mask``, ``spacing`` (mm), ``affine``, ``classes`` (JSON) and our ``record``."""
    classes = json.dumps(json.loads(text)["classes"])
    buffer = {"mask": mask, "spacing": np.array(lengths(affine)), "affine": affine}
    with part.open("wb") as file:
        np.savez_compressed(
            file, allow_pickle=False, classes=np.array(classes), record=np.array(text), **buffer
        )


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype of an array whose bytes follow."""
    reads = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = reads[np.lib.format.read_magic(file)](file)
    return shape, dtype


def _array(path: Path, archive: Any, name: str) -> np.ndarray:
    """One array of an open archive, read to its last byte: the checksum is tested there."""
    with archive.zip.open(f"{name}.npy") as file:
        shape, dtype = _header(file)
        check_extent(path, shape, 8 * dtype.itemsize, PACKED)
    with archive.zip.open(f"{name}.npy") as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError(f"{name} is longer than its shape says")
    return array


def _spacing(path: Path, stored: np.ndarray | None) -> tuple[float, float, float] | None:
    if stored is None:
        return None
    sizes = [float(size) for size in np.atleast_1d(stored)] if stored.dtype.kind in "if" else []
    if len(sizes) not in (2, 3) or not all(np.isfinite(size) and size > 0 for size in sizes):
        raise InputError(f"{path}: its spacing is {stored}; wanted two or three sizes in mm")
    z, y, x = sizes if len(sizes) == 3 else (1.0, *sizes)
    return z, y, x


def _affine(path: Path, stored: np.ndarray | None) -> np.ndarray | None:
    if stored is None:
        return None
    usable = stored.shape == (4, 4) and stored.dtype.kind in "if" and np.isfinite(stored).all()
    if not usable or not min(lengths(stored)) > 0:
        raise InputError(f"{path}: its affine has shape {stored.shape}; wanted 4 x 4 numbers")
    return stored.astype(np.float64)


def _sizes(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{size:.4g}" for size in spacing)
