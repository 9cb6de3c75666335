"""A study's figures from the kept scores: nothing is trained or refined here.

Scores of a row's model on every case, kept one by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import Store, files_of
from ..metrics import paired_bootstrap
from ..samplers import Way, spelled, way_of
from ..scoring import PRIOR, Arm, ArmScores, Subject, score_case
from .rows import Row, Study
from .trainings import Shelf, told

Record = dict[str, Any]
"""Of one case: by way, and for the prior, ``dice``, ``hd95``, ``nsd`` and ``seconds``."""

Scores = Mapping[int, Mapping[str, Record]]
"""Of one row: training seed -> case id -> record."""
METRICS = ("dice", "hd95", "nsd")


def table(study: Study, scores: Mapping[str, Scores]) -> dict[str, Any]:
    """Rows of the study with a cell per way, and the Dice of every case.

    A cell holds the means over cases (and training seeds), and differences in Dice with the 95 %
    interval of a paired bootstrap over cases, each case the mean over its seeds: ``to_prior``
    and ``to_reference``, where the row and the reference have seeds in common. A row without
    scores has no cells.
    """
    against = study.row(study.against)
    judge = (scores.get(against.name, {}), against.ways[0])
    return {
        "reference": {"row": against.name, "way": judge[1]},
        "rows": [_row(row, scores.get(row.name, {}), judge) for row in study.rows],
        "images": {
            name: _dice(of, study.row(name).ways) for name, of in scores.items() if whole(of)
        },
    }


def whole(scores: Scores) -> dict[int, Mapping[str, Record]]:
    """The seeds that have scores of every case that any has."""
    most = max((len(of) for of in scores.values()), default=0)
    return {seed: of for seed, of in scores.items() if most and len(of) == most}


def _row(row: Row, scores: Scores, judge: tuple[Scores, str]) -> dict[str, Any]:
    done = whole(scores)
    content: dict[str, Any] = {
        "name": row.name,
        "title": row.title,
        "mode": "paper" if row.paper else "ours",
        "changes": dict(row.changes),
        "longer": row.longer,
        "seeds": sorted(done),
        "cells": {},
    }
    for way in (PRIOR, *row.ways) if done else ():
        cell: dict[str, Any] = {m: float(_values(done, way, m).mean()) for m in METRICS}
        cell["seconds"] = float(_values(done, way, "seconds").mean())
        if way != PRIOR:
            gain = _values(done, way, "dice") - _values(done, PRIOR, "dice")
            cell["to_prior"] = paired_bootstrap(gain)._asdict()
            cell["to_reference"] = _against(done, way, judge)
        content["cells"][way] = cell
    return content


def _against(done: Scores, way: str, judge: tuple[Scores, str]) -> dict[str, float] | None:
    """Dice minus that of the reference, over the seeds that both have; None for itself."""
    others, other = whole(judge[0]), judge[1]
    seeds = sorted(set(done) & set(others))
    if not seeds or (done == others and way == other):
        return None
    mine = _values({seed: done[seed] for seed in seeds}, way, "dice")
    theirs = _values({seed: others[seed] for seed in seeds}, other, "dice")
    return paired_bootstrap(mine - theirs)._asdict()


def _values(scores: Scores, way: str, metric: str) -> np.ndarray:
    """One score of every case in the order of ids, the mean over seeds, float64 [N]."""
    ids = sorted(next(iter(scores.values())))
    rows = [[of[case][way][metric] for case in ids] for of in scores.values()]
    return np.mean(np.array(rows, np.float64), 0)


def _dice(scores: Scores, ways: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """case id -> way -> Dice by seed."""
    done = whole(scores)
    ids = sorted(next(iter(done.values())))
    return {
        case: {way: [done[s][case][way]["dice"] for s in sorted(done)] for way in (PRIOR, *ways)}
        for case in ids
    }


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
        return {name: _scored_row(arm) for name, arm in scores.arms.items()}

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


def _scored_row(arm: ArmScores) -> dict[str, float]:
    return {name: arm.mean[name] for name in ("dice", "hd95", "nsd")} | {"seconds": arm.seconds}
