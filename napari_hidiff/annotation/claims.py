"""Which file an annotation is kept in, so that two windows on one image do not share one.

A sidecar that is being written to is claimed by a lock on a file beside it. The lock belongs to
the operating system, which gives it back when the program ends, however it ends.
"""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.records import SliceRecord
from napari_hidiff.slices import Index

OLD = 3600
"""Seconds after which the part of any file that a killed program left is removed."""


_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that know no locks: better to save there without one than not at all."""


class Claim:
    """A sidecar that is ours to write; made by :func:`claim`."""

    def __init__(self, path: Path, handle: int, lock: Path) -> None:
        self.path, self._handle, self._lock = path, handle, lock

    def release(self) -> None:
        """Let others have it."""
        with contextlib.suppress(OSError):  # Windows removes no open file: it stays, empty
            self._lock.unlink()
        os.close(self._handle)


def claim(path: Path) -> Claim:
    """Claim a sidecar, or where another window has it, a new one beside it (``KEY.2.npz``, ...).

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
            return Claim(candidate, handle, lock)
    raise OSError(f"{path.name} is open in a hundred windows")


class Store:
    """Where one annotation is kept: claimed with the first write and released in the end.

    path : the sidecar that is wanted; key : of the image.
    replace : whether a file there is to be replaced, or else moved aside.
    """

    def __init__(self, path: Path, key: str, replace: bool) -> None:
        self._wanted, self._aside = path, not replace
        self._claim: Claim | None = None
        self._writer = sidecar.Writer(key)

    def write(
        self,
        shape: tuple[int, ...],
        slices: Mapping[Index, SliceRecord],
        kept: list[Index],
        log: list[dict[str, Any]],
    ) -> None:
        """Write the sidecar: ``slices`` that changed, and those of ``kept`` known from before.

        An earlier file is not touched before there is something to take its place. Raises OSError
        where that fails; the next call tries everything again.
        """
        self._writer.news(slices, kept)
        if not kept and (self._claim is None or not self._claim.path.exists()):
            return
        if self._claim is None:
            self._claim = claim(self._wanted)
            tidy(self._claim.path)
        if self._aside and self._claim.path == self._wanted:
            sidecar.set_aside(self._wanted)
        self._aside = False
        self._writer.write(self._claim.path, shape, log)

    def close(self) -> None:
        """Give the file back."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None


def tidy(path: Path) -> None:
    """Remove the parts that killed programs left of a sidecar that we have claimed, and old parts
    of any."""
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
    """A handle on a file that nobody else has locked, or None."""
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
        os.close(handle)  # its owner removed it just before we got the lock


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
