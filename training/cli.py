"""``napari-hidiff-train``: train a model on a named data set or on one's own folder."""

import dataclasses
import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_hidiff.console import DeviceOption, JsonOption, new_app, print_json, run
from napari_hidiff.errors import InputError
from napari_hidiff.training.recipes import RECIPES, Recipe, as_in_the_paper

app = new_app()


def recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` an option per field of a recipe; what was set arrives in ``changes``."""
    fields = [field for field in dataclasses.fields(Recipe) if field.name != "dataset"]
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "changes"]

    def wrapped(**given: Any) -> None:
        changes = {field.name: given.pop(field.name) for field in fields}
        command(changes={k: v for k, v in changes.items() if v is not None}, **given)

    def option(field: dataclasses.Field) -> inspect.Parameter:
        text = f"{field.metadata['help']} (usually {field.default})"
        kind: Any = field.type
        return inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(None, help=text, rich_help_panel="Recipe", show_default=False),
            annotation=kind | None,
        )

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    signature = inspect.Signature([*keyword, *(option(field) for field in fields)])
    wrapped.__signature__ = signature  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    wrapped.__doc__ = command.__doc__
    return wrapped


@app.command()
@recipe_options
def train_command(
    changes: dict[str, Any],
    dataset: Annotated[str, typer.Option(help=f"One of: {', '.join(RECIPES)}.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Its folder; else $NAPARI_HIDIFF_DATA/<name>, then ./data/<name>."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run (runs/<dataset>).")] = None,
    split_file: Annotated[
        Path | None, typer.Option(help="JSON with lists of case ids: train, val, test.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's mode: eps output, KL + focal loss.")
    ] = False,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and the data found.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a HiDiff model: a segmentor first, then segmentor and refiner in turns.

    napari-hidiff-train --dataset folder --data my_images trains on my_images/images and
    my_images/masks. The run's folder holds checkpoints, TensorBoard events (tensorboard --logdir
    runs), a report with validation scores and calibration, and model.safetensors, which napari's
    HiDiff refine widget and napari-hidiff-refine --model open.
    """
    from napari_hidiff.training.datasets import open_dataset

    if dataset not in RECIPES:
        raise InputError(f"no data set {dataset!r}; known are {', '.join(RECIPES)}")
    recipe = RECIPES[dataset]
    recipe = dataclasses.replace(as_in_the_paper(recipe) if paper else recipe, **changes)
    found = open_dataset(dataset, data, split_file)
    plan = {
        "recipe": dataclasses.asdict(recipe),
        "cases": {name: [case.id for case in cases] for name, cases in found.splits.items()},
        "notes": list(found.notes),
    }
    if dry_run:
        print_json(plan)
        return

    from napari_hidiff.training.loop import train

    # A resumed run ends with the weights of an uninterrupted one: the card names that command.
    given = [argument for argument in sys.argv[1:] if argument != "--resume"]
    command = shlex.join(["napari-hidiff-train", *given])
    folder = output or Path("runs") / dataset
    path = train(recipe, found, folder, device, resume, command)
    if as_json:
        print_json({"model": str(path)})
    else:
        print(f"model: {path}")


def main() -> None:
    """Entry point: bad input is one line on stderr and exit status 2."""
    run(app, "napari-hidiff-train")


if __name__ == "__main__":
    main()
