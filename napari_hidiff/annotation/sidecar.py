"""The sidecar: strokes, masks and log of an annotation in one file, safe from a crash.

The image itself is never written. The file is named after the content of the image
(:func:`image_key`), so it is found again wherever the image is opened from. :class:`Writer` writes
atomically: there is always one complete file, the old one or the new one. :func:`load` reads it.

Two windows on one image write two files: :func:`claim` locks a file beside the sidecar, or takes
the next free name. The operating system releases the lock when the program ends, also in a crash.
"""

import contextlib
import errno
import hashlib
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.annotation.entries import Entry, PackedSlice
from napari_hidiff.annotation.journal import SliceRecord, packed, records
from napari_hidiff.errors import InputError, first_line
from napari_hidiff.inference.stack import planes
from napari_hidiff.io.storage import SESSIONS, user_folder
from napari_hidiff.masks import FREE, Index, shown

FORMAT = 2
"""Files of format 1, whose logs cannot be repeated, are read too."""
OLD = 3600
"""Seconds after which partial files of killed programs are removed."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems without locks: a sidecar is then saved without one."""


@dataclass(frozen=True)
class SavedSession:
    """The content of a sidecar.

    shape : the shape of the whole mask; slices : strokes and masks per slice.
    log : as in :class:`napari_hidiff.annotation.Annotation`.
    saved : local time of writing, to the second. path : of the file.
    key : :func:`image_key` of the image; empty in files of format 1.
    """

    shape: tuple[int, ...]
    slices: Mapping[Index, SliceRecord]
    log: list[Entry]
    saved: str
    path: Path | None = None
    key: str = ""

    @property
    def strokes(self) -> int:
        """Number of fixed pixels."""
        return sum(int(np.count_nonzero(record.fixed != FREE)) for record in self.slices.values())

    @property
    def masks(self) -> int:
        """Number of slices with a mask that is more than strokes."""
        return sum(
            record.mask is not None or record.accepted is not None
            for record in self.slices.values()
        )

    @property
    def accepted(self) -> int:
        """Number of slices with an accepted mask."""
        return sum(record.accepted is not None for record in self.slices.values())


def folder() -> Path:
    """The folder of sidecars: ``$NAPARI_HIDIFF_SESSIONS``, else in the application data."""
    return user_folder(SESSIONS, "sessions")


def image_key(image: Any) -> str:
    """A digest of an image of any shape and dtype: 32 hexadecimal digits.

    image : a NumPy array, or a lazy array, which is read piece by piece
    (:mod:`napari_hidiff.inference.stack`).
    """
    shape = tuple(map(int, image.shape))
    digest = hashlib.blake2b(f"{image.dtype.str} {shape}".encode(), digest_size=16)
    for plane in planes(image):
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()


def path_of(key: str) -> Path:
    """The sidecar of the image with this key."""
    return folder() / f"{key}.npz"


def find(key: str) -> Path | None:
    """The newest sidecar of an image (two windows write two), or None."""
    path = path_of(key)
    paths = [other for other in (path, *folder().glob(f"{key}.*.npz")) if other.is_file()]
    return max(paths, key=lambda path: path.stat().st_mtime_ns, default=None)


class Writer:
    """Writes one sidecar repeatedly; only changed slices are packed again.

    key : of the image; it is written into the file.
    """

    def __init__(self, key: str = "") -> None:
        self._key = key
        self._packed: dict[Index, PackedSlice] = {}

    def news(self, slices: Mapping[Index, SliceRecord], kept: Iterable[Index]) -> None:
        """Pack the changed ``slices``, and drop all slices that are not in ``kept``."""
        self._packed |= zip(slices, packed(slices), strict=True)
        self._packed = {index: self._packed[index] for index in kept}

    def write(self, path: Path, shape: tuple[int, ...], log: Sequence[Mapping[str, Any]]) -> None:
        """Write everything, atomically; a file at ``path`` is replaced.

        Raises
        ------
        OSError : the folder cannot be written to.
        """
        about = {
            "format": FORMAT,
            "shape": shape,
            "key": self._key,
            "saved": datetime.now().isoformat(sep=" ", timespec="seconds"),
            "slices": list(self._packed.values()),
            "log": log,
        }
        text = np.frombuffer(json.dumps(about, separators=(",", ":")).encode(), np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}~", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, about=text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise


def save(
    path: Path,
    shape: tuple[int, ...],
    slices: Mapping[Index, SliceRecord],
    log: Sequence[Mapping[str, Any]],
    key: str = "",
) -> None:
    """Write a sidecar once; see :class:`Writer`."""
    writer = Writer(key)
    writer.news(slices, slices)
    writer.write(path, shape, log)


def load(path: Path) -> SavedSession | None:
    """Read a sidecar; None where there is none.

    Raises
    ------
    InputError : the file cannot be read or is no sidecar of this version.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            if about["format"] not in _READERS:
                raise ValueError(f"it has format {about['format']}, this version reads {FORMAT}")
            slices = _READERS[about["format"]](arrays, about)
            shape, key = tuple(about["shape"]), about.get("key", "")
            return SavedSession(shape, slices, about["log"], about["saved"], path, key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"The kept strokes in {path} cannot be read ({first_line(error)}); the file stays as "
            "it is."
        ) from error


def set_aside(path: Path) -> Path | None:
    """Rename a sidecar, so that new work can use its name. Returns the new path, if any."""
    if not path.exists():
        return None
    stem = f"{path.stem}-{datetime.now():%Y%m%d-%H%M%S}"
    aside, number = path.with_name(f"{stem}.npz"), 1
    while aside.exists():
        aside, number = path.with_name(f"{stem}-{number}.npz"), number + 1
    os.replace(path, aside)
    return aside


def _slices(arrays: Mapping[str, np.ndarray], about: dict[str, Any]) -> dict[Index, SliceRecord]:
    return records(about["slices"], about["shape"])


def _slices_1(arrays: Mapping[str, np.ndarray], about: dict[str, Any]) -> dict[Index, SliceRecord]:
    slices = {}
    for number, index in enumerate(map(tuple, about["slices"])):
        fixed = np.full(shown(about["shape"], index), FREE, np.int32)
        where = np.cumsum(arrays[f"where{number}"], dtype=np.int64)
        fixed.reshape(-1)[where] = arrays[f"label{number}"]
        slices[index] = SliceRecord(fixed, arrays.get(f"accepted{number}"))
    return slices


_READERS = {1: _slices_1, FORMAT: _slices}


class SidecarLock:
    """A sidecar that only this program writes; made by :func:`claim`."""

    def __init__(self, path: Path, handle: int, lock: Path) -> None:
        self.path, self._handle, self._lock = path, handle, lock

    def release(self) -> None:
        """Give up the lock."""
        with contextlib.suppress(OSError):  # Windows removes no open file: it stays, empty
            self._lock.unlink()
        os.close(self._handle)


def claim(path: Path) -> SidecarLock:
    """Lock a sidecar or, if another window has it, a new one beside it (``KEY.2.npz``, ...).

    Raises
    ------
    OSError : the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for candidate in _names(path):
        if candidate != path and candidate.exists():
            continue
        lock = candidate.with_name(f"{candidate.name}.lock")
        handle = _locked(lock)
        if handle is not None:
            return SidecarLock(candidate, handle, lock)
    raise OSError(f"{path.name} is open in a hundred windows")


class SidecarWriter:
    """The sidecar of one annotation: locked by the first write, released in the end.

    path : the preferred file; key : of the image.
    replace : whether an earlier file there is replaced; otherwise it is renamed.
    """

    def __init__(self, path: Path, key: str, replace: bool) -> None:
        self._wanted, self._aside = path, not replace
        self._claim: SidecarLock | None = None
        self._writer = Writer(key)

    def write(
        self,
        shape: tuple[int, ...],
        slices: Mapping[Index, SliceRecord],
        kept: list[Index],
        log: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write the sidecar: the changed ``slices``, and those of ``kept`` from earlier calls.

        An earlier file stays until there is a new one in its place. Raises OSError if writing
        fails; the next call tries everything again.
        """
        self._writer.news(slices, kept)
        if not kept and (self._claim is None or not self._claim.path.exists()):
            return
        if self._claim is None:
            self._claim = claim(self._wanted)
            tidy(self._claim.path)
        if self._aside and self._claim.path == self._wanted:
            set_aside(self._wanted)
        self._aside = False
        self._writer.write(self._claim.path, shape, log)

    def close(self) -> None:
        """Release the lock."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None


def tidy(path: Path) -> None:
    """Remove partial files of killed programs: all of this locked sidecar, old ones of others."""
    for part in path.parent.glob("*.part"):
        with contextlib.suppress(OSError):
            mine = part.name.startswith(f"{path.stem}~")
            if mine or part.stat().st_mtime < time.time() - OLD:
                part.unlink()


def _names(path: Path) -> Iterator[Path]:
    yield path
    first = path.stem.split(".")[0]
    for number in range(2, 100):
        yield path.with_name(f"{first}.{number}.npz")


def _locked(lock: Path) -> int | None:
    """A handle on a file that we have locked, or None if another process has it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _lock(handle):
                os.close(handle)
                return None
            if _same(handle, lock):
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)  # the owner removed the file just before we got the lock


def _same(handle: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), lock.stat())
    except FileNotFoundError:
        return False


def _lock(handle: int) -> bool:
    """Lock a file without waiting; whether that worked."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True
