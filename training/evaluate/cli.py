"""``napari-hidiff-evaluate``: prior and refined scores of a model on a split of a data set."""

import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import typer

from napari_hidiff.cli.console import (
    DeviceOption,
    EngineOption,
    JsonOption,
    SamplerOption,
    SamplesOption,
    SeedOption,
    StepsOption,
    load,
    log,
    new_app,
    progress,
    run,
)
from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import Case, Dataset, open_dataset

from . import options as of
from .ablations.rows import STUDIES
from .experiments import Options, conduct, copy_pictures, default_state, find
from .output import deliver, told

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff
    from napari_hidiff.training.priors import PriorSource

    from .scoring import Evaluation, Plan

NAME = "napari-hidiff-evaluate"

SCORES_ONLY = ("also", "damage", "second_observer", "tolerance", "prior_from", "skip_bad")
"""Options that neither experiments nor studies take."""
EXPERIMENT_ONLY = ("strokes", "stroke", "wrong_strokes", "arms", "slices", "control")
"""Options that only experiments on a model take."""
MODEL_ONLY = ("model", "sampler", "steps", "samples", "engine")
"""Options that no study takes: it trains its models, and its rows say how they refine."""
STUDY_ONLY = ("rows", "size", "settings", "first_stage", "kept")
"""Options that only studies take."""

app = new_app()


def main() -> NoReturn:
    """Entry point of ``napari-hidiff-evaluate``."""
    run(app, NAME)


@app.command()
def evaluate_command(
    context: typer.Context,
    dataset: of.DatasetOption,
    model: of.ModelOption = None,
    data: of.DataOption = None,
    split: of.SplitOption = "test",
    split_file: of.SplitFileOption = None,
    split_rule: of.SplitRuleOption = None,
    seeds: of.SeedsOption = 3,
    seed: SeedOption = 0,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    also: of.AlsoOption = None,
    damage: of.DamageOption = False,
    second_observer: of.SecondObserverOption = False,
    tolerance: of.ToleranceOption = 1.0,
    prior_from: of.PriorFromOption = None,
    skip_bad: of.SkipBadOption = False,
    limit: of.LimitOption = None,
    longest_side: of.LongestSideOption = None,
    experiment: of.ExperimentOption = None,
    list_experiments: of.ListOption = False,
    strokes: of.StrokesOption = Options.strokes,
    stroke: of.StrokeOption = Options.stroke,
    wrong_strokes: of.WrongStrokesOption = Options.wrong,
    arms: of.ArmsOption = None,
    slices: of.SlicesOption = Options.slices,
    control: of.ControlOption = None,
    rows: of.RowsOption = None,
    size: of.SizeOption = "quick",
    settings: of.SetOption = None,
    first_stage: of.FirstStageOption = None,
    kept: of.KeptOption = False,
    state: of.StateOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    json: JsonOption = False,
    output: of.OutputOption = None,
) -> None:
    """Score a model's prior and its refined mask against the truth.

    Dice, IoU, recall, accuracy, HD95 and NSD (surface Dice) for every image, by class and in the
    mean, at the original resolution; the difference with the 95 % interval of a paired bootstrap
    over images. A volume is refined slice by slice and scored as a whole.

    **napari-hidiff-evaluate --model chase-vessels --dataset chase --data CHASEDB1**

    **napari-hidiff-evaluate --model mine.safetensors --dataset folder --data mine --damage**

    **napari-hidiff-evaluate --experiment interactive --model chase-vessels --dataset chase**

    **napari-hidiff-evaluate --experiment ablation --dataset kvasir --seeds 2** trains the models
    of a table and scores them.
    """
    study = experiment is not None and experiment in STUDIES
    if experiment is None:
        _refuse(context, (*EXPERIMENT_ONLY, *STUDY_ONLY, "state"), "needs --experiment")
    else:
        if not study:
            find(experiment, STUDIES)
        _refuse(context, SCORES_ONLY, "does not go with --experiment")
        named = f"does not go with --experiment {experiment}"
        _refuse(context, (*EXPERIMENT_ONLY, *MODEL_ONLY) if study else STUDY_ONLY, named)
    if model is None and not study:
        raise InputError("Missing option '--model'.")
    if output is not None and not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist")
    opened = open_dataset(dataset, data, split_file, split_rule=split_rule)
    cases = opened.split(split)[:limit]
    seeds_used = tuple(range(seed, seed + seeds))
    command = shlex.join([NAME, *sys.argv[1:]])
    if experiment is not None and study:
        from .ablations.run import Asked, carry_out

        asked = Asked(split, seeds_used, _names(rows), size, settings or [], first_stage, kept)
        carry_out(
            experiment, asked, opened, cases, longest_side, state, device, command, json, output
        )
        return

    assert model is not None
    loaded = load(model, device, engine)
    if longest_side is None:
        longest_side = int(loaded.card.training.get("recipe", {}).get("longest_side", 0))
    opened = replace(opened, longest_side=longest_side)
    if experiment is not None:
        told_to = Options(
            split,
            seeds_used,
            sampler,
            steps,
            samples,
            _names(arms),
            strokes,
            stroke,
            wrong_strokes,
            control,
            slices,
        )
        folder = state or default_state(experiment, model, opened, split)
        with told(NAME, len(cases)) as on_case:
            content = conduct(
                experiment, loaded, model, opened, cases, told_to, folder, command, on_case
            )
        if output is not None:
            copy_pictures(content, folder, output)
        deliver(content, json, output, find(experiment).show)
        return

    from napari_hidiff.training.priors import open_prior_source

    from .report import print_report, report
    from .scoring import Plan

    source = None
    if prior_from is not None:
        source = open_prior_source(prior_from, loaded.card, loaded.device)
    others = tuple(dict.fromkeys(also or ()))
    plan = Plan(
        seeds_used, sampler, steps, samples, others, damage, second_observer, tolerance, skip_bad
    )
    result = _evaluate(loaded, opened, cases, plan, source)
    content = report(result, opened, split, loaded, model, command)
    content["longest_side"] = longest_side
    if prior_from is not None:
        content["prior_from"] = str(prior_from)
    deliver(content, json, output, print_report)


def _names(listed: str | None) -> tuple[str, ...] | None:
    """What stands between commas; None for nothing said."""
    return None if listed is None else tuple(filter(None, map(str.strip, listed.split(","))))


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """InputError for the first of these options that was given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            spelled = {"settings": "set"}.get(name, name.replace("_", "-"))
            raise InputError(f"--{spelled} {why}")


def _evaluate(
    model: "HiDiff",
    dataset: Dataset,
    cases: tuple[Case, ...],
    plan: "Plan",
    source: "PriorSource | None",
) -> "Evaluation":
    from .scoring import evaluate

    with progress() as bar:
        task = bar.add_task("images", total=len(cases))

        def on_image(done: int, case: Case) -> None:
            bar.update(task, description=case.id, completed=done)
            if bar.disable:
                log(f"{NAME}: {case.id} ({done + 1} of {len(cases)})")

        return evaluate(model, dataset, cases, plan, on_image, source)


if __name__ == "__main__":
    main()
