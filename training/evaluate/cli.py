"""``napari-hidiff-evaluate``: prior and refined scores of a model on a split of a data set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from napari_hidiff.cli import console
from napari_hidiff.cli.console import (
    DeviceOption,
    EngineOption,
    JsonOption,
    SamplerOption,
    SamplesOption,
    SeedOption,
    StepsOption,
    command_line,
    load,
    new_app,
    run,
)
from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import Case, Dataset, open_dataset

from . import options as of
from .ablations.variants import ABLATIONS
from .experiments import default_state, experiment_named, run_experiment
from .output import NAME, Content, deliver, progress
from .study import Options

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

SCORES_ONLY = (
    "also",
    "damage",
    "at_half",
    "second_observer",
    "tolerance",
    "prior_from",
    "skip_bad",
)
"""Options that no experiment takes."""
EXPERIMENT_ONLY = (
    "strokes",
    "stroke",
    "wrong_strokes",
    "arms",
    "slices",
    "objects",
    "images",
    "control",
)
"""Options that only experiments on a model take."""
MODEL_ONLY = ("model", "sampler", "steps", "samples", "engine")
"""Options that no ablation takes: it trains its models, and its variants say how they refine."""
COLLECTION, OBJECTS, IMAGES = "collection", 20, 40
"""The data set of many sets, and how many objects, or pictures, of each are used."""
WHOLE_PICTURES = "first-images"
"""The experiment on all that is labelled in a picture, not on objects one by one."""
ABLATION_ONLY = ("rows", "size", "settings", "first_stage", "kept")
"""Options that only ablations take."""

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
    at_half: of.AtHalfOption = False,
    second_observer: of.SecondObserverOption = False,
    tolerance: of.ToleranceOption = Options.tolerance,
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
    objects: of.ObjectsOption = OBJECTS,
    images: of.ImagesOption = IMAGES,
    control: of.ControlOption = None,
    rows: of.RowsOption = None,
    size: of.SizeOption = Options.size,
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
    _refuse_misplaced(context, experiment)
    if output is not None and not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist")
    opened = open_dataset(dataset, data, split_file, split_rule=split_rule)
    options = Options(
        seeds=tuple(range(seed, seed + seeds)),
        sampler=sampler,
        steps=steps,
        samples=samples,
        split=split,
        longest_side=longest_side,
        also=tuple(dict.fromkeys(also or ())),
        damage=damage,
        at_half=at_half,
        second_observer=second_observer,
        tolerance=tolerance,
        skip_bad=skip_bad,
        arms=_names(arms),
        strokes=strokes,
        stroke=stroke,
        wrong=wrong_strokes,
        control=control,
        slices=slices,
        variants=_names(rows),
        size=size,
        settings=tuple(settings or ()),
        first_stage=first_stage,
        kept=kept,
        model=model or "",
        command=command_line(NAME),
    )
    if experiment is not None and experiment in ABLATIONS:
        from .ablations.report import print_report
        from .ablations.run import run_ablation

        cases = opened.split(split)[:limit]
        content, folder = run_ablation(experiment, opened, cases, options, state, device)
        deliver(content, print_report, json, output, folder)
        return
    loaded = load(options.model, device, engine)
    prompted = loaded.card.prompted
    if longest_side is None:  # a prompted model brings what it looks at to its scale itself
        recipe = loaded.card.training.get("recipe", {})
        longest_side = 0 if prompted else int(recipe.get("longest_side", 0))
    opened = replace(opened, longest_side=longest_side)
    if dataset == COLLECTION and prompted:
        from .objects import unseen_objects, unseen_pictures

        if experiment == WHOLE_PICTURES:
            opened = unseen_pictures(opened, loaded.card, images)
        else:
            opened = unseen_objects(opened, loaded.card, objects)
    cases = opened.split(split)[:limit]
    if experiment is not None:
        folder = state or default_state(experiment, options.model, opened, split)
        with progress(NAME, len(cases)) as on_case:
            content = run_experiment(experiment, loaded, opened, cases, options, folder, on_case)
        deliver(content, experiment_named(experiment).print, json, output, folder)
        return
    from .report import print_report as print_scores

    deliver(_scores(loaded, opened, cases, options, prior_from), print_scores, json, output)


def _scores(
    model: "HiDiff",
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    prior_from: Path | None,
) -> Content:
    """The object of a call without an experiment."""
    from napari_hidiff.training.priors import open_prior_source

    from .report import report
    from .scoring import evaluate

    source = None
    if prior_from is not None:
        source = open_prior_source(prior_from, model.card, model.device)
    with console.progress() as bar:
        task = bar.add_task("images", total=len(cases))

        def on_image(done: int, case: Case) -> None:
            bar.update(task, description=case.id, completed=done)
            if bar.disable:
                console.log(f"{NAME}: {case.id} ({done + 1} of {len(cases)})")

        result = evaluate(model, dataset, cases, options, on_image, source)
    content = report(result, dataset, options.split, model, options.model, options.command)
    content["longest_side"] = dataset.longest_side
    if prior_from is not None:
        content["prior_from"] = str(prior_from)
    return content


def _refuse_misplaced(context: typer.Context, experiment: str | None) -> None:
    """InputError for an unknown experiment, and for an option that does not go with it."""
    ablation = experiment in ABLATIONS
    if experiment is None:
        _refuse(context, (*EXPERIMENT_ONLY, *ABLATION_ONLY, "state"), "needs --experiment")
    else:
        if not ablation:
            experiment_named(experiment, ABLATIONS)
        _refuse(context, SCORES_ONLY, "does not go with --experiment")
        misplaced = (*EXPERIMENT_ONLY, *MODEL_ONLY) if ablation else ABLATION_ONLY
        _refuse(context, misplaced, f"does not go with --experiment {experiment}")
    if not ablation and context.params.get("model") is None:
        raise InputError("Missing option '--model'.")


def _names(listed: str | None) -> tuple[str, ...] | None:
    """The names between commas; None for None."""
    return None if listed is None else tuple(filter(None, map(str.strip, listed.split(","))))


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """InputError for the first of these options that is on the command line."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            spelled = {"settings": "set"}.get(name, name.replace("_", "-"))
            raise InputError(f"--{spelled} {why}")


if __name__ == "__main__":
    main()
