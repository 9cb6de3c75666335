"""A DICOM series as one volume: sorted by position, rescaled, with its place in the patient."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import UID

from napari_hidiff.errors import InputError, first_line, short
from napari_hidiff.io.dicom import elements, pixels, segments
from napari_hidiff.io.dicom.elements import Header
from napari_hidiff.io.volume import LPS, Source, Volume, canonical, empty, rows

SUFFIXES = (".dcm", ".dicom", ".ima")

SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
"""Elements with the size of a pixel, the most trustworthy first."""

STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""First bytes of a file without preamble: elements of groups 2 and 8."""


@dataclass(frozen=True)
class Slice:
    """An image or a frame of a series, with its place if there is one.

    spacing : between rows and between columns in mm.  position : [3] in mm (LPS).
    axes : directions [2, 3] of a growing column index and of a growing row index.
    """

    header: Header
    spacing: np.ndarray | None
    position: np.ndarray | None
    axes: np.ndarray | None

    @property
    def name(self) -> str:
        """The name of the file without its folder, for messages about two of a series."""
        header = self.header
        return header.path.name + (f" frame {header.frame + 1}" if header.frames > 1 else "")


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's mark after its preamble, or without both, the suffix."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    bare = path.suffix.lower() in SUFFIXES and start[:2] in STARTS
    return (bare or start[128:] == b"DICM") and path.name.upper() != "DICOMDIR"


def is_series(folder: Path) -> bool:
    """Whether a folder directly contains DICOM files."""
    return folder.is_dir() and any(is_dicom(path) for path in _visible(folder))


def in_folder(folder: Path) -> list[Path]:
    """The DICOM files directly in a folder, sorted."""
    return [path for path in _visible(folder) if is_dicom(path)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence pydicom's warnings: real faults are InputErrors here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pydicom")
        yield


@_quiet()
def read_dicom(source: Path | Sequence[Path]) -> Volume:
    """Read a series: its folder, one file of it, or all its files.

    Integers where rescaling leaves whole numbers, else float32; colours, palettes too, give
    [Z, Y, X, 3]. MONOCHROME1 is inverted, so that bright pixels have high values. Without the size
    of a pixel the spacing is 1 and the unit ``pixel``. Files without an image (reports, plans) are
    skipped. The segments of a segmentation are one mask; slices that it leaves out between others
    are background.

    Raises
    ------
    InputError : one line, naming a file or folder, where the files are no single regular stack:
        several series, other sizes, directions or pixel spacing, missing or double slices, a
        tilted gantry, frames that do not say where they are, mosaics; where segments overlap; and
        where a file is damaged or an element of it malformed.
    """
    path, slices = find_series(source)
    slices, levels, affine = in_order(path, slices)
    first = slices[0].header
    headers = [one.header for one in slices]
    wanted = pixels.values(headers)
    shape = (first.needed("Columns", 1), first.needed("Rows", 1), levels[-1] + 1)
    files: dict[Path, list[int]] = {}
    for index, header in enumerate(headers):
        files.setdefault(header.path, []).append(index)
    for indices in files.values():
        pixels.check_size([headers[i] for i in indices])
    array, stored = empty(shape, affine, wanted.dtype, wanted.channels)
    if segmented := pixels.is_binary(first):
        array[...] = 0
    for indices in files.values():
        own = sorted(indices, key=lambda i: headers[i].frame)
        frames = pixels.pixels([headers[i] for i in own], wanted)
        for index, frame in zip(own, frames, strict=True):
            level = stored[:, :, levels[index]]
            if segmented:
                segments.add(headers[index], level, frame.swapaxes(0, 1))
            else:
                level[...] = frame.swapaxes(0, 1)
    turned, spacing = canonical(shape, affine)
    facts = {
        "modality": first.text("Modality"),
        "series": first.text("SeriesInstanceUID"),
        "frame_of_reference": first.text("FrameOfReferenceUID"),
        "placed": slices[0].position is not None and slices[0].spacing is not None,
        "unit": "pixel" if slices[0].spacing is None else "mm",
        "label": pixels.is_labels(first),
    }
    if facts["label"] and (named := segments.record_of(first)):
        facts["record"] = named
    return Volume(
        array, spacing, turned, Source(str(path), "dicom", shape, rows(affine), True, facts)
    )


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def find_series(given: Path | Sequence[Path], uid: str | None = None) -> tuple[Path, list[Slice]]:
    """The images and frames of the requested series, in any order, and its path for messages.

    given : as in :func:`read_dicom`; uid : of the series in a folder that may hold others. Raises
    InputError as it does.
    """
    one = isinstance(given, Path) and not given.is_dir()
    if not isinstance(given, Path):
        path, files = given[0].parent, list(given)
    elif one:
        if not given.is_file():
            raise InputError(f"{given}: no such file")
        path, files = given, _visible(given.parent)
    else:
        path, files = given, _visible(given)
    wanted = _opened(given) if one and isinstance(given, Path) else None
    if one and wanted is None:
        raise InputError(f"{path}: is DICOM, but no image")
    found = [opened for file in files if (opened := _opened(file)) is not None]
    if wanted is not None:
        uid = wanted.text("SeriesInstanceUID")
    if uid is not None:
        found = [each for each in found if each.text("SeriesInstanceUID") == uid]
    elif path == given:  # a mask that was saved beside its images is none of them
        found = [each for each in found if "SegmentationType" not in each] or found
    if not found:
        raise InputError(f"{path}: no DICOM images in this folder")
    if len(series := Counter(each.text("SeriesInstanceUID") for each in found)) > 1:
        sizes = ", ".join(str(count) for _, count in series.most_common())
        raise InputError(
            f"{path}: holds {len(series)} series ({sizes} images); open one file of the wanted one"
        )
    return path, [_placed(header) for each in found for header in _frames(each)]


def _opened(path: Path) -> Header | None:
    """The header of a DICOM image; None for files that are not DICOM or contain no image."""
    if not is_dicom(path):
        if path.suffix.lower() in SUFFIXES:
            raise InputError(
                f"{path}: is not DICOM, or damaged: the preamble and the mark DICM are missing"
            )
        return None
    try:
        tags = list(elements.TAGS)
        dataset = elements.load(path, stop_before_pixels=True, specific_tags=tags)
    except Exception as error:  # damaged bytes raise nearly anything
        raise InputError(f"{path}: cannot be read as DICOM: {first_line(error)}") from error
    header = Header(path, (dataset,), str(path))
    if "Rows" in header and "Columns" in header:
        return header
    kind = header.text("SOPClassUID")
    if kind and "Image Storage" not in UID(kind).name:
        return None
    raise InputError(f"{path}: is cut off, or holds no image")


def _frames(opened: Header) -> list[Header]:
    if "MOSAIC" in opened.texts("ImageType"):
        raise InputError(
            f"{opened.path}: is a mosaic of Siemens, all slices in one picture; convert it to "
            "NIfTI (dcm2niix) first"
        )
    return elements.headers(opened.path, opened.parts[0])


def _placed(header: Header) -> Slice:
    spacing = _spacing(header)
    position = header.numbers("ImagePositionPatient", 3)
    given = header.numbers("ImageOrientationPatient", 6)
    if position is None or given is None:
        if header.frames > 1 and not pixels.is_binary(header):
            raise elements.several(header.path, header.frames)
        return Slice(header, spacing, None, None)
    axes = given.reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if abs(lengths - 1).max() > 1e-2 or abs(axes[0] @ axes[1]) > 1e-2:
        shown = ", ".join(f"{value:g}" for value in given)
        raise InputError(f"{header.name}: has directions that are not at right angles: {shown}")
    if abs(position).max() > 1e6:
        raise InputError(f"{header.name}: lies {abs(position).max():g} mm away from the patient")
    return Slice(header, spacing, position, axes)


def in_order(path: Path, slices: list[Slice]) -> tuple[list[Slice], list[int], np.ndarray]:
    """The slices along their normal, the level of each, and the affine from column, row, level.

    The affine [4, 4] gives mm (RAS). Levels count from 0; the frames of several segments may be at
    the same one, and none at others. InputError as in :func:`read_dicom`.
    """
    first = slices[0]
    for one in slices:
        _check_alike(one, first)
    segmented = pixels.is_binary(first.header)
    down, across = (1.0, 1.0) if first.spacing is None else first.spacing
    if first.position is None or first.axes is None:
        if len(slices) > 1 and not segmented:
            raise InputError(f"{path}: {len(slices)} images that do not say where they are")
        affine = LPS @ np.diag([across, down, _thickness(first), 1.0])
        return slices, [0] * len(slices), affine
    normal = np.cross(first.axes[0], first.axes[1])
    places = np.array([one.position for one in slices]) @ normal
    order = np.argsort(places, kind="stable")
    slices, places = [slices[i] for i in order], places[order]
    levels = [*range(len(slices))]
    if segmented:
        levels = segments.levels(path, places, first.header.number("SpacingBetweenSlices"))
    step = normal * _thickness(first)
    if levels[-1] > 0:
        if not segmented:
            _check_steps(path, slices, np.diff(places))
        ends = slices[0].position, slices[-1].position
        step = (ends[1] - ends[0]) / levels[-1]  # type: ignore[operator]
        aside = np.linalg.norm(step - normal * (step @ normal))
        if aside > 0.01 * np.linalg.norm(step):
            raise InputError(
                f"{path}: its slices are shifted by {aside:.3g} mm against one another (a tilted "
                "gantry); resample it to a regular volume first"
            )
        step = normal * (step @ normal)
    matrix = np.eye(4)
    if first.spacing is None:  # without a size in mm there is no place in mm
        matrix[:3, :3] = np.column_stack([*first.axes, normal])
        return slices, levels, LPS @ matrix
    matrix[:3, 0], matrix[:3, 1] = first.axes[0] * across, first.axes[1] * down
    matrix[:3, 2], matrix[:3, 3] = step, slices[0].position
    return slices, levels, LPS @ matrix


def _check_alike(one: Slice, first: Slice) -> None:
    for keyword in ("Rows", "Columns", "SamplesPerPixel"):
        mine, other = (each.header.number_or(keyword, 1) for each in (one, first))
        if mine != other:
            raise InputError(
                f"{one.header.name}: {keyword} is {mine:g}, {first.name} has {other:g}"
            )
    kind, usual = (short(pixels.photometric(each.header)) for each in (one, first))
    if kind != usual:
        raise InputError(f"{one.header.name}: is {kind}, {first.name} is {usual}")
    size, usual_size = (
        np.zeros(2) if each.spacing is None else each.spacing for each in (one, first)
    )
    if not np.allclose(size, usual_size, rtol=1e-3, atol=0):
        raise InputError(f"{one.header.name}: has another pixel spacing than {first.name}")
    if (one.axes is None) != (first.axes is None) or (
        one.axes is not None and abs(one.axes - first.axes).max() > 1e-3
    ):
        raise InputError(f"{one.header.name}: lies in another direction than {first.name}")


def _check_steps(path: Path, slices: list[Slice], steps: np.ndarray) -> None:
    usual = float(np.median(steps))
    if steps.min() < 1e-3 or usual < 1e-3:
        at = int(steps.argmin())
        names = f"{slices[at].name} and {slices[at + 1].name}"
        raise InputError(
            f"{path}: {names} lie at the same place (several times or echoes in one series?)"
        )
    off = abs(steps - usual)
    if off.max() > 0.05 * usual + 0.01:
        at = int(off.argmax())
        names = f"{slices[at].name} and {slices[at + 1].name}"
        raise InputError(
            f"{path}: {names} are {steps[at]:.4g} mm apart, other slices {usual:.4g} mm: slices "
            "are missing, or spaced unevenly"
        )


def _spacing(header: Header) -> np.ndarray | None:
    """Spacing between rows and between columns in mm, or None."""
    for keyword in SPACINGS:
        found = header.numbers(keyword, 2)
        if found is not None:
            if found.min() < 1e-6 or found.max() > 1e6:
                size = f"{found[0]:g} x {found[1]:g} mm"
                raise InputError(f"{header.name}: has a pixel spacing of {size}")
            return found
    return None


def _thickness(one: Slice) -> float:
    """Thickness of a single slice in mm; 1 if it, or the size of a pixel, is unknown."""
    if one.spacing is None:
        return 1.0
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        found = abs(one.header.number(keyword) or 0.0)
        if found > 1e6:
            raise InputError(f"{one.header.name}: has a thickness of {found:g} mm")
        if found > 1e-6:
            return found
    return 1.0
