"""``napari-hidiff-train``: train a model on a named data set or on one's own folder."""

import dataclasses
import inspect
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hidiff.cli.console import (
    DeviceOption,
    JsonOption,
    log,
    new_app,
    print_json,
    progress,
    run,
)
from napari_hidiff.errors import InputError
from napari_hidiff.training.recipes import (
    PROMPTED,
    RECIPES,
    SIZES,
    UNIVERSAL,
    Recipe,
    as_in_the_paper,
    plan,
)

if TYPE_CHECKING:
    from napari_hidiff.training.datasets import Dataset

app = new_app()


def recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option per field of a recipe to ``command``; those set arrive in ``changes``."""
    fields = [
        field for field in dataclasses.fields(Recipe) if field.name not in ("dataset", "start")
    ]
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "changes"]

    def wrapped(**options: Any) -> None:
        changes = {field.name: options.pop(field.name) for field in fields}
        command(changes={k: v for k, v in changes.items() if v is not None}, **options)

    def option(field: "dataclasses.Field[Any]") -> inspect.Parameter:
        kind: Any = field.type
        usual = f" ({field.default} in the paper's size)" if field.default != "" else ""
        text = f"{field.metadata['help']}{usual}"
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
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Fine-tune this model (bundled, yours, or a file) with a few more images: the "
            "same networks, classes and channels, a short run with a low learning rate. A model "
            "that needs prompts gets a segmentor of your own instead.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name on the model's card (the data set's).")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(SIZES),
            help="paper: 256 px, width 128, 40,000 iterations, for a GPU; small: 128 px, width 32, "
            "an evening on a laptop; quick: an hour, as the bundled models were trained. Not with "
            "--from.",
            show_default="paper; quick for a folder without a GPU",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run (runs/<dataset>).")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Report what the data are and what is odd; no training.")
    ] = False,
    split_rule: Annotated[
        str | None, typer.Option(help="How to split, where a data set knows several ways.")
    ] = None,
    split_file: Annotated[
        Path | None, typer.Option(help="JSON with lists of case ids: train, val, test.")
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out cases that cannot be used, and count them."),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of the decoded images (cache beside the run's folder)."),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="The paper's mode: eps output, KL + focal loss.")
    ] = False,
    device: DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved recipe and the data found.")
    ] = False,
    background: Annotated[
        bool,
        typer.Option(
            "--background",
            help="Run beside other work: low priority, one thread; and stop with a checkpoint when "
            "standard input ends. The widget trains so.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a HiDiff model: a segmentor first, then segmentor and refiner in turns.

    napari-hidiff-train --dataset brats --data BraTS2021 --check reports what is there.

    napari-hidiff-train --dataset folder --data mine --size quick trains on mine/images and
    mine/masks. The run's folder holds checkpoints, TensorBoard events (tensorboard --logdir runs),
    a report with validation scores and calibration, and model.safetensors, which napari's HiDiff
    refine widget and napari-hidiff-refine --model open.

    napari-hidiff-train --dataset folder --data mine --from chase-vessels fine-tunes a model: it
    starts from its weights, and every 4th image is held out for scores before and after.

    napari-hidiff-train --dataset folder --data mine --from universal trains a small segmentor in
    minutes. universal then finds such objects without a prompt, and its refiner stays as it is.

    napari-hidiff-train --dataset collection --data sets --minutes 8 trains a universal refiner on
    every set in the folder sets: it segments any object from a stroke, a box or a mask.

    On several GPUs: accelerate launch -m napari_hidiff.training --dataset brats ...
    """
    from napari_hidiff.training.datasets import open_dataset
    from napari_hidiff.training.datasets.collection import held_out

    if start is not None and (size is not None or paper):
        raise InputError("--from has settings of its own: leave --size and --paper out")
    if size is None and start is None and not check and no_gpu(dataset, device, paper):
        size = "quick"
    recipe = resolved(dataset, size or "paper", paper, changes)
    if dataset in PROMPTED and (paper or start is not None):
        raise InputError(f"--dataset {dataset} has a recipe of its own: no --paper, no --from")
    if (recipe.hold_out or recipe.minutes) and dataset not in PROMPTED:
        raise InputError(f"--hold-out and --minutes are for --dataset {' or '.join(PROMPTED)}")
    data_set = open_dataset(dataset, data, split_file, split_rule=split_rule)
    if start is not None:
        recipe, data_set = fine_tuning(data_set, start, split_file is not None, changes)
    if recipe.hold_out:
        data_set = held_out(data_set, names_of(recipe.hold_out))
    if check:
        _check(data_set, as_json)
        return
    if dry_run:
        cases = {name: [case.id for case in cases] for name, cases in data_set.splits.items()}
        recipe_values = dataclasses.asdict(recipe)
        if as_json:
            print_json({"recipe": recipe_values, "cases": cases, "notes": list(data_set.notes)})
        else:
            more = "--json: every setting as JSON; --help explains them"
            print("\n".join([*plan(recipe, data_set), more]))
        return

    import torch

    from napari_hidiff.inference.catalog import find_model, read_card
    from napari_hidiff.training.progress import Watch

    if dataset in PROMPTED:
        from napari_hidiff.training.universal.run import train
    elif start is not None and read_card(find_model(start)).prompted:  # whose refiner stays
        from napari_hidiff.training.universal.own_segmentor import train
    else:
        from napari_hidiff.training.trainer import train

    # A resumed run ends with the weights of an uninterrupted one: the card names that command.
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    command = shlex.join(["napari-hidiff-train", *arguments])
    folder = output or Path("runs") / dataset
    watch = Watch(folder, shown=os.environ.get("RANK", "0") == "0")
    if background:
        if hasattr(os, "nice"):  # on Windows the parent process sets the priority
            os.nice(10)
        torch.set_num_threads(1)
        watch.stop_with_stdin()
    path = train(recipe, data_set, folder, device, resume, command, cache, skip_bad, name, watch)
    if os.environ.get("RANK", "0") != "0":  # only the first process prints
        return
    if as_json:
        print_json({"model": str(path)})
    else:
        print(f"model: {path}")
        log("Next: napari-hidiff IMAGE, then Model > from a file, and choose it")


def resolved(dataset: str, size: str, paper: bool, changes: dict[str, Any]) -> Recipe:
    """The recipe of a data set in a size and a mode, with single changes; InputError by name."""
    if dataset not in RECIPES:
        raise InputError(f"no data set {dataset!r}; known are {', '.join(RECIPES)}")
    if size not in SIZES:
        raise InputError(f"no size {size!r}; known are {', '.join(SIZES)}")
    sizes = UNIVERSAL if dataset in PROMPTED else SIZES
    recipe = dataclasses.replace(RECIPES[dataset], **sizes[size])
    return dataclasses.replace(as_in_the_paper(recipe) if paper else recipe, **changes)


def no_gpu(dataset: str, device: str, paper: bool) -> bool:
    """Whether a folder of one's own is to be trained on without a GPU: in a small size then."""
    if dataset != "folder" or paper or device not in ("auto", "cpu"):
        return False
    import torch

    return device == "cpu" or not torch.cuda.is_available()


def names_of(text: str) -> list[str]:
    """The names in a list that is separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def fine_tuning(
    dataset: "Dataset", start: str, split: bool, changes: dict[str, Any]
) -> tuple[Recipe, "Dataset"]:
    """Recipe and data of a fine-tuning from a model.

    Every 4th image of a folder is held out; other data sets, and one with a split file (``split``),
    hold out their val. InputError: a model that cannot be fine-tuned, other classes or channels.
    """
    from napari_hidiff.inference.catalog import find_model, read_card
    from napari_hidiff.training import fine_tuning as tune
    from napari_hidiff.training.universal.own_segmentor import of_objects, own_recipe

    card, recipe = read_card(find_model(start)), RECIPES[dataset.name]
    if card.prompted:
        of_objects(dataset, card)  # refuses what it cannot learn from
        recipe = own_recipe(recipe, card, start, changes)
    else:
        tune.starting_model(start)  # refuses an export
        dataset = tune.adapted(dataset, card)
        recipe = tune.tuned(recipe, card, start, changes)
    if dataset.name == "folder" and not split:
        cases = [case for cases in dataset.splits.values() for case in cases]
        dataset = dataclasses.replace(dataset, splits=tune.dealt(cases, recipe.seed, card))
    return recipe, dataset


def _check(found: "Dataset", as_json: bool) -> None:
    """Report on the data; exit status 2 when a case cannot be used."""
    from rich.console import Console

    from napari_hidiff.training.datasets.check import check, print_check
    from napari_hidiff.training.datasets.collection import report

    with progress() as bar:
        total = sum(map(len, found.splits.values()))
        task = bar.add_task("cases", total=total)
        content = check(found, lambda done, case: bar.update(task, completed=done))
    if found.name in PROMPTED:
        content["sets"] = report(found)
    if as_json:
        print_json(content)
    else:
        print_check(content, Console())
    if content["refused"]:
        raise InputError(content["refused"])
    if content["bad"]:
        count = content["unusable"]
        cases, them = ("case", "it") if count == 1 else ("cases", "them")
        raise InputError(f"{count} {cases} cannot be used; --skip-bad leaves {them} out")


def main() -> None:
    """Entry point: bad input is one line on stderr and exit status 2."""
    run(app, "napari-hidiff-train")


if __name__ == "__main__":
    main()
