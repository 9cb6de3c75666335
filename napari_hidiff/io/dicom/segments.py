"""Segments of a DICOM segmentation: their frames as the labels of one mask, names and colours."""

from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.io import record
from napari_hidiff.io.dicom.elements import Header

SAME = 1e-3
"""Frames that are closer than this, in mm, are of the same slice."""
GAPS = 100
"""A mask has at most so many times the slices that have frames: a damaged position would make it
as large as memory."""


def levels(path: Path, places: np.ndarray, spacing: float | None) -> list[int]:
    """The slice of each frame, from 0.

    places : where the frames lie along their normal in mm, rising.  spacing : of the slices, as
    the file states it. Empty slices may have no frames. InputError for places that are not evenly
    spaced.
    """
    steps = np.diff(places)
    real = steps[steps > SAME]
    if not real.size:
        return [0] * len(places)
    usual = float(real.min())
    if spacing and _off(real, abs(spacing)) <= 0:
        usual = abs(spacing)
    if _off(real, usual) > 0:
        raise InputError(
            f"{path}: its frames are {usual:.4g} to {real.max():.4g} mm apart: spaced unevenly"
        )
    found = np.concatenate([[0], np.cumsum(np.rint(steps / usual))]).astype(int)
    if found[-1] > GAPS * (real.size + 1):
        raise InputError(f"{path}: only {real.size + 1} of its {found[-1] + 1} slices have frames")
    return [int(level) for level in found]


def add(header: Header, level: np.ndarray, frame: np.ndarray) -> None:
    """Put a frame, its label or 0, into the slice of a mask; both of the same shape.

    InputError where another segment has the same pixels.
    """
    both = (level > 0) & (frame > 0)
    if both.any():
        raise InputError(
            f"{header.path}: segments {level[both][0]} and {frame[both][0]} overlap; a mask has "
            "one label at a place"
        )
    level += frame.astype(level.dtype)


def record_of(header: Header) -> dict[str, Any] | None:
    """Names and colours of the segments by label, and who made them, as a record of ours has them;
    None without."""
    found: dict[int, tuple[str, str | None]] = {}
    for item in header.items("SegmentSequence"):
        own = Header(header.path, (item,), header.name)
        number = own.needed("SegmentNumber")
        name = " ".join(own.texts("SegmentLabel")) or f"label {number}"
        lab = own.numbers("RecommendedDisplayCIELabValue", 3)
        found[number] = name, None if lab is None else _hex(lab)
    if not found:
        return None
    kinds = []
    for label, usual in enumerate(record.named(None, max(found) + 1)):
        name, colour = found.get(label, (usual.name, None)) if label else (usual.name, None)
        kinds.append({"name": name, "color": colour or usual.color})
    rater = " ".join(" ".join(header.texts("ContentCreatorName")).split("^")).strip()
    said = {"classes": kinds, "turned": True, "rater": rater}
    return record.parse({record.NAME: record.VERSION, **said})


def _off(steps: np.ndarray, usual: float) -> float:
    """By how many mm steps differ from multiples of the usual one, beyond what is tolerated."""
    off = abs(steps - np.rint(steps / usual) * usual)
    return float(off.max() - (0.05 * usual + 0.01)) if (np.rint(steps / usual) > 0).all() else 1.0


def _hex(lab: np.ndarray) -> str:
    """``#rrggbb`` of DICOM's three numbers (PS3.3, C.10.7.1.1), each 0 to 65535."""
    from skimage.color import lab2rgb

    plain = lab / 65535 * (100, 255, 255) - (0, 128, 128)
    colour = lab2rgb(plain.clip((0, -128, -128), (100, 127, 127)))
    return "#" + "".join(f"{round(255 * float(part)):02x}" for part in colour)
