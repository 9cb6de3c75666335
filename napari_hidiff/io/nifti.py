"""NIfTI volumes as arrays that run [Z, Y, X], as napari shows them, in canonical orientation."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io import record
from napari_hidiff.io.extent import PACKED, STORED, check_extent
from napari_hidiff.io.images import check_file
from napari_hidiff.io.volume import Source, lengths, millimetres, rows, upright_volume
from napari_hidiff.io.volume import Volume as Volume

SUFFIXES = (".nii", ".nii.gz")

PLACE = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z"),
)
"""Fields of the header with the place of the voxels; copied bit for bit into masks."""


def is_nifti(path: Path) -> bool:
    """Whether the name of a file has a suffix of NIfTI."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The name without its suffix; ``.nii.gz`` counts as one."""
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem


def read_volume(path: Path) -> Volume:
    """Read a 2-D (one slice), 3-D or 4-D NIfTI file, to the end of its compressed bytes.

    Integers without a scale stay integers, the rest is float32.

    Raises
    ------
    InputError : names the file when it is missing, damaged, or of more axes.
    """
    import nibabel

    path = Path(path)
    check_file(path)
    try:
        loaded: Any = nibabel.load(path)
        source = _source(path, loaded)
        ratio = PACKED if path.name.lower().endswith(".gz") else STORED
        check_extent(path, loaded.shape, 8 * loaded.get_data_dtype().itemsize, ratio)
        voxels = _voxels(path, loaded)
        if voxels.ndim == 5 and voxels.shape[3] == 1:  # vectors of ITK
            voxels = voxels[..., 0, :]
        if voxels.ndim == 4 and voxels.shape[3] == 1:
            voxels = voxels[..., 0]
        if voxels.ndim == 2:
            voxels = voxels[..., None]
        if voxels.ndim not in (3, 4) or voxels.size == 0 or voxels.dtype.kind not in "buif":
            raise InputError(f"{path}: holds {voxels.dtype} {voxels.shape}; wanted a 3-D volume")
        affine = np.array(loaded.affine, np.float64)
        affine[:3] *= millimetres(source.header["unit"]) or 1.0
        if not np.isfinite(affine).all() or min(lengths(affine)) <= 0:
            raise InputError(f"{path}: has voxels of {lengths(affine)} mm (Z, Y, X)")
        return upright_volume(voxels, affine, source)
    except InputError:
        raise
    except Exception as error:  # nibabel, gzip and zlib raise many kinds for damaged bytes
        raise InputError(f"{path}: cannot be read as NIfTI: {first_line(error)}") from error


def _voxels(path: Path, loaded: Any) -> np.ndarray:
    """The voxels [i, j, k, ...] of a file, with the checksum of a packed one verified."""
    if not path.name.lower().endswith(".gz"):
        return np.asanyarray(loaded.dataobj)
    from nibabel.fileholders import FileHolder

    with gzip.open(path) as stream:
        holder = FileHolder(fileobj=stream)
        voxels = np.asanyarray(type(loaded).from_file_map({"image": holder}).dataobj)
        while stream.read(2**20):  # the checksum comes last, and is tested there
            pass
    array: np.ndarray = voxels
    return array


def _source(path: Path, image: Any) -> Source:
    header = image.header
    if not {*PLACE} <= {*header.keys()}:
        raise InputError("is of the older Analyze format")
    place = {name: np.asarray(header[name]).tolist() for name in PLACE}
    facts: dict[str, Any] = {
        "version": 2 if int(header["sizeof_hdr"]) == 540 else 1,
        "unit": header.get_xyzt_units()[0],
        "label": header.get_intent()[0] == "label",
        "place": place,
    }
    for extension in header.extensions:
        if found := record.parse(extension.get_content()):
            facts["record"] = found
    shape = (*image.shape[:3], 1)[:3]
    return Source(str(path), "nifti", shape, rows(image.affine), True, facts)
