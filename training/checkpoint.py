"""Checkpoints for resuming: written so that a reader sees the old file or the new, never half."""

import os
from pathlib import Path
from typing import Any

import torch

from napari_hidiff.errors import InputError


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path`` in one step: a temporary file on the same disk, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path) -> dict[str, Any]:
    """The state saved in ``path``, on the CPU; InputError if it cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"{path} is not a readable checkpoint") from error
