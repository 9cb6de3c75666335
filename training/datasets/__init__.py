"""Data sets as their owners distribute them, behind one interface and one registry.

>>> dataset = open_dataset("chase", Path("data/CHASEDB1"))
>>> sample = dataset.load(dataset.splits["train"][0])
"""

import os
from dataclasses import replace
from pathlib import Path

from napari_hidiff.errors import InputError

from .base import SPLITS, Case, Dataset, DatasetFormat, Sample
from .chase import CHASE
from .drive import DRIVE
from .folder import FOLDER
from .msd import MSD
from .splits import read_split

__all__ = ["DATASETS", "SPLITS", "Case", "Dataset", "DatasetFormat", "Sample", "open_dataset"]

DATASETS: dict[str, DatasetFormat] = {entry.name: entry for entry in (CHASE, DRIVE, MSD, FOLDER)}
"""Every data set that ``--dataset`` knows, by name."""


def open_dataset(
    name: str, data: Path | None = None, split_file: Path | None = None, seed: int = 0
) -> Dataset:
    """Find a data set on disk and read what cases it has (no image is loaded yet).

    ``data``: its folder, or the folder that holds it under its official name; None looks in
    ``$NAPARI_HIDIFF_DATA/<name>`` and then ``./data/<name>``.  ``split_file``: JSON
    ``{"train": [ids], "val": [ids], "test": [ids]}`` in place of the default split.  ``seed``
    deals the cases of a set without an official split.

    InputError, one line: an unknown name, nothing found (it says what layout was wanted and where
    the owner offers it), or a split that is not one.
    """
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    entry = DATASETS[name]
    places = [Path(data)] if data is not None else _default_places(name)
    roots = [root for place in places if (root := entry.root_in(place)) is not None]
    if not roots:
        looked = " and ".join(str(place) for place in places)
        raise InputError(f"no {name} data in {looked}; {entry.wanted}")
    dataset = entry.open(roots[0], seed)
    if split_file is None:
        return dataset
    cases = [case for split in SPLITS for case in dataset.splits[split]]
    return replace(dataset, splits=read_split(Path(split_file), cases))


def _default_places(name: str) -> list[Path]:
    home = os.environ.get("NAPARI_HIDIFF_DATA")
    places = [Path(home) / name] if home else []
    return [*places, Path("data") / name]
