"""Checkpoints for resuming: written so that a reader sees the old file or the new, never half."""

import os
from pathlib import Path
from typing import IO, Any, cast

import torch

from napari_hidiff.errors import InputError
from napari_hidiff.io.storage import atomic_write


class _Remembering:
    """A file for torch.save, which turns an OSError of ``write`` into a RuntimeError."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, part: Any) -> int:
        try:
            count: int = self._file.write(part)
        except OSError as error:
            self.error = error
            raise
        return count

    def flush(self) -> None:
        self._file.flush()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path`` in one step; InputError when the system refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as (part,), part.open("wb") as file:
        remembering = _Remembering(file)
        try:
            torch.save(state, cast(IO[bytes], remembering))  # all that it calls is there
        except RuntimeError:
            if remembering.error is not None:
                raise remembering.error from None
            raise
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state saved in ``path``, on the CPU; InputError if it cannot be read."""
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return found
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"{path} is not a readable checkpoint") from error
