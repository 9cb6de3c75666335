"""All readers by file format, and the rule whether a file is a mask.

:func:`readings` yields the pixels of a file in every way that a window may have shown them, since a
log names pixels alone.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io import dicom, npz, nrrd, record, tiff
from napari_hidiff.io.extent import check_pages, check_picture
from napari_hidiff.io.images import JPEG, mask_of, read_image
from napari_hidiff.io.nifti import is_nifti, read_volume, stem
from napari_hidiff.io.pages import check_chain
from napari_hidiff.io.pictures import TIFF, read_picture
from napari_hidiff.io.volume import Source, Volume, millimetres, stored
from napari_hidiff.masks import Label

MASK_NAME = re.compile(r"[_-](mask|seg|segmentation|label|labels)$", re.IGNORECASE)
"""Stems of mask files; their values must also be whole numbers."""

VOLUMES = frozenset({"nifti", "dicom", "nrrd", "metaimage", "npz"})
"""Kinds of files with volumes."""

KINDS = {
    **dict.fromkeys(TIFF, "tiff"),
    **dict.fromkeys(nrrd.SUFFIXES, "nrrd"),
    **dict.fromkeys((".mha", ".mhd"), "metaimage"),
    ".npz": "npz",
    ".png": "png",
}
"""Kinds by suffix; NIfTI and DICOM need more than a suffix."""


def kind_of(path: Path) -> str | None:
    """``nifti``, ``dicom``, ``nrrd``, ``tiff``, ``npz`` or ``png``; None for other files.

    ``metaimage`` is recognised, so that its error can name it.

    The name decides; a folder, and a file with an unknown suffix, is searched for DICOM.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return "dicom" if dicom.is_series(path) else None
    if is_nifti(path):
        return "nifti"
    if suffix in dicom.SUFFIXES or dicom.is_dicom(path):
        return "dicom"
    return KINDS.get(suffix)


def is_volume(path: Path) -> bool:
    """Whether a file or folder is an image of several slices, or of a format made for these."""
    kind = kind_of(path)
    return kind in VOLUMES or (kind == "tiff" and tiff.is_stack(path))


def read(path: Path) -> Volume:
    """Read a NIfTI or NRRD file, DICOM series, TIFF stack or NPZ as a :class:`Volume`.

    Raises InputError, one line with the file, for every fault in it.
    """
    kind = kind_of(path)
    if kind == "nifti":
        return read_volume(path)
    if kind == "dicom":
        return dicom.read_dicom(path)
    if kind == "nrrd":
        return nrrd.read_nrrd(path)
    if kind == "tiff":
        return tiff.read_tiff(path)
    if kind == "npz":
        return npz.read_npz(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if kind == "metaimage":
        raise InputError(
            f"{path}: MetaImage is not read; save it as .nii.gz or .nrrd, in 3D Slicer or ITK-SNAP"
        )
    raise InputError(f"{path}: is no NIfTI or NRRD file, DICOM series, TIFF stack or NPZ")


def is_named_mask(path: Path) -> bool:
    """Whether a file has the name of a mask."""
    return MASK_NAME.search(stem(path)) is not None


def is_mask(volume: Volume) -> bool:
    """Whether a volume holds labels, not grey values.

    It does by its file (NIfTI's intent, our record, ``mask`` in an NPZ) or by its name; in any case
    all values must be whole numbers from 0 to 65535. Few values alone do not make a mask.
    """
    source, array = volume.source, volume.array
    said = (
        bool(source.header.get("label"))
        or "record" in source.header
        or source.header.get("array") == "mask"
        or is_named_mask(Path(source.path))
    )
    return said and _holds_labels(array)


def _holds_labels(array: np.ndarray) -> bool:
    """Whether all values are whole numbers from 0 to 65535."""
    if array.min() < 0 or array.max() > 65535:
        return False
    return array.dtype.kind != "f" or bool((array % 1 == 0).all())


def labels(volume: Volume) -> np.ndarray:
    """The labels of a mask (:func:`is_mask`), with the axes that it had in memory.

    uint8, or uint16 if a label is above 255.
    """
    array, source = volume.array, volume.source
    saved = source.header.get("record") or {}
    if array.ndim == 4 and source.format == "nifti":
        array = np.moveaxis(array, -1, 0)
    if saved and source.turned and not saved.get("turned"):
        array = stored(array, np.array(source.affine)).T  # as it was before ITK's axes
    axes = source.header.get("axes") or len((saved.get("placement") or {}).get("scale", ()))
    if axes == 2 and array.ndim == 3 and len(array) == 1:
        array = array[0]
    return array.astype(np.uint8 if array.max() < 256 else np.uint16, copy=False)


def as_layer(volume: Volume) -> tuple[np.ndarray, bool]:
    """The pixels of an image for a layer, a view, and whether these are colours.

    [Z, Y, X], of several channels [C, Z, Y, X], of colours [Z, Y, X, 3 or 4]; of a single picture
    in an NPZ or TIFF the same without Z.
    """
    array, source = volume.array, volume.source
    rgb = array.ndim == 4 and array.shape[3] in (3, 4) and array.dtype == np.uint8
    rgb = rgb and source.format != "nifti"
    if array.ndim == 4 and not rgb:
        return np.moveaxis(array, -1, 0), False
    return (array[0] if len(array) == 1 and source.format in ("npz", "tiff") else array), rgb


def read_png_mask(path: Path) -> tuple[np.ndarray, dict[str, Any] | None]:
    """A mask [H, W] of a png (indices of a palette, if any), and our record, if any."""
    picture = read_picture(path)
    mask = mask_of(picture, path)
    return mask.astype(np.uint8 if mask.max() < 256 else np.uint16), picture.record


class Labelled(NamedTuple):
    """A mask from a file: integers [H, W] or [D, H, W], its classes, background first, the spacing
    of its axes in mm (None = unknown), and who annotated it (empty = unknown)."""

    mask: np.ndarray
    classes: tuple[Label, ...] | None
    spacing: tuple[float, ...] | None
    rater: str = ""


def read_labelled(path: Path) -> Labelled:
    """Read a mask of any format; a stack of one slice in a TIFF is a picture.

    InputError names the file, and what is no mask: other than whole numbers from 0 to 65535.
    """
    if is_volume(path):
        volume = read(path)
        array, facts = volume.array, volume.source.header
        if not _holds_labels(array):
            raise InputError(f"{path}: is no mask, which has whole numbers from 0 to 65535")
        mask, sizes = labels(volume), volume.spacing
    else:
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if path.suffix.lower() in JPEG:
            raise InputError(f"{path}: JPEG blurs labels; store masks as png")
        mask, said = read_png_mask(path)
        source = source_of(path)
        facts = {"unit": "pixel", "record": said} if source is None else source.header
        sizes = tuple(facts.get("spacing", ()))
    saved = facts.get("record") or {}
    if saved.get("placement"):  # it has the layer's own units, which a format may not
        sides = _sides(saved["placement"])
    else:
        sides = None if facts.get("unit") == "pixel" else tuple(sizes[-mask.ndim :])
    classes = record.labels_of(saved.get("classes"))
    return Labelled(mask, classes, sides, record.rater_of(saved))


def _sides(placement: dict[str, Any]) -> tuple[float, ...] | None:
    """The spacing of a layer in mm, if its units are lengths."""
    factors = [millimetres(unit) for unit in placement["units"]]
    if None in factors:
        return None
    pairs = zip(placement["scale"], factors, strict=True)
    return tuple(abs(float(side)) * (factor or 1.0) for side, factor in pairs)


def source_of(path: Path | None) -> Source | None:
    """The source, with spacing, of a TIFF opened by another reader; None for other files."""
    if path is None or kind_of(path) != "tiff" or not path.is_file():
        return None
    return tiff.read_source(path)


class Reading(NamedTuple):
    """array : an image as in a layer. source : of its file, or None."""

    array: np.ndarray
    source: Source | None


def readings(path: Path) -> Iterator[Reading]:
    """All readings of a file or folder, the likeliest first; two of them may be equal.

    A volume of several channels comes with channels first, as in its layer, and last.

    Raises
    ------
    InputError : names the file; no reader can read it.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    kind = kind_of(path)
    if kind in VOLUMES:
        ways = [_volume]
    elif path.suffix.lower() == ".npy":
        ways = [_stored]
    else:
        ways = [_picture, _stored, *([_volume] if kind == "tiff" else [])]
    refused = []
    for way in ways:
        try:
            yield from way(path)
        except InputError as error:
            refused.append(error)
    if len(refused) == len(ways):
        raise refused[0]


def _volume(path: Path) -> Iterator[Reading]:
    volume = read(path)
    yield Reading(as_layer(volume)[0], volume.source)
    if volume.array.ndim > 3:
        yield Reading(volume.array, volume.source)


def _picture(path: Path) -> Iterator[Reading]:
    """The reading of this package: colours are RGB, channels last."""
    yield Reading(read_image(path), source_of(path))


def _stored(path: Path) -> Iterator[Reading]:
    """The reading of napari: bits, print colours and the planes of a TIFF unchanged."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            # a map fails where the file is shorter than its header says
            array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
        elif suffix in TIFF:
            with tifffile.TiffFile(path) as tiff:
                check_chain(tiff)
                check_pages(path, tiff.series[0])
                array = tiff.asarray()
        else:
            with Image.open(path) as picture:
                check_picture(path, picture)
                array = np.array(picture)
    except InputError:
        raise
    except Exception as error:  # damaged bytes raise many kinds
        raise InputError(f"{path}: cannot be read: {first_line(error)}") from error
    yield Reading(array, source_of(path))
