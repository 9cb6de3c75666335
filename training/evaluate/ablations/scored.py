"""Scores of a row's model on every case, kept one by one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..arms import PRIOR, Arm, Subject
from ..samplers import Way, spelled, way_of
from ..scoring import ArmScores, score_case
from ..store import Store, files_of
from .rows import Row
from .trainings import Shelf, told

Record = dict[str, Any]
"""Of one case: by way, and for the prior, ``dice``, ``hd95``, ``nsd`` and ``seconds``."""


def records(
    shelf: Shelf,
    row: Row,
    seed: int,
    cases: Sequence[Case],
    store: Store,
    compute: bool,
    on_case: Callable[[int, Case], None] = lambda done, case: None,
) -> dict[str, Record]:
    """The record of every case by its id; the model is trained and loaded when one is missing.

    Without ``compute`` only what is kept is returned, which may be nothing.
    """
    found: dict[str, Record] = {}
    model: HiDiff | None = None
    for done, case in enumerate(cases):
        decides = {
            "recipe": told(shelf.recipe(row, seed)),
            "ways": spelled(row.ways),
            "longest_side": shelf.dataset.longest_side,
            "files": files_of(case),
        }
        name = f"{row.name}-seed{seed}-{case.id}"
        kept = store.find(name, decides)
        if kept is None and compute:
            on_case(done, case)
            model = model or shelf.model(row, seed)
            kept = store.get(name, decides, _scoring(shelf.dataset, case, model, row, seed))
        if kept is not None:
            found[case.id] = kept
    return found


def _scoring(
    dataset: Dataset, case: Case, model: HiDiff, row: Row, seed: int
) -> Callable[[], Record]:
    def compute() -> Record:
        subject = Subject.of(dataset.load(case), model)
        scores = score_case(subject, dataset, arms(model, row.ways, seed))
        return {name: _row(arm) for name, arm in scores.arms.items()}

    return compute


def arms(model: HiDiff, ways: Sequence[str], seed: int) -> dict[str, Arm]:
    """The prior, and every way with the model."""

    def mask(subject: Subject, probability: np.ndarray) -> Iterator[np.ndarray]:
        yield model.mask_of(probability, axis=0).reshape(subject.sample.mask.shape)

    def refined(way: Way) -> Arm:
        return lambda subject: mask(subject, way.probability(model, subject, seed))

    return {PRIOR: lambda subject: mask(subject, subject.prior)} | {
        name: refined(way_of(name)) for name in ways
    }


def _row(arm: ArmScores) -> dict[str, float]:
    return {name: arm.mean[name] for name in ("dice", "hd95", "nsd")} | {"seconds": arm.seconds}
