"""A study as the command line asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from napari_hidiff.errors import InputError
from napari_hidiff.inference.loading import find_device
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.recipes import Recipe

from ..experiments import copy_pictures
from ..output import deliver, told
from .markdown import write_report
from .report import print_study
from .run import Wanted, conduct, models_of, report_folder
from .trainings import Shelf

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
