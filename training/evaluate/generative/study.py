"""What the studies share: a resumable pass over cases, means over seeds and slices, intervals."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.evaluate.arms import Plan
from napari_hidiff.training.evaluate.bootstrap import paired_bootstrap
from napari_hidiff.training.evaluate.run import check

from .views import SAMPLES, View, views_of

FORMAT = 2
"""Rises when the figures of a case change their meaning: kept files are then computed anew."""

OnCase = Callable[[int, Case], None]
Figures = dict[str, Any]
"""Plain data of one case: nested dictionaries of floats, lists of floats, and None for unknown."""


class Options(Protocol):
    """What a study reads of its options."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Sampling seeds; their figures are averaged."""

    @property
    def slices(self) -> int:
        """At most so many slices of a volume."""


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
    common = [study, FORMAT, SAMPLES, fingerprint(model), dataset.name, dataset.longest_side]
    state.mkdir(parents=True, exist_ok=True)
    figures = {}
    for done, case in enumerate(cases):
        on_case(done, case)
        sizes = [path.stat().st_size for path in case.files if path.is_file()]
        key = _digest([*common, list(options.seeds), options.slices, case.id, sizes])
        path = state / f"{study}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', case.id)}-{key[:12]}.json"
        kept = _read(path, key)
        if kept is None:
            views = views_of(model, dataset, case, options.slices)
            kept = rounded(
                {"key": key, "id": case.id, "figures": measure(views) if views else None}
            )
            _write(path, kept)
        if kept["figures"] is not None:
            figures[case.id] = kept["figures"]
    if not figures:
        raise InputError(f"{dataset.name}: no case has any foreground")
    return figures


def fingerprint(model: HiDiff) -> str:
    """A digest of weights and card, but for the scores on the card."""
    digest = hashlib.sha256(dataclasses.replace(model.card, scores={}).to_json().encode())
    for module in (model.segmentor, model.refiner):
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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
        interval = rounded(paired_bootstrap(values)._asdict()) if values else None
        result[f"{first} - {second}"] = interval and {**interval, "n": len(values)}
    return result


def all_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Every two of the names, each pair once."""
    return list(combinations(names, 2))


def rounded(value: Any) -> Any:
    """Floats to 6 decimals, NaN as None: what JSON can hold."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) + 0.0 if math.isfinite(value) else None
    return value


def _digest(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read(path: Path, key: str) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept if kept["key"] == key and "figures" in kept else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    """The file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
