"""What has been done is kept, a small file each, so that an interrupted run can go on."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.storage import whole
from napari_hidiff.training.datasets import Case

FORMAT = 1
"""Rises when strokes or figures change their meaning: kept files are then computed anew."""


class Store:
    """Records in a folder, each under the digest of everything that decides it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed = 0
        """How many records were not there."""

    def find(self, name: str, decides: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record kept under a name for these circumstances, or None: there is none, it is
        torn, or it belongs to others."""
        path, key = self._path(name, decides)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return kept["record"] if kept["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def get(
        self, name: str, decides: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The kept record, or a new one that is kept from now on.

        InputError when it cannot be written. A new record comes back as it will be read later.
        """
        found = self.find(name, decides)
        if found is not None:
            return found
        path, key = self._path(name, decides)
        text = json.dumps({"key": key, "record": compute()}, allow_nan=False)
        with whole(path) as (part,):
            part.write_text(text, encoding="utf-8")
        self.computed += 1
        return json.loads(text)["record"]

    def _path(self, name: str, decides: Mapping[str, Any]) -> tuple[Path, str]:
        key = digest({"format": FORMAT, "name": name, **decides})
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        return self.folder / f"{readable}-{key[:12]}.json", key


def digest(value: Mapping[str, Any]) -> str:
    """Of JSON-able data, 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def fingerprint(model: HiDiff) -> str:
    """Of a model's weights and card, but for the scores on the card."""
    found = hashlib.blake2b(json.dumps(asdict(replace(model.card, scores={}))).encode())
    for module in (model.segmentor, model.refiner):
        for name, value in module.state_dict().items():
            found.update(name.encode())
            found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


def files_of(case: Case) -> list[int]:
    """The sizes of a case's files in bytes, by which another copy of the data is noticed."""
    return [path.stat().st_size if path.is_file() else -1 for path in case.files]
