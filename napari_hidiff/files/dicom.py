"""A DICOM series as one volume: sorted by position, rescaled, with its place in the patient."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.files.volume import LPS, Source, Volume, canonical, empty, rows

SUFFIXES = (".dcm", ".dicom", ".ima")

TAGS = (
    *("SOPClassUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "InstanceNumber"),
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored"),
    *("PixelRepresentation", "RescaleSlope", "RescaleIntercept", "PixelSpacing"),
    *("ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient"),
)
"""What is read of every file before its pixels."""


@dataclass(frozen=True)
class _Slice:
    """A file of a series: its header, and where it is in mm (LPS), if it says so."""

    path: Path
    header: Any
    position: np.ndarray | None
    axes: np.ndarray | None  # directions [2, 3]: of a growing column index, of a growing row index


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark after its preamble."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM" and path.name.upper() != "DICOMDIR"
    except OSError:
        return False


def is_series(folder: Path) -> bool:
    """Whether a folder holds DICOM files, itself and not in folders of its own."""
    return folder.is_dir() and any(is_dicom(path) for path in _visible(folder))


def in_folder(folder: Path) -> list[Path]:
    """The DICOM files that a folder itself holds, sorted."""
    return [path for path in _visible(folder) if is_dicom(path)]


def read_dicom(given: Path | Sequence[Path]) -> Volume:
    """Read a series: a folder that holds one, one file of it, or all its files.

    Integers where rescaling leaves whole numbers, else float32; colour files give [Z, Y, X, 3].
    Files that hold no image (reports, plans) are passed over.

    Raises
    ------
    InputError : one line, naming a file or folder, where the files are no single regular stack:
        several series, other sizes, directions or pixel spacing, missing or double slices, a
        tilted gantry, several frames in a file; and where a file is damaged.
    """
    path, slices = _series(given)
    slices, affine = _sorted(path, slices)
    first = slices[0].header
    channels = int(first.get("SamplesPerPixel", 1))
    shape = (int(first.Columns), int(first.Rows), len(slices))
    array, stored = empty(shape, affine, _dtype(slices), channels)
    for index, one in enumerate(slices):
        stored[:, :, index] = _pixels(one, array.dtype).swapaxes(0, 1)
    turned, spacing = canonical(shape, affine)
    facts = {
        "modality": str(first.get("Modality", "")),
        "series": str(first.get("SeriesInstanceUID", "")),
        "frame_of_reference": str(first.get("FrameOfReferenceUID", "")),
        "placed": slices[0].position is not None,
        "unit": "mm",
    }
    return Volume(
        array, spacing, turned, Source(str(path), "dicom", shape, rows(affine), True, facts)
    )


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _series(given: Path | Sequence[Path]) -> tuple[Path, list[_Slice]]:
    """The files of the series that is meant, and the path to name it by."""
    one = isinstance(given, Path) and not given.is_dir()
    if not isinstance(given, Path):
        path, files = given[0].parent, list(given)
    elif one:
        if not given.is_file():
            raise InputError(f"{given}: no such file")
        path, files = given, _visible(given.parent)
    else:
        path, files = given, _visible(given)
    wanted = _header(given) if one and isinstance(given, Path) else None
    if one and wanted is None:
        raise InputError(f"{path}: is DICOM, but no image")
    found = [_slice(file, header) for file in files if (header := _header(file)) is not None]
    if wanted is not None:
        uid = wanted.get("SeriesInstanceUID")
        found = [each for each in found if each.header.get("SeriesInstanceUID") == uid]
    if not found:
        raise InputError(f"{path}: no DICOM images in this folder")
    series = Counter(str(each.header.get("SeriesInstanceUID", "")) for each in found)
    if len(series) > 1:
        sizes = ", ".join(str(count) for _, count in series.most_common())
        raise InputError(
            f"{path}: holds {len(series)} series ({sizes} images); open one file of the wanted one"
        )
    return path, found


def _header(path: Path) -> Any:
    """What a DICOM image says of itself; None for files that are not DICOM or hold no image."""
    import pydicom

    suspected = path.suffix.lower() in SUFFIXES
    if not is_dicom(path):
        if suspected:
            raise InputError(f"{path}: is not DICOM, or damaged")
        return None
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS))
        kind = header.get("SOPClassUID")
        if "Rows" in header and "Columns" in header:
            return header
        if kind is not None and "Image Storage" not in kind.name:
            return None
    except Exception as error:  # damaged bytes raise nearly anything
        raise InputError(f"{path}: cannot be read as DICOM: {first_line(error)}") from error
    raise InputError(f"{path}: is cut off, or holds no image")


def _slice(path: Path, header: Any) -> _Slice:
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise InputError(
            f"{path}: holds {header.NumberOfFrames} frames; convert it to NIfTI (dcm2niix) first"
        )
    try:
        position, axes = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
        if not position or not axes:
            return _Slice(path, header, None, None)
        where, along = np.array(position, float), np.array(axes, float).reshape(2, 3)
    except ValueError as error:
        raise InputError(f"{path}: has no readable position: {first_line(error)}") from error
    lengths = np.linalg.norm(along, axis=1)
    if where.shape != (3,) or abs(lengths - 1).max() > 1e-2 or abs(along[0] @ along[1]) > 1e-2:
        raise InputError(f"{path}: has directions that are not at right angles: {axes}")
    return _Slice(path, header, where, along)


def _sorted(path: Path, slices: list[_Slice]) -> tuple[list[_Slice], np.ndarray]:
    """The slices along their normal, and the affine [4, 4] from column, row, slice to RAS mm."""
    first = slices[0]
    for one in slices:
        for name in ("Rows", "Columns", "SamplesPerPixel"):
            mine, other = one.header.get(name, 1), first.header.get(name, 1)
            if mine != other:
                raise InputError(f"{one.path}: {name} is {mine}, {first.path.name} has {other}")
        if not np.allclose(_spacing(one), _spacing(first), rtol=1e-3):
            raise InputError(f"{one.path}: has another pixel spacing than {first.path.name}")
        if (one.axes is None) != (first.axes is None) or (
            one.axes is not None and abs(one.axes - first.axes).max() > 1e-3
        ):
            raise InputError(f"{one.path}: lies in another direction than {first.path.name}")
    down, across = _spacing(first)
    if first.position is None or first.axes is None:
        if len(slices) > 1:
            raise InputError(f"{path}: {len(slices)} images that do not say where they are")
        return slices, LPS @ np.diag([across, down, _thickness(first), 1.0])
    normal = np.cross(first.axes[0], first.axes[1])
    places = np.array([one.position for one in slices]) @ normal
    order = np.argsort(places, kind="stable")
    slices, places = [slices[i] for i in order], places[order]
    step = normal * _thickness(first)
    if len(slices) > 1:
        _check_steps(path, slices, np.diff(places))
        ends = slices[0].position, slices[-1].position
        step = (ends[1] - ends[0]) / (len(slices) - 1)  # type: ignore[operator]
        aside = np.linalg.norm(step - normal * (step @ normal))
        if aside > 0.01 * np.linalg.norm(step):
            raise InputError(
                f"{path}: its slices are shifted by {aside:.3g} mm against one another (a tilted "
                "gantry); resample it to a regular volume first"
            )
        step = normal * (step @ normal)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = first.axes[0] * across, first.axes[1] * down
    matrix[:3, 2], matrix[:3, 3] = step, slices[0].position
    return slices, LPS @ matrix


def _check_steps(path: Path, slices: list[_Slice], steps: np.ndarray) -> None:
    usual = float(np.median(steps))
    if steps.min() < 1e-3 or usual < 1e-3:
        at = int(steps.argmin())
        names = f"{slices[at].path.name} and {slices[at + 1].path.name}"
        raise InputError(
            f"{path}: {names} lie at the same place (several times or echoes in one series?)"
        )
    off = abs(steps - usual)
    if off.max() > 0.05 * usual + 0.01:
        at = int(off.argmax())
        names = f"{slices[at].path.name} and {slices[at + 1].path.name}"
        raise InputError(
            f"{path}: {names} are {steps[at]:.4g} mm apart, other slices {usual:.4g} mm: slices "
            "are missing, or spaced unevenly"
        )


def _spacing(one: _Slice) -> tuple[float, float]:
    """Between rows and between columns, in mm; 1 where the file does not say."""
    given = one.header.get("PixelSpacing") or one.header.get("ImagerPixelSpacing") or (1, 1)
    down, across = (float(size) for size in given)
    if not (down > 0 and across > 0):
        raise InputError(f"{one.path}: has a pixel spacing of {down:g} x {across:g} mm")
    return down, across


def _thickness(one: _Slice) -> float:
    """Of a single slice, in mm; 1 where the file does not say."""
    given = one.header.get("SpacingBetweenSlices") or one.header.get("SliceThickness") or 1
    return abs(float(given)) or 1.0


def _rescale(one: _Slice) -> tuple[float, float]:
    slope, intercept = one.header.get("RescaleSlope"), one.header.get("RescaleIntercept")
    return (1.0 if slope is None else float(slope)), float(intercept or 0)


def _dtype(slices: list[_Slice]) -> np.dtype:
    """The smallest of uint8, int16, uint16, int32 that holds every value; float32 for fractions."""
    low, high = 0.0, 0.0
    for one in slices:
        slope, intercept = _rescale(one)
        if slope % 1 or intercept % 1 or "BitsAllocated" not in one.header:
            return np.dtype(np.float32)
        bits = int(one.header.BitsAllocated)
        signed = int(one.header.get("PixelRepresentation", 0)) == 1
        ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        if not signed:  # the upper bits are unused more often than not
            ends = (0, 2 ** int(one.header.get("BitsStored", bits)) - 1)
        scaled = sorted(end * slope + intercept for end in ends)
        low, high = min(low, scaled[0]), max(high, scaled[1])
    for dtype in (np.uint8, np.int16, np.uint16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    return np.dtype(np.float32)


def _pixels(one: _Slice, dtype: np.dtype) -> np.ndarray:
    """The rescaled pixels [rows, columns(, 3)] of a file."""
    import pydicom
    from pydicom.pixels.utils import pixel_array

    try:
        pixels = pixel_array(pydicom.dcmread(one.path))
    except Exception as error:  # damaged bytes, and compressions that no installed package knows
        raise InputError(f"{one.path}: its pixels cannot be read: {first_line(error)}") from error
    size = (int(one.header.Rows), int(one.header.Columns))
    if pixels.shape[:2] != size:
        raise InputError(f"{one.path}: holds {pixels.shape} pixels, its header says {size}")
    slope, intercept = _rescale(one)
    if (slope, intercept) == (1.0, 0.0):
        return pixels.astype(dtype, copy=False)
    scaled: np.ndarray = pixels.astype(np.float64) * slope + intercept
    return scaled.astype(dtype)
