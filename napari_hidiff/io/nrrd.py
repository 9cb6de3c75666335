"""NRRD volumes and segmentations, as 3D Slicer and plastimatch write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io import record
from napari_hidiff.io.pictures import check_file
from napari_hidiff.io.volume import Source, Volume, millimetres, rows, upright, upright_volume

SUFFIXES = (".nrrd", ".nhdr")

SPACES = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
}
"""From the axes of a space to right, anterior, superior."""


def read_nrrd(path: Path) -> Volume:
    """Read a volume [Z, Y, X] or [Z, Y, X, C]; a picture of two axes is one slice.

    In a space of a patient it comes in canonical orientation, else as it is stored, with its sizes.
    Floating values become float32. A ``.nhdr`` file finds its data beside itself.

    Raises
    ------
    InputError : names the file when it is missing, damaged, or of other axes.
    """
    import nrrd

    check_file(path)
    try:
        array, header = nrrd.read(str(path))
        return _volume(path, array, header)
    except InputError:
        raise
    except Exception as error:  # damaged bytes raise nearly anything
        raise InputError(f"{path}: cannot be read as NRRD: {first_line(error)}") from error


def _volume(path: Path, array: np.ndarray, header: Mapping[str, Any]) -> Volume:
    array, directions = _in_space(path, array, header)
    space = SPACES.get(str(header.get("space", "")).lower())
    facts: dict[str, Any] = {"unit": "mm"}
    if any(key.startswith("Segment0_") for key in header):
        if array.ndim == 4:
            raise InputError(
                f"{path}: holds segments that overlap, in several layers; export them from 3D "
                "Slicer as a label map"
            )
        facts |= {"label": True, "record": _segments(header)}
    if space is None:
        stated = {"spacings", "space directions"} & {*header}
        sizes = upright(_sizes(directions))
        facts |= {"unit": "mm" if stated else "pixel", "spacing": list(_sizes(directions))}
        source = Source(str(path), "nrrd", array.shape[:3], rows(sizes), False, facts)
        view = array.transpose((2, 1, 0) if array.ndim == 3 else (2, 1, 0, 3))
        kind = array.dtype.newbyteorder("=")
        plain = np.ascontiguousarray(view, dtype=kind)
        return Volume(plain, _sizes(directions), sizes, source)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions.T, header.get("space origin", np.zeros(3))
    affine[:3] *= millimetres((header.get("space units") or ["mm"])[0]) or 1.0
    affine = np.diag([*space, 1.0]) @ affine
    if not np.isfinite(affine).all() or np.linalg.det(affine) == 0:
        raise InputError(f"{path}: its space directions {directions.tolist()} are no axes")
    source = Source(str(path), "nrrd", array.shape[:3], rows(affine), True, facts)
    return upright_volume(array, affine, source)


def _in_space(
    path: Path, array: np.ndarray, header: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The voxels [i, j, k] or [i, j, k, C], and the step [3, 3] along i, j, k (a row each)."""
    if "space directions" in header:
        steps = np.array(header["space directions"], float)
        inside = np.isfinite(steps).all(1)
    else:
        kinds = header.get("kinds") or ["domain"] * array.ndim
        inside = np.array([kind in ("domain", "space", "none", "???") for kind in kinds])
        sizes = np.nan_to_num(header.get("spacings", np.ones(array.ndim)), nan=1.0)
        units = header.get("units") or ["mm"] * array.ndim
        steps = np.zeros((array.ndim, 3))
        for column, axis in enumerate(np.flatnonzero(inside)[:3]):
            steps[axis, column] = sizes[axis] * (millimetres(units[axis]) or 1.0)
    axes = np.flatnonzero(inside)
    others = [axis for axis in np.flatnonzero(~inside) if array.shape[axis] > 1]
    usable = array.size and array.dtype.kind in "iuf" and array.ndim == len(inside) == len(steps)
    if len(axes) not in (2, 3) or len(others) > 1 or not usable:
        raise InputError(f"{path}: holds {array.dtype} {array.shape}; wanted one volume")
    order = [*axes, *others]
    view = array.transpose([*order, *({*range(array.ndim)} - {*order})])
    view = view.reshape([array.shape[axis] for axis in order])
    steps = np.pad(steps[axes], ((0, 0), (0, max(0, 3 - steps.shape[1]))))[:, :3]
    if len(axes) == 2:
        normal = np.cross(*steps)
        view = view[:, :, None]
        steps = np.vstack([steps, normal / (np.linalg.norm(normal) or 1.0)])
    return view, steps


def _sizes(steps: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(size) for size in np.linalg.norm(steps, axis=1))
    return z, y, x


def _segments(header: Mapping[str, Any]) -> dict[str, Any] | None:
    """Names and colours of Slicer's segments, by label, as a record of ours has them."""
    found: dict[int, tuple[str, str]] = {}
    number = 0
    while (value := header.get(f"Segment{number}_LabelValue")) is not None:
        parts = str(header.get(f"Segment{number}_Color", "1 1 0")).split()
        colour = "#" + "".join(f"{round(255 * float(part)):02x}" for part in parts)
        if 0 < int(value) < 256:
            found[int(value)] = str(header.get(f"Segment{number}_Name", f"label {value}")), colour
        number += 1
    kinds = [
        dict(zip(("name", "color"), found.get(label, (kind.name, kind.color)), strict=True))
        for label, kind in enumerate(record.named(None, max(found, default=0) + 1))
    ]
    return record.parse({record.NAME: record.VERSION, "classes": kinds, "turned": True})
