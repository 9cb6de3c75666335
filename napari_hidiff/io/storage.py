"""Where the user's files lie, files that appear whole or not at all, and their digests."""

import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_hidiff.errors import InputError, refused

SESSIONS = "NAPARI_HIDIFF_SESSIONS"
"""Name of the environment variable that says where sessions are stored."""


def user_folder(variable: str, name: str) -> Path:
    """The folder that an environment variable names, else ``name`` beside the sessions, which are
    in the user's application data unless :data:`SESSIONS` says otherwise."""
    if chosen := os.environ.get(variable):
        return Path(chosen).expanduser()
    if sessions := os.environ.get(SESSIONS):
        return Path(sessions).expanduser().parent / name
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "napari-hidiff" / name


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits; OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(*paths: Path) -> Iterator[list[Path]]:
    """Part files to be written, which take the places of ``paths`` at the end of the body; the
    first comes last. Where the body fails nothing was changed, and no part is left.

    InputError, naming the first path, where the system refuses.
    """
    parts = [part_of(path) for path in paths]
    try:
        yield parts
        for part, path in reversed(list(zip(parts, paths, strict=True))):
            part.replace(path)
    except OSError as error:
        raise InputError(f"{paths[0]}: cannot be written: {refused(error)}") from error
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """A new name beside a file, to write it under first; no two processes get the same."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
