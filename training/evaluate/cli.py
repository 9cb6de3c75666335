"""``napari-hidiff-evaluate``: prior and refined scores of a model on a split of a data set."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from napari_hidiff import SAMPLERS
from napari_hidiff.console import (
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
from napari_hidiff.training.datasets import DATASETS, SPLITS, Case, Dataset, open_dataset

from .deliver import deliver, told
from .experiments import (
    EXPERIMENTS,
    Options,
    conduct,
    copy_pictures,
    default_state,
    find,
)

if TYPE_CHECKING:
    from napari_hidiff.model import HiDiff
    from napari_hidiff.training.prior_source import PriorSource

    from .arms import Plan
    from .run import Evaluation

NAME = "napari-hidiff-evaluate"

SCORES_ONLY = ("also", "damage", "second_observer", "tolerance", "prior_from", "skip_bad")
"""Options that an experiment does not take."""
EXPERIMENT_ONLY = ("strokes", "stroke", "wrong_strokes", "arms", "slices", "control", "state")
"""Options that only experiments take."""

app = new_app()


def main() -> NoReturn:
    """Entry point of ``napari-hidiff-evaluate``."""
    run(app, NAME)


@app.command()
def evaluate_command(
    context: typer.Context,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="A bundled model or a .safetensors file.")
    ],
    dataset: Annotated[
        str, typer.Option(metavar="|".join(DATASETS), help="The data set, as its owner offers it.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Its folder. Default: $NAPARI_HIDIFF_DATA/DATASET, then ./data/DATASET.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="|".join(SPLITS), help="Which part of the data set.")
    ] = "test",
    split_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Your own split: a JSON object with a list of ids for each of train, val, test.",
        ),
    ] = None,
    split_rule: Annotated[
        str | None,
        typer.Option(help="Another way to split, where the data set has several (docs/data.md)."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many sampling seeds; an image's score is their mean.")
    ] = 3,
    seed: SeedOption = 0,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(SAMPLERS), help="Another sampler to compare with; may be repeated."
        ),
    ] = None,
    damage: Annotated[
        bool,
        typer.Option(
            "--damage",
            help="Refine from damaged priors too (holes, cuts, dilation; always the same) and "
            "report the share of the lost Dice that comes back.",
        ),
    ] = False,
    second_observer: Annotated[
        bool,
        typer.Option("--second-observer", help="Score the second human observer too (chase)."),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            help="Distance at which a surface still counts as met in nsd: in mm where the images "
            "say their spacing, else in pixels.",
        ),
    ] = 1.0,
    prior_from: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Start from a folder of masks of other software, or from a TorchScript network, "
            "in place of the segmentor.",
        ),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave out images that cannot be used and list them; else the first ends it.",
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    longest_side: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Shrink pictures and slices to at most so many pixels; 0 = leave them. Default: "
            "as the model was trained.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(EXPERIMENTS), help="Run a study instead (docs/interactive.md)."
        ),
    ] = None,
    strokes: Annotated[
        int, typer.Option(min=1, help="Experiments: most strokes on an image.")
    ] = Options.strokes,
    stroke: Annotated[
        str, typer.Option(metavar="auto|disc|scribble", help="Experiments: kind of the strokes.")
    ] = Options.stroke,
    wrong_strokes: Annotated[
        float,
        typer.Option(min=0, max=1, help="Experiments: share of wrong strokes in the *-wrong arms."),
    ] = Options.wrong,
    arms: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Experiments: only these arms.")
    ] = None,
    slices: Annotated[
        int, typer.Option(min=1, help="Experiments: slices of a volume that are used.")
    ] = Options.slices,
    control: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Experiments: the one-step control, a second model."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Experiments: where finished work is kept, to go on after an interruption. "
            "Default: runs/EXPERIMENT/MODEL-DATASET-SPLIT.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    json: JsonOption = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the JSON object to this file too.")
    ] = None,
) -> None:
    """Score a model's prior and its refined mask against the truth.

    Dice, IoU, recall, accuracy, HD95 and NSD (surface Dice) for every image, by class and in the
    mean, at the original resolution; the difference with the 95 % interval of a paired bootstrap
    over images. A volume is refined slice by slice and scored as a whole.

    **napari-hidiff-evaluate --model chase-vessels --dataset chase --data CHASEDB1**

    **napari-hidiff-evaluate --model mine.safetensors --dataset folder --data mine --damage**

    **napari-hidiff-evaluate --experiment interactive --model chase-vessels --dataset chase**
    """
    if experiment is None:
        _refuse(context, EXPERIMENT_ONLY, "needs --experiment")
    else:
        find(experiment)
        _refuse(context, SCORES_ONLY, "does not go with --experiment")
    if output is not None and not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist")
    opened = open_dataset(dataset, data, split_file, split_rule=split_rule)
    cases = opened.split(split)[:limit]
    loaded = load(model, device, engine)

    if longest_side is None:
        longest_side = int(loaded.card.training.get("recipe", {}).get("longest_side", 0))
    opened = replace(opened, longest_side=longest_side)
    seeds_used = tuple(range(seed, seed + seeds))
    command = shlex.join([NAME, *sys.argv[1:]])
    if experiment is not None:
        named = None if arms is None else tuple(filter(None, map(str.strip, arms.split(","))))
        options = Options(
            split,
            seeds_used,
            sampler,
            steps,
            samples,
            named,
            strokes,
            stroke,
            wrong_strokes,
            control,
            slices,
        )
        folder = state or default_state(experiment, model, opened, split)
        with told(NAME, len(cases)) as on_case:
            content = conduct(
                experiment, loaded, model, opened, cases, options, folder, command, on_case
            )
        if output is not None:
            copy_pictures(content, folder, output)
        deliver(content, json, output, find(experiment).show)
        return

    from napari_hidiff.training.prior_source import open_prior_source

    from .arms import Plan
    from .report import report
    from .tables import print_report

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


def _refuse(context: typer.Context, names: tuple[str, ...], why: str) -> None:
    """InputError for the first of these options that was given."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name.replace('_', '-')} {why}")


def _evaluate(
    model: "HiDiff",
    dataset: Dataset,
    cases: tuple[Case, ...],
    plan: "Plan",
    source: "PriorSource | None",
) -> "Evaluation":
    from .run import evaluate

    with progress() as bar:
        task = bar.add_task("images", total=len(cases))

        def on_image(done: int, case: Case) -> None:
            bar.update(task, description=case.id, completed=done)
            if bar.disable:
                log(f"{NAME}: {case.id} ({done + 1} of {len(cases)})")

        return evaluate(model, dataset, cases, plan, on_image, source)


if __name__ == "__main__":
    main()
