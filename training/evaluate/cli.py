"""``napari-hidiff-evaluate``: prior and refined scores of a model on a split of a data set."""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

import napari_hidiff
from napari_hidiff import SAMPLERS
from napari_hidiff.console import (
    DeviceOption,
    JsonOption,
    SamplerOption,
    SamplesOption,
    SeedOption,
    StepsOption,
    log,
    new_app,
    print_json,
    progress,
    run,
)
from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import DATASETS, SPLITS, Case, Dataset, open_dataset

if TYPE_CHECKING:
    from napari_hidiff.model import HiDiff
    from napari_hidiff.training.prior_source import PriorSource

    from .arms import Plan
    from .run import Evaluation

NAME = "napari-hidiff-evaluate"

app = new_app()


def main() -> NoReturn:
    """Entry point of ``napari-hidiff-evaluate``."""
    run(app, NAME)


@app.command()
def evaluate_command(
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
    device: DeviceOption = "auto",
    engine: Annotated[str, typer.Option(help="auto, packed or torch.")] = "auto",
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
    """
    if output is not None and not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist")
    opened = open_dataset(dataset, data, split_file, split_rule=split_rule)
    cases = opened.split(split)[:limit]
    loaded = napari_hidiff.load_model(model, device=device, engine=engine)

    from napari_hidiff.training.prior_source import open_prior_source

    from .arms import Plan
    from .report import report
    from .tables import print_report

    source = None
    if prior_from is not None:
        source = open_prior_source(prior_from, loaded.card, loaded.device)
    seeds_used = tuple(range(seed, seed + seeds))
    others = tuple(dict.fromkeys(also or ()))
    plan = Plan(
        seeds_used, sampler, steps, samples, others, damage, second_observer, tolerance, skip_bad
    )
    result = _evaluate(loaded, opened, cases, plan, source)
    content = report(result, opened, split, loaded, model, shlex.join([NAME, *sys.argv[1:]]))
    if prior_from is not None:
        content["prior_from"] = str(prior_from)
    if output is not None:
        _write(output, content)
    if json:
        print_json(content)
    else:
        print_report(content, Console())


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


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write the object; the file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


if __name__ == "__main__":
    main()
