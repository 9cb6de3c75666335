"""Masks into files that other programs open over the image."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.fileholders import FileHolder
from PIL import Image, PngImagePlugin

from napari_hidiff.errors import InputError
from napari_hidiff.io import npz, record, tiff
from napari_hidiff.io.dicom.segmentation import check_installed, write_segmentation
from napari_hidiff.io.images import TIFF
from napari_hidiff.io.nifti import PLACE, is_nifti, stem
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.io.volume import LPS, Source, canonical, lengths, millimetres, upright
from napari_hidiff.masks import Label

DICOM = ".dcm"
COMMENT = 6
"""NIfTI's code of a header extension that holds text."""


def write_labels(
    path: Path | str,
    mask: np.ndarray,
    classes: Sequence[Label] | None = None,
    source: Source | None = None,
    spacing: Sequence[float] | None = None,
    placement: Mapping[str, Any] | None = None,
    rater: str = "",
) -> list[Path]:
    """Write a mask as .nii, .nii.gz, .tif, .png, .npz or .dcm, by the suffix; returns the files.

    mask : integers [Y, X], [Z, Y, X] or [T, Z, Y, X], 0 and more; written as uint8, as uint16
        where a label is above 255 (not as png).
    classes : a name and a colour per label, background first; stored in the file. Beside a NIfTI
        file they are written as ``<stem>_labels.txt`` for ITK-SNAP and ``.ctbl`` for 3D Slicer.
    source : of the image that the mask belongs to. A NIfTI mask gets its orientation, affine,
        codes and units; tif and npz its spacing. A DICOM segmentation (.dcm, the extra
        ``dicom-seg``) refers to the images of the series, whose files must still be there.
    spacing : in mm along the mask's axes, where there is no source.
    placement : of the mask in napari, plain data with ``world``, the matrix from indices to
        world; without a source it gives a NIfTI file its affine (Z, Y, X of the world become k, j,
        i, and run as in ITK from the upper left corner to the left, back and up of a patient).
    rater : who annotated it, for the record in the file; of a DICOM segmentation its creator.

    All files are written atomically.

    Raises
    ------
    InputError : naming the file: another suffix, a mask that it cannot hold or that does not fit
        the source, a folder that cannot be written to; for .dcm also what
        :func:`napari_hidiff.io.dicom.segmentation.write_segmentation` refuses.
    """
    path = Path(path)
    suffix = check_name(path)
    pixels = _checked(path, np.asarray(mask), suffix)
    kinds = record.named(classes, int(pixels.max()) + 1)
    try:
        if suffix == DICOM:
            write_segmentation(path, pixels, kinds, source, rater)
            return [path]
        sizes, unit = _spacing(pixels.ndim, source, spacing, placement)
        turned = source is not None and source.turned
        text = record.write(kinds, placement, sizes, turned, rater)
        if suffix == ".nii":
            _write_nifti(path, pixels, kinds, source, _affine(sizes, placement), text)
        else:
            with atomic_write(path) as (part,):
                if suffix == ".png":
                    _write_png(part, pixels, record.table(kinds), text)
                elif suffix == ".npz":
                    affine = _affine(sizes, placement) if source is None else _turned(source)
                    npz.write_npz(part, pixels, text, affine)
                else:
                    tiff.write_tiff(part, pixels, text, record.table(kinds), sizes, unit)
    except InputError as error:
        line = str(error)
        raise InputError(line if str(path) in line else f"{path}: {line}") from error
    return [path, *tables(path)]


def check_name(path: Path) -> str:
    """The suffix of a mask's file, ``.nii`` also of a packed one; InputError for another format,
    and for one whose library is missing."""
    suffix = ".nii" if is_nifti(path) else path.suffix.lower()
    if suffix not in TIFF | {".nii", ".png", ".npz", DICOM}:
        raise InputError(f"{path}: masks are written as .nii.gz, .nii, .tif, .png, .npz or .dcm")
    if suffix == DICOM:
        check_installed(path)
    return suffix


def _checked(path: Path, mask: np.ndarray, suffix: str) -> np.ndarray:
    if mask.ndim < 2 or mask.size == 0 or mask.dtype.kind not in "bui":
        raise InputError(f"{path}: a mask is an integer array, not {mask.dtype} {mask.shape}")
    low, high = int(mask.min()), int(mask.max())
    top = 255 if suffix == ".png" else 65535
    if low < 0 or high > top:
        raise InputError(f"{path}: labels {low} to {high} do not fit into 0..{top}")
    most = {".png": 2, DICOM: 3, ".nii": 4}.get(suffix, 8)
    if mask.ndim > most:
        other = ".tif or .nii.gz" if suffix == ".png" else ".tif"
        raise InputError(f"{path}: a mask of {mask.ndim} axes is written as {other}")
    return np.ascontiguousarray(mask, np.uint8 if high < 256 else np.uint16)


def _spacing(
    axes: int,
    source: Source | None,
    spacing: Sequence[float] | None,
    placement: Mapping[str, Any] | None,
) -> tuple[list[float], str]:
    """The size of a voxel along the last three axes (Z, Y, X), and its unit: mm, or pixel."""
    if source is not None:
        sizes = source.header.get("spacing") or lengths(_turned(source))
        unit = "pixel" if source.header.get("unit") == "pixel" else "mm"
        return [float(size) for size in sizes], unit
    unit = "mm"
    if spacing is None and placement is not None:
        units = [millimetres(name) for name in placement["units"]]
        spacing = [
            abs(float(size)) * (factor or 1.0)
            for size, factor in zip(placement["scale"], units, strict=True)
        ]
        unit = "mm" if all(units[-2:]) else "pixel"
    if spacing is None:
        spacing, unit = [1.0] * axes, "pixel"
    sizes = [float(size) for size in spacing]
    if len(sizes) < min(axes, 3) or not all(np.isfinite(size) and size > 0 for size in sizes):
        raise InputError(f"a spacing of {list(spacing)} does not fit a mask of {axes} axes")
    return [1.0] * (3 - len(sizes)) + sizes[-3:], unit


def _turned(source: Source) -> np.ndarray:
    """The affine of the array in memory, to mm."""
    affine = np.array(source.affine)
    affine[:3] *= millimetres(source.header.get("unit")) or 1.0
    return canonical(source.shape, affine)[0] if source.turned else affine


def _affine(spacing: list[float], placement: Mapping[str, Any] | None) -> np.ndarray:
    """The affine [4, 4] of a mask that has no source, from X, Y, Z to mm."""
    if placement is None:
        z, y, x = spacing
        return upright((z, y, x))
    world = np.array(placement["world"], float)
    axes = min(len(world) - 1, 3)
    matrix = np.eye(4)  # the world of a picture is one slice deep
    matrix[3 - axes :, 3 - axes :] = world[-axes - 1 :, -axes - 1 :]
    for axis, unit in zip(range(3 - axes, 3), placement["units"][-axes:], strict=True):
        matrix[axis] *= millimetres(unit) or 1.0
    reverse = np.eye(4)[[2, 1, 0, 3]]
    affine: np.ndarray = LPS @ reverse @ matrix @ reverse
    return affine


def _write_nifti(
    path: Path,
    mask: np.ndarray,
    classes: Sequence[Label],
    source: Source | None,
    affine: np.ndarray,
    text: str,
) -> None:
    facts = source.header if source is not None and source.format == "nifti" else {}
    newer = facts.get("version") == 2 or max(mask.shape) > 32767
    kind = nibabel.Nifti2Image if newer else nibabel.Nifti1Image
    if source is not None:
        stored = source.stored(mask)
        affine = np.array(source.affine)
    else:
        stored = (mask[None] if mask.ndim == 2 else mask).T
    image = kind(stored, affine)
    header = image.header
    if facts:
        for name in PLACE:
            value = np.asarray(facts["place"][name])
            if name == "pixdim":  # sizes of other axes than space stay
                value = np.concatenate([value[:4], np.ones(4)])
            header[name] = value
        image = kind(stored, None, header)
    else:
        placed = 1 if source is not None else 2
        image.set_sform(affine, placed)
        image.set_qform(affine, placed)
        if not np.allclose(image.header.get_qform(), affine, atol=1e-4):
            image.set_qform(None, 0)  # a sheared layer, which a quaternion cannot express
        image.header.set_xyzt_units("mm")
    image.header.set_intent("label", name="labels")
    image.header["descrip"] = b"mask by napari-hidiff"
    image.header["cal_max"] = max(1, len(classes) - 1)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(COMMENT, text.encode()))
    snap, ctbl = tables(path)
    with atomic_write(path, snap, ctbl) as parts:
        parts[1].write_text(record.itk_snap(classes), encoding="utf-8")
        parts[2].write_text(record.slicer(classes), encoding="utf-8")
        with parts[0].open("wb") as raw:
            if path.name.lower().endswith(".gz"):
                # neither a name nor a time, so that the same mask gives the same file
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                    image.to_file_map({"image": FileHolder(fileobj=packed)})
            else:
                image.to_file_map({"image": FileHolder(fileobj=raw)})


def tables(path: Path) -> tuple[Path, ...]:
    """The files of names and colours beside a NIfTI mask, for ITK-SNAP and 3D Slicer, or none."""
    if not is_nifti(path):
        return ()
    base = stem(path)
    return path.with_name(f"{base}_labels.txt"), path.with_name(f"{base}_labels.ctbl")


def _write_png(part: Path, mask: np.ndarray, colours: np.ndarray, text: str) -> None:
    picture = Image.fromarray(mask)
    picture.putpalette(colours.tobytes())  # the grey values become indices
    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt(record.NAME, text)
    picture.save(part, format="PNG", optimize=True, pnginfo=chunk)
