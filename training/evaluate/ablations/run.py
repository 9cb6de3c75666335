"""A study from its recipes to its table: train what is missing, score it, put it together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from napari_hidiff.errors import InputError
from napari_hidiff.inference.versions import versions
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import OnCase
from ..output import span
from ..report import hardware, plain
from ..store import Store
from .forecast import total
from .gallery import draw_cases
from .rows import STUDIES, Row, Study
from .scored import Record, records
from .table import table, whole
from .trainings import Shelf


@dataclass(frozen=True)
class Wanted:
    """What a study is asked for.

    seeds : training seeds.  rows : names, None = all.  kept : tabulate what was done, train and
    refine nothing.
    """

    split: str = "test"
    seeds: tuple[int, ...] = (0, 1)
    rows: tuple[str, ...] | None = None
    kept: bool = False


def conduct(
    name: str,
    wanted: Wanted,
    dataset: Dataset,
    cases: Sequence[Case],
    shelf: Shelf,
    command: str,
    on_case: OnCase,
) -> dict[str, Any]:
    """A study as one plain object (:func:`table`, and what it rests on); no NaN in it.

    Rows are trained and scored seed by seed, in the order of the table; whatever was done before
    is taken as it is. InputError: an unknown row, or what training refuses.
    """
    study = STUDIES[name]
    chosen = _chosen(study, wanted.rows)
    models = [(row, seed) for seed in wanted.seeds for row in chosen]
    for row, seed in models:
        shelf.check(row, seed)
    store = Store(_folder(shelf.folder / "scores"))
    if not wanted.kept:
        _say_how_long(shelf, models, on_case)
    scores: dict[str, dict[int, dict[str, Record]]] = {}
    for number, (row, seed) in enumerate(models):

        def told(case: int, what: Case, before: int = number * len(cases)) -> None:
            on_case(before + case, what)

        found = records(shelf, row, seed, cases, store, not wanted.kept, told)
        if len(found) == len(cases):
            scores.setdefault(row.name, {})[seed] = found
    judge = study.row(study.against)
    shown = report_folder(shelf, name) / "cases.png"
    if scores.get(judge.name) and shelf.trained(judge, min(scores[judge.name])):
        seed = min(scores[judge.name])
        if store.computed or not shown.exists():
            draw_cases(shelf, judge, seed, scores[judge.name][seed], cases, shown)
    if not store.computed:
        on_case(float(len(models) * len(cases)), "nothing was left to do")
    content: dict[str, Any] = {
        "experiment": name,
        "title": study.title,
        "section": study.section,
        "dataset": dataset.name,
        "split": wanted.split,
        "n": len(cases),
        "seeds": list(wanted.seeds),
        "command": command,
        "versions": versions(),
        "hardware": hardware(torch.device(shelf.device)),
        "recipe": asdict(chosen[0].recipe(shelf.settled, 0)),
        **table(study, scores),
        "calibration": {
            row.name: curve for row in study.rows if (curve := _calibration(shelf, row, scores))
        },
        "pictures": [shown.name] if shown.exists() else [],
        "notes": [*dataset.notes, *_notes(shelf)],
    }
    return plain(content)


def models_of(name: str, wanted: Wanted) -> int:
    """How many models a study is about; InputError for an unknown row."""
    return len(_chosen(STUDIES[name], wanted.rows)) * len(wanted.seeds)


def report_folder(shelf: Shelf, name: str) -> Path:
    """Where a study's report and pictures are; InputError where it cannot be made."""
    return _folder(shelf.folder / name)


def _chosen(study: Study, names: tuple[str, ...] | None) -> list[Row]:
    known = [row.name for row in study.rows]
    for name in names or ():
        if name not in known:
            raise InputError(f"no row {name!r} in this study; its rows are {', '.join(known)}")
    return [row for row in study.rows if names is None or row.name in names]


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be a folder: {error.strerror or error}") from error
    return folder


def _say_how_long(shelf: Shelf, models: Sequence[tuple[Row, int]], on_case: OnCase) -> None:
    missing = [shelf.recipe(row, seed) for row, seed in models if not shelf.trained(row, seed)]
    if missing:
        count = "1 training" if len(missing) == 1 else f"{len(missing)} trainings"
        time = span(total(missing, shelf.dataset))
        first = "" if shelf.given else ", and the segmentor's before them"
        on_case(0.0, f"{count} to do: about {time} on this machine{first}; then they are scored")


def _calibration(shelf: Shelf, row: Row, scores: Any) -> list[dict[str, float]]:
    """Predicted and true flip rate by t of the row's first seed, on validation cases."""
    seeds = sorted(whole(scores.get(row.name, {})))
    return shelf.report(row, seeds[0]).get("calibration", []) if seeds else []


def _notes(shelf: Shelf) -> list[str]:
    return [
        "one segmentor serves all rows that share its recipe (seed 0); a training seed is that of "
        "the refiner: weights, crops, noise",
        "the weights after the last iteration are scored: nothing was chosen on validation cases",
    ]
