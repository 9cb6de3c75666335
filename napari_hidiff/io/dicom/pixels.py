"""The pixels of DICOM files, rescaled to the values that they stand for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    ParametricMapStorage,
    RLELossless,
)

from napari_hidiff.errors import InputError, first_line, short
from napari_hidiff.io.dicom.elements import Header, load
from napari_hidiff.io.extent import ANYHOW, PACKED, STORED, check_extent

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
PACKERS = (DeflatedExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit)

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"


@dataclass(frozen=True)
class Values:
    """The conversion from stored pixels of a series to an array.

    dtype : the smallest of uint8, int16, uint16, int32, uint32 that holds every value that the
        headers allow; float32 for fractions.  channels : 3 for colours, else 1.
    ends : the sum of the lowest and the highest value for MONOCHROME1, whose stored values run
        from white to black: ``ends - value`` is high for bright pixels.
    """

    dtype: np.dtype
    channels: int
    ends: float | None


def values(headers: Sequence[Header]) -> Values:
    """The conversion for these images; InputError if it is not defined."""
    first = headers[0]
    kind, samples = photometric(first), first.number_or("SamplesPerPixel", 1)
    if kind == PALETTE and samples == 1:
        return Values(np.dtype(np.uint8), 3, None)
    if (samples == 1) != (kind in GREY) or samples not in (1, 3):
        raise InputError(f"{first.name}: has {samples:g} values a pixel, {short(kind) or 'grey'}")
    channels = 1 if samples == 1 else 3
    ranges = [_range(header) for header in headers]
    low, high = min(low for low, _, _ in ranges), max(high for _, high, _ in ranges)
    if max(abs(low), abs(high)) > float(np.finfo(np.float32).max):
        raise InputError(f"{first.name}: is rescaled to values of {low:g} to {high:g}")
    ends = low + high if kind == "MONOCHROME1" else None
    if ends is not None and any("BitsStored" not in header for header in headers):
        raise InputError(f"{first.name}: is MONOCHROME1, and does not say how many bits it has")
    if all(whole for _, _, whole in ranges):
        for dtype in (np.uint8, np.int16, np.uint16, np.int32, np.uint32):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return Values(np.dtype(dtype), channels, ends)
    return Values(np.dtype(np.float32), channels, ends)


def photometric(header: Header) -> str:
    """The photometric interpretation."""
    return header.text("PhotometricInterpretation").upper()


def is_labels(header: Header) -> bool:
    """Whether the values are the labels of a mask, not fractions or grey values."""
    return header.text("SegmentationType").upper() in ("BINARY", "LABELMAP")


def is_binary(header: Header) -> bool:
    """Whether a frame has the pixels of one segment."""
    return header.text("SegmentationType").upper() == "BINARY"


def rescale(header: Header) -> tuple[float, float]:
    """The slope and intercept of the rescaling of stored values."""
    if is_binary(header):
        return float(header.whole("ReferencedSegmentNumber", 1) or 1), 0.0
    names = "RescaleSlope", "RescaleIntercept"
    if header.text("SOPClassUID") == ParametricMapStorage:
        maps = header.items("RealWorldValueMappingSequence")
        if len(maps) > 1 or any("RealWorldValueLUTData" in one for one in maps):
            raise InputError(f"{header.name}: maps its values in several ways, or by a table")
        if maps:
            header = Header(header.path, tuple(maps), header.name)
            names = "RealWorldValueSlope", "RealWorldValueIntercept"
    slope, intercept = header.number_or(names[0], 1), header.number_or(names[1], 0)
    slope *= header.number_or("DoseGridScaling", 1)
    if slope == 0:
        raise InputError(f"{header.name}: is rescaled by 0, so that all its values are the same")
    return slope, intercept


def check_size(headers: Sequence[Header]) -> None:
    """InputError if a file is too small for the pixels of its frames."""
    first = headers[0]
    shape = [len(headers)] if len(headers) > 1 else []
    shape += [first.needed("Rows", 1), first.needed("Columns", 1)]
    bits = first.needed("BitsAllocated", 1, 64) * first.number_or("SamplesPerPixel", 1)
    syntax = _syntax(first)
    ratio = STORED if syntax in NATIVE else PACKED if syntax in PACKERS else ANYHOW
    if syntax in NATIVE and photometric(first) == "YBR_FULL_422":
        bits = bits * 2 / 3
    check_extent(first.path, shape, bits, ratio)


def pixels(headers: Sequence[Header], wanted: Values) -> Iterator[np.ndarray]:
    """The values [rows, columns(, 3)] of the frames of one file, one after another."""
    path = headers[0].path
    try:
        dataset = load(path)
        syntax = _syntax(headers[0])
        dataset.file_meta.TransferSyntaxUID = syntax
        if _is_bits(headers[0]):  # all at once they would be 8 times the file
            each = get_decoder(syntax).iter_array(dataset)
            for header, (frame, _) in zip(headers, each, strict=True):
                yield _frame(dataset, header, frame, wanted)
            return
        stored, facts = get_decoder(syntax).as_array(dataset)
        colours = str(facts["photometric_interpretation"])
        if wanted.channels == 3 and colours not in ("RGB", PALETTE):
            raise ValueError(f"its colours are {short(colours)}")
        frames = stored if len(headers) > 1 else stored[None]
        size = (len(headers), headers[0].whole("Rows"), headers[0].whole("Columns"))
        if frames.shape[:3] != size or frames.shape[3:] != ((3,) if colours == "RGB" else ()):
            raise ValueError(f"holds {stored.shape} pixels, its header says {size}")
        for header, frame in zip(headers, frames, strict=True):
            yield _frame(dataset, header, frame, wanted)
    except InputError:
        raise
    except Exception as error:  # damaged bytes, or a compression without a codec
        raise InputError(f"{path}: its pixels cannot be read: {first_line(error)}") from error


def _range(header: Header) -> tuple[float, float, bool]:
    """The lowest and highest value that the header allows, and whether all are whole numbers."""
    allocated = header.needed("BitsAllocated", 1, 64)
    table = _table(header)
    if table is not None:
        return 0.0, 2.0**table - 1, True
    slope, intercept = rescale(header)
    bits = header.whole("BitsStored", 1, allocated)
    if bits is None:  # floating point; its values are not bounded
        return 0.0, 0.0, False
    signed = header.whole("PixelRepresentation", 0, 1) == 1
    ends = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    low, high = sorted(end * slope + intercept for end in ends)
    return low, high, not (slope % 1 or intercept % 1)


def _is_bits(header: Header) -> bool:
    """Whether a frame is whole bytes of one bit a pixel; pydicom 3.0 iterates over no others."""
    size = header.needed("Rows", 1) * header.needed("Columns", 1)
    return header.whole("BitsAllocated") == 1 and size % 8 == 0


def _table(header: Header) -> int | None:
    """Bits of the entries of a lookup table for stored values; None without a table."""
    for item in header.items("ModalityLUTSequence")[:1]:
        found = Header(header.path, (item,), header.name).numbers("LUTDescriptor", 3)
        if found is None or found[2] not in (8, 10, 12, 16):
            raise InputError(f"{header.name}: has a ModalityLUTSequence without a usable table")
        return int(found[2])
    return None


def _frame(dataset: Any, header: Header, frame: np.ndarray, wanted: Values) -> np.ndarray:
    if photometric(header) == PALETTE:
        return _colours(dataset, frame)
    slope, intercept = 1.0, 0.0
    if _table(header) is not None:
        descriptor = dataset.ModalityLUTSequence[0].LUTDescriptor
        descriptor[2] = 8 if descriptor[2] == 8 else 16  # pydicom makes a dtype of it
        frame = apply_modality_lut(frame.astype(np.int64), dataset)
    else:
        slope, intercept = rescale(header)
    if (slope, intercept, wanted.ends) != (1.0, 0.0, None):
        frame = frame.astype(np.float64) * slope + intercept
        frame = frame if wanted.ends is None else wanted.ends - frame
    elif frame.dtype.kind == "f" and wanted.dtype.kind != "f":
        raise ValueError("is floating point, which its header does not say")
    if wanted.dtype.kind != "f":
        info = np.iinfo(wanted.dtype)
        if frame.min() < info.min or frame.max() > info.max:
            raise ValueError(f"is {frame.min():g} to {frame.max():g}, more than its header allows")
    return frame.astype(wanted.dtype, copy=False)


def _colours(dataset: Any, frame: np.ndarray) -> np.ndarray:
    """The colours uint8 [rows, columns, 3] of the indices of a palette."""
    if "RedPaletteColorLookupTableDescriptor" not in dataset:
        raise ValueError("they are indices of a palette that is missing")
    entries, first, _ = (int(value) for value in dataset.RedPaletteColorLookupTableDescriptor)
    entries = entries or 2**16
    # pydicom counts in the dtype of the table, where an index beyond its end would wrap
    table = apply_color_lut(np.arange(first, first + entries), dataset)[:, :3]
    if table.max() > 255:
        table = table >> 8
    colours: np.ndarray = table.astype(np.uint8)
    return colours[np.clip(frame.astype(np.int64) - first, 0, entries - 1)]


def _syntax(header: Header) -> UID:
    """The transfer syntax; of a file without its element, as pydicom detected it."""
    dataset = header.parts[-1]
    meta = Header(header.path, (dataset.file_meta,), header.name)
    if given := meta.text("TransferSyntaxUID"):
        return UID(given)
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
