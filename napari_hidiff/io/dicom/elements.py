"""The elements of a DICOM header: each as a value, or as an error that names the element."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.valuerep import PersonName

from napari_hidiff.errors import InputError, short

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""Groups of Enhanced files: facts of all frames, and of each frame."""

MACROS = (
    *("PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence"),
    *("PixelValueTransformationSequence", "SegmentIdentificationSequence"),
)
"""The sequences read from these groups; each has one item."""

TAGS = (
    *("SOPClassUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "ImageType"),
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept"),
    *("ModalityLUTSequence", "DoseGridScaling"),
    *("SegmentationType", "SegmentSequence", "ContentCreatorName"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices"),
    *("ImagePositionPatient", "ImageOrientationPatient", *GROUPS),
)
"""The elements read from every file before its pixels."""


@dataclass(frozen=True)
class Header:
    """The header of an image, or of one frame of it.

    path : of the file.  parts : pydicom's datasets; the first one with an element counts.
    name : the file and its frame, for messages.  frame : the number of the frame among
    ``frames``, from 0.

    Every method takes an element's keyword and raises InputError, a line with the file and the
    tag, if the element is malformed. Absent and empty elements are None unless there is a
    default.
    """

    path: Path
    parts: tuple[Any, ...]
    name: str
    frame: int = 0
    frames: int = 1

    def __contains__(self, keyword: str) -> bool:
        return any(keyword in part for part in self.parts)

    def number(self, keyword: str) -> float | None:
        """One finite number."""
        found = self.numbers(keyword, 1)
        return None if found is None else float(found[0])

    def number_or(self, keyword: str, absent: float) -> float:
        """One finite number; ``absent`` without the element. An empty element is malformed."""
        found = self.number(keyword)
        if found is None and keyword in self:
            raise self._wrong(keyword, "", "a number")
        return absent if found is None else found

    def whole(self, keyword: str, low: int = 0, high: int = 65535) -> int | None:
        """One whole number from ``low`` to ``high``."""
        found = self.number(keyword)
        if found is not None and (found % 1 or not low <= found <= high):
            raise self._wrong(keyword, f"{found:g}", f"a whole number from {low} to {high}")
        return None if found is None else int(found)

    def needed(self, keyword: str, low: int = 0, high: int = 65535) -> int:
        """One whole number; InputError if it is absent."""
        found = self.whole(keyword, low, high)
        if found is None:
            raise self._wrong(keyword, "", f"a whole number from {low} to {high}")
        return found

    def numbers(self, keyword: str, count: int) -> np.ndarray | None:
        """``count`` finite numbers, float64 [count]."""
        wanted = "a number" if count == 1 else f"{count} numbers"
        values = self._values(keyword)
        if not values:
            return None
        # a text that looks like a number may be the bytes of another one under a wrong VR
        if len(values) != count or not all(isinstance(v, int | float | Decimal) for v in values):
            raise self._wrong(keyword, values, wanted)
        try:
            found = np.array([float(value) for value in values])
        except (OverflowError, ValueError) as error:
            raise self._wrong(keyword, values, wanted) from error
        if not np.isfinite(found).all():
            raise self._wrong(keyword, values, wanted)
        return found

    def text(self, keyword: str) -> str:
        """One text; empty if absent."""
        found = self.texts(keyword)
        if len(found) > 1:
            raise self._wrong(keyword, found, "one value")
        return found[0] if found else ""

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Any number of texts, without the spaces around them."""
        values = self._values(keyword) or ()
        if not all(isinstance(value, str | PersonName) for value in values):
            raise self._wrong(keyword, values, "text")
        return tuple(str(value).strip(" \0") for value in values)

    def items(self, keyword: str) -> list[Any]:
        """The datasets of a sequence; none without it."""
        values = self._values(keyword)
        if not values:
            return []
        if not isinstance(values[0], Sequence):
            raise self._wrong(keyword, values, "a sequence")
        return list(values[0])

    def _values(self, keyword: str) -> tuple[Any, ...] | None:
        """The values of an element, () if it is empty; None if it is absent."""
        for part in self.parts:
            if keyword not in part:
                continue
            raw = None
            try:
                raw = part.get_item(keyword).value
                value = part[keyword].value
            except Exception as error:  # pydicom converts only now, and raises many kinds
                raise self._wrong(keyword, raw, "a value of its kind") from error
            if value is None or (isinstance(value, str | bytes) and not value.strip()):
                return ()
            return tuple(value) if isinstance(value, MultiValue | list | tuple) else (value,)
        return None

    def _wrong(self, keyword: str, value: Any, wanted: str) -> InputError:
        tag = Tag(tag_for_keyword(keyword) or 0)
        return InputError(f"{self.name}: {keyword} {tag} is {_shown(value)}; wanted {wanted}")


def load(path: Path, **options: Any) -> Any:
    """pydicom's dataset of a file, with or without preamble; raises nearly anything.

    It is memory-mapped: a damaged length would otherwise allocate as much memory.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return pydicom.dcmread(content, force=True, **options)  # type: ignore[arg-type]


def headers(path: Path, dataset: Any) -> list[Header]:
    """A header for each frame of a file; most files have one.

    Facts of a frame override facts of all frames, and these the file's. InputError if the frames
    of a file cannot be distinguished.
    """
    top = Header(path, (dataset,), str(path))
    count = top.whole("NumberOfFrames", 0, 2**31 - 1) or 1
    shared, each = (top.items(keyword) for keyword in GROUPS)
    if each and len(each) != count:
        raise InputError(f"{path}: NumberOfFrames is {count}, but {len(each)} frames are described")
    if count > 1 and not each:
        raise several(path, count)
    found = []
    for index, own in enumerate(each or [None]):
        name = str(path) if count == 1 else f"{path}: frame {index + 1}"
        groups = [own] if own is not None else []
        groups += shared[:1]
        inner = (_macros(Header(path, (group,), name)) for group in groups)
        parts = (*(item for items in inner for item in items), *groups, dataset)
        found.append(Header(path, parts, name, index, count))
    return found


def several(path: Path, count: int) -> InputError:
    """The error for files whose frames are no regular stack."""
    return InputError(f"{path}: holds {count} frames; convert it to NIfTI (dcm2niix) first")


def _macros(group: Header) -> Iterable[Any]:
    return [item for keyword in MACROS for item in group.items(keyword)[:1]]


def _shown(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, Sequence):
        return "a sequence"
    if isinstance(value, bytes):
        value = value[:200].decode("latin-1").rstrip(" \0")
    if isinstance(value, tuple):
        return short("\\".join(str(one) for one in value[:40]))
    return short(repr(str(value))) if value or value == 0 else "empty"
