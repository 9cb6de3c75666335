"""What the studies share: a resumable pass over cases, means over seeds and slices, intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..arms import Plan
from ..bootstrap import paired_bootstrap
from ..experiments import OnCase, Options
from ..report import plain
from ..scoring import check
from ..store import Store, files_of, fingerprint
from .views import SAMPLES, View, views_of

FORMAT = 3
"""Rises when the figures of a case change their meaning: kept files are then computed anew."""

Figures = dict[str, Any]
"""Plain data of one case: nested dictionaries of floats, lists of floats, and None for unknown."""


def measured(
    study: str,
    measure: Callable[[Sequence[View]], Figures],
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase,
) -> dict[str, Figures]:
    """The figures of every case by its id, from the files in ``state`` where they are known.

    A case without any foreground slice has no figures and is left out. A file that is torn, or of
    another model, data set or setting, is computed anew.

    InputError: model and data do not fit, no case, seed or slice, or a case is bad.
    """
    if options.slices < 1:
        raise InputError(f"the number of slices must be at least 1, not {options.slices}")
    if not cases:
        raise InputError(f"{dataset.name}: there is no case to study")
    check(model, dataset, cases, Plan(tuple(options.seeds)))
    state.mkdir(parents=True, exist_ok=True)
    store, known = Store(state), fingerprint(model)
    figures = {}
    for done, case in enumerate(cases):
        on_case(done, case)
        decides = {
            "study": [FORMAT, SAMPLES, list(options.seeds), options.slices],
            "data": [dataset.name, dataset.longest_side, files_of(case)],
            "model": known,
        }

        def compute(case: Case = case) -> dict[str, Any]:
            views = views_of(model, dataset, case, options.slices)
            return plain({"figures": measure(views) if views else None})

        found = store.get(f"{study}-{case.id}", decides, compute)["figures"]
        if found is not None:
            figures[case.id] = found
    if not figures:
        raise InputError(f"{dataset.name}: no case has any foreground")
    return figures


def mean(trees: Sequence[Any]) -> Any:
    """The mean of equal nested dictionaries, lists and floats; None and NaN do not count."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: mean([tree[key] for tree in trees]) for key in first}
    if isinstance(first, list):
        return [mean(values) for values in zip(*trees, strict=True)]
    known = [value for value in trees if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


def differences(
    figures: Mapping[str, Figures], path: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[str, float | None] | None]:
    """``"a - b"`` -> mean, low, high and n of the paired difference over cases that have both.

    path : the keys that lead to the values by arm in the figures of a case. None where no case
    has both.
    """
    result: dict[str, dict[str, float | None] | None] = {}
    for first, second in pairs:
        values = []
        for case in figures.values():
            here = case
            for key in path:
                here = here[key]
            if here[first] is not None and here[second] is not None:
                values.append(here[first] - here[second])
        interval = plain(paired_bootstrap(values)._asdict()) if values else None
        result[f"{first} - {second}"] = interval and {**interval, "n": len(values)}
    return result


def all_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Every two of the names, each pair once."""
    return list(combinations(names, 2))
