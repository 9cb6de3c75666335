"""NIfTI volumes as arrays that run [Z, Y, X], as napari shows them, in canonical orientation."""

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from napari_hidiff.errors import InputError

SUFFIXES = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Volume:
    """A volume in memory.

    array : [Z, Y, X] or, for a file of several channels, [Z, Y, X, C]; numeric, native order.
    spacing : size of a voxel in mm along Z, Y, X.
    affine : float64 [4, 4] from indices X, Y, Z of the canonical (RAS) orientation to mm.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray


def is_nifti(path: Path) -> bool:
    """Whether the name of a file ends as those of NIfTI do."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The name without its suffix; ``.nii.gz`` counts as one."""
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem


def read_volume(path: Path) -> Volume:
    """Read a 3-D or 4-D NIfTI file; integers without a scale stay integers, the rest is float32.

    Raises
    ------
    InputError : names the file when it is missing, damaged, or neither 3-D nor 4-D.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        stored = np.asanyarray(image.dataobj)
        affine, zooms = np.asarray(image.affine, np.float64), image.header.get_zooms()[:3]
    except Exception as error:  # nibabel, gzip and zlib raise many kinds for damaged bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as NIfTI: {reason}") from error
    if stored.ndim == 4 and stored.shape[3] == 1:
        stored = stored[..., 0]
    if stored.ndim not in (3, 4) or stored.size == 0 or stored.dtype.kind not in "buif":
        raise InputError(f"{path}: holds {stored.dtype} {stored.shape}; wanted a 3-D volume")
    axes = (2, 1, 0) if stored.ndim == 3 else (2, 1, 0, 3)
    kind = np.float32 if stored.dtype.kind == "f" else stored.dtype.newbyteorder("=")
    array = np.ascontiguousarray(stored.transpose(axes), dtype=kind)
    x, y, z = (float(zoom) for zoom in zooms)
    return Volume(array, (z, y, x), affine)
