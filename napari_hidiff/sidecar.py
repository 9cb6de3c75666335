"""Strokes and accepted masks in a small file of their own, so that a crash does not lose them.

The image itself is never written. A file is named after the content of the image, so it is found
again wherever the image is opened from. Writing is atomic: there is always one complete file, the
old one or the new one.
"""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.session import Index, SliceRecord
from napari_hidiff.timeline import FREE

FORMAT = 1
VARIABLE = "NAPARI_HIDIFF_SESSIONS"
"""Name of the environment variable that says where sidecars are kept."""


@dataclass(frozen=True)
class Kept:
    """What a sidecar holds.

    shape : the shape of the whole mask; slices : strokes and accepted mask per slice.
    log : what was done, as in :class:`napari_hidiff.session.Annotation`.
    saved : when it was written, local time, to the second.
    """

    shape: tuple[int, ...]
    slices: Mapping[Index, SliceRecord]
    log: list[dict[str, Any]]
    saved: str

    @property
    def strokes(self) -> int:
        """How many pixels are fixed."""
        return sum(int(np.count_nonzero(kept.fixed != FREE)) for kept in self.slices.values())

    @property
    def accepted(self) -> int:
        """How many slices have an accepted mask."""
        return sum(kept.accepted is not None for kept in self.slices.values())


def folder() -> Path:
    """Where sidecars are: ``$NAPARI_HIDIFF_SESSIONS``, else among the user's application data."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "napari-hidiff" / "sessions"


def image_key(image: np.ndarray) -> str:
    """A name for the content of an image of any shape and dtype: 32 hexadecimal digits."""
    digest = hashlib.blake2b(f"{image.dtype.str} {image.shape}".encode(), digest_size=16)
    for plane in image if image.ndim > 2 else (image,):
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()


def path_of(key: str) -> Path:
    """The sidecar of the image with this key."""
    return folder() / f"{key}.npz"


def save(
    path: Path,
    shape: tuple[int, ...],
    slices: Mapping[Index, SliceRecord],
    log: list[dict[str, Any]],
) -> None:
    """Write a sidecar, atomically; what stood at ``path`` is replaced.

    Raises
    ------
    OSError : the folder cannot be written to.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, record in enumerate(slices.values()):
        where = np.flatnonzero(record.fixed != FREE)
        # Distances between neighbours are small numbers, which pack well.
        arrays[f"where{number}"] = np.diff(where, prepend=0).astype(np.uint32)
        arrays[f"label{number}"] = record.fixed.ravel()[where]
        if record.accepted is not None:
            arrays[f"accepted{number}"] = record.accepted
    saved = datetime.now().isoformat(sep=" ", timespec="seconds")
    about = {"format": FORMAT, "shape": shape, "slices": list(slices), "log": log, "saved": saved}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def load(path: Path) -> Kept | None:
    """Read a sidecar; None where there is none.

    Raises
    ------
    InputError : the file cannot be read or is no sidecar of this version.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _unpack(arrays)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"The kept strokes in {path} cannot be read ({error}); the file stays as it is."
        ) from error


def set_aside(path: Path) -> Path | None:
    """Move a sidecar out of the way of new work. Returns where it is now, None if none was."""
    if not path.exists():
        return None
    stem = f"{path.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    aside, number = path.with_name(f"{stem}.npz"), 1
    while aside.exists():
        aside, number = path.with_name(f"{stem}-{number}.npz"), number + 1
    os.replace(path, aside)
    return aside


def _unpack(arrays: Mapping[str, np.ndarray]) -> Kept:
    about = json.loads(arrays["about"].tobytes())
    if about["format"] != FORMAT:
        raise ValueError(f"it has format {about['format']}, this version reads {FORMAT}")
    shape = tuple(about["shape"])
    slices = {}
    for number, index in enumerate(map(tuple, about["slices"])):
        shown = [size for size, at in zip(shape, index, strict=True) if at < 0]
        fixed = np.full(shown, FREE, np.int32)
        where = np.cumsum(arrays[f"where{number}"], dtype=np.int64)
        fixed.reshape(-1)[where] = arrays[f"label{number}"]
        name = f"accepted{number}"
        slices[index] = SliceRecord(fixed, arrays.get(name))
    return Kept(shape, slices, about["log"], about["saved"])
