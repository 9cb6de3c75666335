"""The objects of a collection, a case each, on the sets that a prompted model never saw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_hidiff.inference.card import Card
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.datasets.base import Sample
from napari_hidiff.training.datasets.collection import read_pair, set_of
from napari_hidiff.training.universal.pictures import enclosures
from napari_hidiff.training.universal.validation import PER_PICTURE, SMALLEST

SCALE = 256
"""Pixels of a picture's longer side at which an object needs ``SMALLEST`` pixels."""


@dataclass(frozen=True)
class ObjectCase(Case):
    """A picture and the labels of its mask that are one object."""

    labels: tuple[int, ...] = ()


def unseen_objects(dataset: Dataset, card: Card, most: int) -> Dataset:
    """A collection as objects: ``test`` has the sets that the card's model was not trained on.

    Of every picture the largest labels are objects, each with what it encloses; of every set
    ``most`` of these are taken, evenly over its pictures. The other splits stay empty.
    InputError names a pair that cannot be read.
    """
    trained = {id_.partition("/")[0] for id_ in card.training.get("cases", {}).get("train", ())}
    sets: dict[str, list[Case]] = {}
    for split in dataset.splits.values():
        for case in split:
            sets.setdefault(set_of(case), []).append(case)
    chosen: list[Case] = []
    for name in sorted(sets.keys() - trained):
        found = list(_objects(sets[name]))
        at = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
        chosen += [found[i] for i in at]
    note = f"sets that {card.name} was trained on are left out"
    return replace(
        dataset,
        splits={"train": (), "val": (), "test": tuple(chosen)},
        notes=(*dataset.notes, note) if trained & sets.keys() else dataset.notes,
        reader=read_object,
    )


def read_object(dataset: Dataset, case: Case) -> Sample:
    """A picture uint8 [H, W, 3], and whether a pixel belongs to the object of the case."""
    del dataset  # the same for all sets
    image, labels = read_pair(case)
    wanted = case.labels if isinstance(case, ObjectCase) else ()
    return Sample(case, image, np.isin(labels, wanted).astype(np.int32))


def _objects(cases: Sequence[Case]) -> Iterator[ObjectCase]:
    """The objects of the pictures of a set, in their order."""
    maps = [read_pair(case)[1] for case in cases]
    (within,) = enclosures(cases, maps, np.zeros(len(cases), int), 1)
    for case, labels in zip(cases, maps, strict=True):
        least = SMALLEST * (max(labels.shape) / SCALE) ** 2
        found, counts = np.unique(labels[labels > 0], return_counts=True)
        for label in found[np.argsort(-counts, kind="stable")][:PER_PICTURE]:
            if within[label][labels].sum() >= least:
                parts = tuple(np.flatnonzero(within[label]).tolist())
                yield ObjectCase(
                    f"{case.id}:{label}", case.group, case.images, case.mask, labels=parts
                )
