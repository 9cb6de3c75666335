"""The user's folders, atomic writes, tables, and digests of files."""

import csv
import hashlib
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_hidiff.errors import InputError, refused

SESSIONS = "NAPARI_HIDIFF_SESSIONS"
"""Environment variable: the folder of sessions."""
FORMULA = ("=", "+", "-", "@", "\t")
"""What a formula begins with in a spreadsheet."""


def user_folder(variable: str, name: str) -> Path:
    """The folder in an environment variable, else ``name`` beside the sessions, which are in the
    user's application data or in :data:`SESSIONS`."""
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
    """The SHA-256 of a file's content, 64 hexadecimal digits; OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(*paths: Path) -> Iterator[list[Path]]:
    """Temporary files for the body to write, renamed to ``paths`` after it, the first one last. If
    the body fails, nothing is changed and the temporary files are removed.

    InputError, with the first path, if the system refuses.
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
    """A temporary name beside a file, unique among processes."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write texts as comma-separated values, which spreadsheets open as texts, not as formulas.

    InputError if the file cannot be written.
    """
    with atomic_write(path) as (part,), part.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for row in rows:
            table.writerow(f"'{cell}" if cell.startswith(FORMULA) else cell for cell in row)
