"""Data sets as their owners distribute them, behind one interface and one registry.

>>> dataset = open_dataset("chase", Path("data/CHASEDB1"))
>>> sample = dataset.load(dataset.splits["train"][0])
"""

import os
from dataclasses import replace
from pathlib import Path

from napari_hidiff.errors import InputError

from .base import SPLITS, Case, Dataset, DatasetFormat, Sample
from .brats import BRATS
from .collection import COLLECTION
from .folder import FOLDER
from .fundus import CHASE, DRIVE
from .msd import MSD
from .polyps import CVC, KVASIR, POLYP
from .splits import read_split
from .synapse import SYNAPSE

__all__ = ["DATASETS", "SPLITS", "Case", "Dataset", "DatasetFormat", "Sample", "open_dataset"]

DATASETS: dict[str, DatasetFormat] = {
    entry.name: entry
    for entry in (CHASE, DRIVE, SYNAPSE, BRATS, KVASIR, CVC, POLYP, MSD, COLLECTION, FOLDER)
}
"""All data sets of ``--dataset``, by name."""


def open_dataset(
    name: str,
    data: Path | None = None,
    split_file: Path | None = None,
    seed: int = 0,
    split_rule: str | None = None,
) -> Dataset:
    """Find a data set on disk and list its cases; no image is loaded.

    ``data``: its folder, or the folder that holds it under its official name; None looks in
    ``$NAPARI_HIDIFF_DATA/<name>`` and then ``./data/<name>``.  ``split_file``: JSON
    ``{"train": [ids], "val": [ids], "test": [ids]}`` in place of the default split.  ``seed``
    deals the cases of a set without an official split.  ``split_rule``: one of the rules of the
    data set's format, None for its default; it also says which cases belong to one group.

    InputError, one line: an unknown name or rule, no data (with the expected layout and the owner's
    address), or an invalid split.
    """
    if name not in DATASETS:
        raise InputError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    entry = DATASETS[name]
    rule = entry.rules[0] if split_rule is None else split_rule
    if rule not in entry.rules:
        raise InputError(f"unknown split rule {rule!r}: {name} has {', '.join(entry.rules)}")
    places = [Path(data)] if data is not None else _default_places(name)
    roots = [root for place in places if (root := entry.root_in(place)) is not None]
    if not roots:
        looked = " and ".join(str(place) for place in places)
        raise InputError(f"no {name} data in {looked}; {entry.wanted}")
    dataset = replace(entry.open(roots[0], seed, rule), root=roots[0])
    if split_file is None:
        if dataset.splits["train"] and not dataset.splits["val"]:
            dataset = replace(dataset, notes=(*dataset.notes, "too few cases to keep some for val"))
        return dataset
    cases = [case for split in SPLITS for case in dataset.splits[split]]
    return replace(dataset, splits=read_split(Path(split_file), cases))


def _default_places(name: str) -> list[Path]:
    home = os.environ.get("NAPARI_HIDIFF_DATA")
    places = [Path(home) / name] if home else []
    return [*places, Path("data") / name]
