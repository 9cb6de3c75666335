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
    sets = _unseen(dataset, card)
    chosen: list[Case] = []
    for cases in sets.values():
        chosen += _evenly(list(_objects(cases)), most)
    return replace(_tested(dataset, card, chosen), reader=read_object)


def unseen_pictures(dataset: Dataset, card: Card, most: int) -> Dataset:
    """The same with whole pictures: all that is labelled in one is the object."""
    chosen = [case for cases in _unseen(dataset, card).values() for case in _evenly(cases, most)]
    return _tested(dataset, card, chosen)


def _unseen(dataset: Dataset, card: Card) -> dict[str, list[Case]]:
    """The cases of every set that the card's model was not trained on, by name."""
    trained, sets = _trained(card), dict[str, list[Case]]()
    for split in dataset.splits.values():
        for case in split:
            if set_of(case) not in trained:
                sets.setdefault(set_of(case), []).append(case)
    return dict(sorted(sets.items()))


def _trained(card: Card) -> set[str]:
    return {id_.partition("/")[0] for id_ in card.training.get("cases", {}).get("train", ())}


def _evenly(found: Sequence[Case], most: int) -> list[Case]:
    at = np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int)
    return [found[i] for i in at]


def _tested(dataset: Dataset, card: Card, chosen: Sequence[Case]) -> Dataset:
    """The data set with these cases as its only split, ``test``."""
    known = {set_of(case) for split in dataset.splits.values() for case in split}
    note = f"sets that {card.name} was trained on are left out"
    return replace(
        dataset,
        splits={"train": (), "val": (), "test": tuple(chosen)},
        notes=(*dataset.notes, note) if _trained(card) & known else dataset.notes,
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
