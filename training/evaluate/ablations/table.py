"""A study's figures from the kept scores: nothing is trained or refined here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arms import PRIOR
from ..bootstrap import paired_bootstrap
from .rows import Row, Study
from .scored import Record

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
