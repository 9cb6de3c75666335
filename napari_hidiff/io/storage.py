"""Files that appear whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_hidiff.errors import InputError, refused


@contextmanager
def whole(*paths: Path) -> Iterator[list[Path]]:
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
