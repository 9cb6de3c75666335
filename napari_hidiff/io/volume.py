"""A volume in memory, its source file, and the place of its axes in the patient.

:func:`millimetres` reads units of length by any name that files and napari's layers use.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError

KEY = "napari-hidiff-source"
"""Key of :meth:`Source.to_dict` in a layer's metadata."""

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From DICOM's and ITK's axes (left, posterior, superior) to NIfTI's (right, anterior, superior)"""

_RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True)
class Source:
    """The facts of an image file that a mask over it needs. Plain data.

    path : of the file, or of the folder of a series.
    format : ``nifti``, ``dicom``, ``nrrd``, ``tiff`` or ``npz``.
    shape : of the three stored axes in space, in the order i, j, k of the affine.
    affine : rows of the [4, 4] matrix from i, j, k to the file's unit of length, RAS+.
    turned : whether the array is in canonical orientation; else its axes are [k, j, i].
    header : further facts of the file.
    """

    path: str
    format: str
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    turned: bool
    header: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The source as plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Source":
        """The inverse of :meth:`to_dict`; InputError for anything else."""
        try:
            affine = tuple(tuple(map(float, row)) for row in values["affine"])
            shape = tuple(map(int, values["shape"]))
            header = dict(values.get("header", {}))
            path, kind, turned = values["path"], values["format"], values["turned"]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{KEY} in the layer's metadata cannot be read ({error})") from error
        return cls(str(path), str(kind), shape, affine, bool(turned), header)

    def stored(self, mask: np.ndarray) -> np.ndarray:
        """A mask [..., Z, Y, X] in the axes of the file, [i, j, k, ...]; a view.

        InputError for a mask of another size.
        """
        if mask.ndim == 2 and self.shape[2] == 1:
            mask = mask[None]
        affine = np.array(self.affine)
        view = stored(mask, affine) if self.turned and mask.ndim > 2 else mask.T
        if view.shape[:3] != self.shape:
            raise InputError(f"the mask has shape {mask.shape}, {self.path} is {self.shape}")
        return view


@dataclass(frozen=True)
class Volume:
    """A volume in memory.

    array : [Z, Y, X] or, for a file of several channels, [Z, Y, X, C]; numeric, native order.
    spacing : size of a voxel in mm along Z, Y, X; in pixels without a unit.
    affine : float64 [4, 4] from indices X, Y, Z to mm; for NIfTI and DICOM of the canonical (RAS)
        orientation.
    source : further facts of the file.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray
    source: Source


def upright_volume(array: np.ndarray, affine: np.ndarray, source: Source) -> Volume:
    """A volume in canonical orientation of the voxels of a file.

    array : [i, j, k] or [i, j, k, C]; affine : [4, 4] from i, j, k to mm, RAS+. Floating values
    become float32.
    """
    from nibabel.orientations import apply_orientation, io_orientation

    turned, spacing = canonical(array.shape[:3], affine)
    view = apply_orientation(array, io_orientation(affine))
    axes = (2, 1, 0) if array.ndim == 3 else (2, 1, 0, 3)
    kind = np.float32 if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    return Volume(np.ascontiguousarray(view.transpose(axes), dtype=kind), spacing, turned, source)


def fitting(source: Source | None, mask: np.ndarray) -> Source | None:
    """The source if the mask has its size; None for a cropped or resampled mask."""
    if source is None:
        return None
    try:
        source.stored(mask)
    except InputError:
        return None
    return source


def apart(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance between a corner of a grid under two affines [4, 4], in their unit.

    shape : of the grid along X, Y, Z. Rotation and voxel size act on the far corners.
    """
    corners = np.array([*product(*((-0.5, size - 0.5) for size in shape), (1.0,))])
    return float(np.linalg.norm(corners @ (first - second)[:3].T, axis=1).max())


def stored(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """A canonical array [..., Z, Y, X] in the axes [i, j, k, ...] of a file; a view.

    affine : [4, 4] of the file.
    """
    from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

    view: np.ndarray = apply_orientation(array.T, ornt_transform(_RAS, io_orientation(affine)))
    return view


def empty(
    shape: tuple[int, ...], affine: np.ndarray, dtype: np.dtype, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """A canonical array [Z, Y, X(, C)] to be filled, and its view [i, j, k(, C)] of a file.

    shape : of the file's three axes; channels : C, or 1 for none.
    """
    from nibabel.orientations import io_orientation

    turn = io_orientation(affine)
    sizes = [0, 0, 0]
    for axis, (place, _) in enumerate(turn):
        sizes[int(place)] = shape[axis]
    x, y, z = sizes
    if channels == 1:
        array = np.empty((z, y, x), dtype)
        return array, stored(array, affine)
    array = np.empty((z, y, x, channels), dtype)
    return array, stored(np.moveaxis(array, -1, 0), affine)


def canonical(
    shape: tuple[int, ...], affine: np.ndarray
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The affine of X, Y, Z after turning to canonical orientation, and the spacing Z, Y, X."""
    from nibabel.affines import voxel_sizes
    from nibabel.orientations import inv_ornt_aff, io_orientation

    turned = affine @ inv_ornt_aff(io_orientation(affine), shape)
    x, y, z = (float(size) for size in voxel_sizes(turned))
    return turned, (z, y, x)


def lengths(affine: np.ndarray) -> tuple[float, float, float]:
    """The sizes of a voxel along Z, Y, X, of an affine [4, 4] from X, Y, Z."""
    x, y, z = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    return z, y, x


def upright(spacing: tuple[float, float, float]) -> np.ndarray:
    """The affine [4, 4] of an image without orientation: as ITK reads pictures and TIFF.

    X runs to the left of a patient, Y to the back, Z up, from a voxel at 0 mm.
    """
    z, y, x = spacing
    return LPS @ np.diag([x, y, z, 1.0])


def rows(affine: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """The rows of a matrix as plain data."""
    return tuple(tuple(float(value) for value in row) for row in affine)


def whole(array: np.ndarray, path: Any) -> np.ndarray:
    """The array if it holds whole numbers in int32's range; InputError naming the file if not."""
    if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array % 1 == 0).all()):
        raise InputError(f"{path}: has values that are not whole numbers; a mask has class numbers")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if array.dtype.kind not in "buif" or max(-low, high) > 2**31 - 1:
        raise InputError(f"{path}: {array.dtype} {low:g} to {high:g} are no class numbers")
    return array


def millimetres(unit: Any) -> float | None:
    """A unit of length in mm; None for other units (pixel, second, nothing).

    unit : a name or symbol (``mm``, ``micron``, ``µm``, ImageJ's ``\\\\u00B5m``) or a pint unit.
    """
    return _factor(str(unit).strip().replace("\\u00B5", "µ"))


@cache
def _factor(name: str) -> float | None:
    if not name.isalpha() or name.lower() == "px":  # pint reads formulas, and CSS's pixels
        return None
    import pint

    registry = pint.get_application_registry()
    for word in (name, name.lower()):
        try:
            return float(registry.Quantity(1, word).to("mm").magnitude)
        except (pint.PintError, AttributeError):
            continue
    return None
