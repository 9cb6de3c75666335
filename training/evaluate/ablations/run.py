"""A study from its recipes to its table: train what is missing, score it, put it together.

A study as the command line asks for it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import versions
from napari_hidiff.inference.catalog import find_device
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.recipes import Recipe

from ..experiments import OnCase, Store, copy_pictures
from ..output import deliver, span, told
from ..report import hardware, plain
from .report import draw_cases, print_study, write_report
from .rows import STUDIES, Row, Study
from .table import Record, records, table, whole
from .trainings import Shelf, total


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


NAME = "napari-hidiff-evaluate"
VALIDATED = 8
"""Validation cases of a training: its last weights are taken, whatever they score."""


@dataclass(frozen=True)
class Asked:
    """Options of the command.

    size, settings : of every training, a name of SIZES and ``field=value`` of a recipe.
    first_stage : a finished run whose segmentor is taken.  kept : compute nothing.
    """

    split: str
    seeds: tuple[int, ...]
    rows: tuple[str, ...] | None
    size: str
    settings: Sequence[str]
    first_stage: Path | None
    kept: bool


def carry_out(
    name: str,
    asked: Asked,
    dataset: Dataset,
    cases: Sequence[Case],
    longest_side: int | None,
    state: Path | None,
    device: str,
    command: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """Run a study, write its report into its folder, and print it; InputError as from training."""
    from napari_hidiff.training.cli import resolved

    changes = {"validate_cases": VALIDATED} | parsed(asked.settings)
    if longest_side is not None:
        changes["longest_side"] = longest_side
    base = resolved(dataset.name, asked.size, False, changes)
    dataset = replace(dataset, longest_side=base.longest_side)
    folder = state or Path("runs") / "studies" / dataset.name
    wanted = Wanted(asked.split, asked.seeds, asked.rows, asked.kept)
    with told(NAME, models_of(name, wanted) * len(cases)) as on_case:
        shelf = Shelf(
            folder,
            dataset,
            base,
            str(find_device(device)),
            asked.first_stage,
            lambda line: on_case(0.0, line),
        )
        content = conduct(name, wanted, dataset, cases, shelf, command, on_case)
    beside = report_folder(shelf, name)
    content["pictures"] += write_report(content, beside)
    if output is not None:
        copy_pictures(content, beside, output)
    deliver(content, as_json, output, print_study)


def parsed(settings: Sequence[str]) -> dict[str, Any]:
    """``name=value`` as fields of a recipe; InputError for a name or a value that is none."""
    kinds: dict[str, Any] = {
        field.name: field.type for field in fields(Recipe) if field.name not in ("dataset", "start")
    }
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in kinds:
            raise InputError(f"--set {setting}: wanted NAME=VALUE with a setting of a training")
        kind = kinds[name]
        try:
            values[name] = _truth(text) if kind is bool else kind(text)
        except ValueError as error:
            raise InputError(f"--set {setting}: {text!r} is no {kind.__name__}") from error
    return values


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"
