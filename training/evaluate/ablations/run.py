"""An ablation from its recipes to its table: train what is missing, score it, put it together.

Each record holds the scores of one variant's model, of one training seed, on one case.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_hidiff.cli.console import make_folder
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import versions
from napari_hidiff.inference.catalog import find_device
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.recipes import Recipe

from ..metrics import REPORTED, paired_bootstrap
from ..output import NAME, Content, plain, progress
from ..report import hardware
from ..samplers import arms_with, plain_settings, setting_of
from ..scoring import PRIOR, PreparedSample, score_case
from ..study import Options, Record, Study, Task, files_of
from .report import draw_cases, write_report
from .trainings import TrainedModels, changed_fields, total_seconds
from .variants import ABLATIONS, Ablation, Variant

VALIDATED = 8
"""Validation cases of a training: its last weights are taken, whatever they score."""
NOTES = (
    "one segmentor serves all rows that share its recipe (seed 0); a training seed is that of "
    "the refiner: weights, crops, noise",
    "the weights after the last iteration are scored: nothing was chosen on validation cases",
)

Scores = Mapping[int, Mapping[str, Record]]
"""Of one variant: training seed -> case id -> record. A record has ``dice``, ``hd95``, ``nsd`` and
``seconds`` by sampler setting, and for the prior."""


def run_ablation(
    name: str,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path | None,
    device: str,
) -> tuple[Content, Path]:
    """Train and score the variants of an ablation; its object, and the folder of its report.

    state : of models and records, None = ``runs/studies/DATASET``.  Variants are trained and scored
    seed by seed, in the order of the table; whatever was done before is taken as it is.

    InputError: an unknown variant or setting, or what training refuses.
    """
    from napari_hidiff.training.cli import resolved

    changes = {"validate_cases": VALIDATED} | parsed(options.settings)
    if options.longest_side is not None:
        changes["longest_side"] = options.longest_side
    base = resolved(dataset.name, options.size, False, changes)
    dataset = replace(dataset, longest_side=base.longest_side)
    folder = state or Path("runs") / "studies" / dataset.name
    variants = _chosen(ABLATIONS[name], options.variants)
    runs = [(variant, seed) for seed in options.seeds for variant in variants]
    todo = len(runs) * len(cases)
    with progress(NAME, todo) as on_case:

        def say(line: str) -> None:
            on_case(0.0, line)

        on = str(find_device(device))
        models = TrainedModels(folder, dataset, base, on, options.first_stage, say)
        for variant, seed in runs:
            models.check(variant, seed)
        study = Study(folder / "scores", on_case, compute=not options.kept)
        scores = score_variants(models, runs, cases, study)
        if not study.records.computed:
            on_case(float(todo), "nothing was left to do")
    beside = folder / name
    make_folder(beside)
    anew = study.records.computed > 0
    picture = beside / "cases.png"
    _draw_reference(models, ABLATIONS[name], scores, cases, picture, anew)
    content = _content(name, variants[0], models, scores, len(cases), options)
    content["pictures"] = [picture.name] if picture.exists() else []
    content["pictures"] += write_report(content, beside)
    return content, beside


def _content(
    name: str,
    first: Variant,
    models: TrainedModels,
    scores: Mapping[str, Scores],
    cases: int,
    options: Options,
) -> Content:
    """The object of an ablation, with the recipe of its first variant."""
    ablation, dataset = ABLATIONS[name], models.dataset
    return plain(
        {
            "experiment": name,
            "title": ablation.title,
            "section": ablation.section,
            "dataset": dataset.name,
            "split": options.split,
            "n": cases,
            "seeds": list(options.seeds),
            "command": options.command,
            "versions": versions(),
            "hardware": hardware(torch.device(models.device)),
            "recipe": asdict(first.recipe(models.settled, 0)),
            **table(ablation, scores),
            "calibration": _calibration(models, ablation, scores),
            "pictures": [],
            "notes": [*dataset.notes, *NOTES],
        }
    )


def score_variants(
    models: TrainedModels,
    runs: Sequence[tuple[Variant, int]],
    cases: Sequence[Case],
    study: Study,
) -> dict[str, dict[int, dict[str, Record]]]:
    """Variant -> training seed -> case id -> record, of the runs that have all their records.

    runs : variants with a training seed; the model is trained where a record and it are missing.
    """
    missing = [models.recipe(*run) for run in runs if not models.trained(*run)]
    if missing and study.compute:
        first = "" if models.first_stage else ", and the segmentor's before them"
        seconds = total_seconds(missing, models.dataset)
        study.announce(len(missing), "training", seconds, f"{first}; then they are scored")
    scores: dict[str, dict[int, dict[str, Record]]] = {}
    for number, (variant, seed) in enumerate(runs):
        tasks = _tasks(models, variant, seed)
        found = study.run(cases, tasks, before=number * len(cases))
        records = {case.id: own[variant.name] for case, own in found if own}
        if len(records) == len(cases):
            scores.setdefault(variant.name, {})[seed] = records
    return scores


def _tasks(
    models: TrainedModels, variant: Variant, seed: int
) -> Callable[[Case], Sequence[Task[str]]]:
    """The one task of a case; the model is loaded, or trained, when the first needs it."""
    model = cache(lambda: models.model(variant, seed))
    settings = {name: setting_of(name) for name in variant.settings}
    shared = {
        "recipe": changed_fields(models.recipe(variant, seed)),
        "ways": plain_settings(settings),
        "longest_side": models.dataset.longest_side,
    }

    def tasks(case: Case) -> list[Task[str]]:
        def compute() -> Record:
            prepared = PreparedSample.of(models.dataset.load(case), model())
            scores = score_case(prepared, models.dataset, arms_with(model(), settings, seed))
            return {
                name: {metric: arm.mean[metric] for metric in REPORTED} | {"seconds": arm.seconds}
                for name, arm in scores.arms.items()
            }

        decides = {**shared, "files": files_of(case)}
        return [Task(variant.name, f"{variant.name}-seed{seed}-{case.id}", decides, compute)]

    return tasks


def table(ablation: Ablation, scores: Mapping[str, Scores]) -> Content:
    """Variants with a cell per sampler setting, and the Dice of every case.

    A cell holds the means over cases (and training seeds), and differences in Dice with the 95 %
    interval of a paired bootstrap over cases, each case the mean over its seeds: ``to_prior``, and
    ``to_reference`` where the variant and the reference have seeds in common. A variant without
    scores has no cells.
    """
    against = ablation.variant(ablation.against)
    reference = scores.get(against.name, {}), against.settings[0]
    return {
        "reference": {"row": against.name, "way": reference[1]},
        "rows": [_row(one, scores.get(one.name, {}), reference) for one in ablation.variants],
        "images": {
            name: _dice(of, ablation.variant(name).settings)
            for name, of in scores.items()
            if complete(of)
        },
    }


def complete(scores: Scores) -> dict[int, Mapping[str, Record]]:
    """The seeds that have scores of every case that any has."""
    most = max((len(of) for of in scores.values()), default=0)
    return {seed: of for seed, of in scores.items() if most and len(of) == most}


def _row(variant: Variant, scores: Scores, reference: tuple[Scores, str]) -> Content:
    done = complete(scores)
    content: Content = {
        "name": variant.name,
        "title": variant.title,
        "mode": "paper" if variant.paper else "ours",
        "changes": dict(variant.changes),
        "longer": variant.longer,
        "seeds": sorted(done),
        "cells": {},
    }
    for setting in (PRIOR, *variant.settings) if done else ():
        cell: Content = {m: float(_values(done, setting, m).mean()) for m in REPORTED}
        cell["seconds"] = float(_values(done, setting, "seconds").mean())
        if setting != PRIOR:
            gain = _values(done, setting, "dice") - _values(done, PRIOR, "dice")
            cell["to_prior"] = paired_bootstrap(gain)._asdict()
            cell["to_reference"] = _to_reference(done, setting, reference)
        content["cells"][setting] = cell
    return content


def _to_reference(
    done: Scores, setting: str, reference: tuple[Scores, str]
) -> dict[str, float] | None:
    """Dice minus that of the reference, over the seeds that both have; None for itself."""
    others, other = complete(reference[0]), reference[1]
    seeds = sorted(set(done) & set(others))
    if not seeds or (done == others and setting == other):
        return None
    mine = _values({seed: done[seed] for seed in seeds}, setting, "dice")
    theirs = _values({seed: others[seed] for seed in seeds}, other, "dice")
    return paired_bootstrap(mine - theirs)._asdict()


def _values(scores: Scores, setting: str, metric: str) -> np.ndarray:
    """One score of every case in the order of ids, the mean over seeds, float64 [N]."""
    ids = sorted(next(iter(scores.values())))
    rows = [[of[case][setting][metric] for case in ids] for of in scores.values()]
    return np.asarray(np.mean(np.array(rows, np.float64), 0))


def _dice(scores: Scores, settings: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """case id -> sampler setting -> Dice by seed."""
    done = complete(scores)
    return {
        case: {
            name: [done[seed][case][name]["dice"] for seed in sorted(done)]
            for name in (PRIOR, *settings)
        }
        for case in sorted(next(iter(done.values())))
    }


def _chosen(ablation: Ablation, names: tuple[str, ...] | None) -> list[Variant]:
    known = [variant.name for variant in ablation.variants]
    for name in names or ():
        if name not in known:
            raise InputError(f"no row {name!r} in this study; its rows are {', '.join(known)}")
    return [variant for variant in ablation.variants if names is None or variant.name in names]


def _draw_reference(
    models: TrainedModels,
    ablation: Ablation,
    scores: Mapping[str, Scores],
    cases: Sequence[Case],
    path: Path,
    anew: bool,
) -> None:
    """Draw the cases of the reference, where its model is there.

    anew : though the picture is there.
    """
    reference = ablation.variant(ablation.against)
    if done := scores.get(reference.name):
        seed = min(done)
        if models.trained(reference, seed) and (anew or not path.exists()):
            draw_cases(models, reference, seed, done[seed], cases, path)


def _calibration(
    models: TrainedModels, ablation: Ablation, scores: Mapping[str, Scores]
) -> dict[str, list[dict[str, float]]]:
    """Predicted and true flip rate by t of each variant's first seed, on validation cases."""
    curves = {}
    for variant in ablation.variants:
        if seeds := sorted(complete(scores.get(variant.name, {}))):
            curve = models.report(variant, seeds[0]).get("calibration")
            if curve:
                curves[variant.name] = curve
    return curves


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
