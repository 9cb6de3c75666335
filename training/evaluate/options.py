"""The options of ``napari-hidiff-evaluate``: types and help; the command has the defaults."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from napari_hidiff.inference.card import SAMPLERS
from napari_hidiff.training.datasets import DATASETS, SPLITS
from napari_hidiff.training.recipes import SIZES

from .ablations.variants import ABLATIONS
from .experiments import EXPERIMENTS

MODELS, TRAINED = "Experiments on a model", "Studies that train their models"

ModelOption = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="A bundled model or a .safetensors file.")
]
DatasetOption = Annotated[
    str, typer.Option(metavar="|".join(DATASETS), help="The data set, as its owner offers it.")
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Its folder. Default: $NAPARI_HIDIFF_DATA/DATASET, then ./data/DATASET.",
    ),
]
SplitOption = Annotated[
    str, typer.Option(metavar="|".join(SPLITS), help="Which part of the data set.")
]
SplitFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Your own split: a JSON object with a list of ids for each of train, val, test.",
    ),
]
SplitRuleOption = Annotated[
    str | None,
    typer.Option(help="Another way to split, where the data set has several (docs/data.md)."),
]
SeedsOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="How many sampling seeds; an image's score is their mean. Studies that train: "
        "training seeds.",
    ),
]
AlsoOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="|".join(SAMPLERS), help="Another sampler to compare with; may be repeated."
    ),
]
DamageOption = Annotated[
    bool,
    typer.Option(
        "--damage",
        help="Refine from damaged priors too (holes, cuts, dilation; always the same) and "
        "report the share of the lost Dice that comes back.",
    ),
]
AtHalfOption = Annotated[
    bool,
    typer.Option(
        "--at-half",
        help="Score the masks of the networks at probability 0.5 too, beside those at the "
        "thresholds of the card.",
    ),
]
SecondObserverOption = Annotated[
    bool,
    typer.Option("--second-observer", help="Score the second human observer too (chase)."),
]
ToleranceOption = Annotated[
    float,
    typer.Option(
        min=0,
        help="Distance at which a surface still counts as met in nsd: in mm where the images "
        "say their spacing, else in pixels.",
    ),
]
PriorFromOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Start from a folder of masks of other software, or from a TorchScript network, "
        "in place of the segmentor.",
    ),
]
SkipBadOption = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Leave out images that cannot be used and list them; else the first ends it.",
    ),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")]
LongestSideOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Shrink pictures and slices to at most so many pixels; 0 = leave them. Default: "
        "as the model was trained.",
    ),
]
ExperimentOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Run an experiment instead; --list-experiments says which there are."
    ),
]


def print_list(wanted: bool) -> None:
    """Every experiment with what it asks and the section of the paper; then the command ends."""
    if not wanted:
        return
    table = Table("experiment", "asks", "in the paper (HiDiff)", "needs")
    for name, experiment in EXPERIMENTS.items():
        table.add_row(name, experiment.title, experiment.section, "--model")
    for name, ablation in ABLATIONS.items():
        count = f"{len(ablation.variants)} trainings a seed"
        table.add_row(name, ablation.title, ablation.section, count)
    Console().print(table)
    raise typer.Exit


ListOption = Annotated[
    bool,
    typer.Option(
        "--list-experiments",
        is_eager=True,
        callback=print_list,
        help="Say what each experiment asks, and where the paper does, and leave.",
    ),
]
StrokesOption = Annotated[
    int, typer.Option(min=1, help="Most strokes on an image.", rich_help_panel=MODELS)
]
StrokeOption = Annotated[
    str,
    typer.Option(metavar="auto|disc|scribble", help="Kind of the strokes.", rich_help_panel=MODELS),
]
WrongStrokesOption = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="Share of wrong strokes in the *-wrong arms.", rich_help_panel=MODELS
    ),
]
ArmsOption = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Only these arms.", rich_help_panel=MODELS),
]
SlicesOption = Annotated[
    int,
    typer.Option(min=1, help="Slices of a volume that are used.", rich_help_panel=MODELS),
]
ObjectsOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="Objects of every set, where the data set is a collection; a prompted model is asked "
        "for one at a time, on the sets that it was not trained on (--split test).",
        rich_help_panel=MODELS,
    ),
]
ImagesOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="Pictures of every set in first-images, where the data set is a collection.",
        rich_help_panel=MODELS,
    ),
]
ControlOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The one-step control, a second model.", rich_help_panel=MODELS
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Experiments: where finished work is kept, to go on after an interruption. "
        "Default: runs/EXPERIMENT/MODEL-DATASET-SPLIT, or runs/studies/DATASET.",
    ),
]
RowsOption = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Only these rows.", rich_help_panel=TRAINED),
]
SizeOption = Annotated[
    str,
    typer.Option(
        metavar="|".join(SIZES),
        help="Size of every training, as for napari-hidiff-train.",
        rich_help_panel=TRAINED,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Another setting of every training, as iterations=1500; may be repeated.",
        rich_help_panel=TRAINED,
    ),
]
FirstStageOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Take segmentor and priors from this finished run of napari-hidiff-train.",
        rich_help_panel=TRAINED,
    ),
]
KeptOption = Annotated[
    bool,
    typer.Option(
        "--kept",
        help="Put the table together from what is kept; train and refine nothing.",
        rich_help_panel=TRAINED,
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the JSON object to this file too.")
]
