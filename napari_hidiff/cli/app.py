"""The entry points, and of ``napari-hidiff`` the commands open, demo and export.

Nothing heavy is imported before the arguments are understood, so that ``--help`` answers at once.
The demo refines the bundled sample with the bundled model and shows it in numbers and a picture.
"""

import sys
import time
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from napari_hidiff.batch.records import describe
from napari_hidiff.cli.compare import compare_command
from napari_hidiff.cli.console import (
    DeviceOption,
    EngineOption,
    JsonOption,
    ModelOption,
    SamplerOption,
    SamplesOption,
    SeedOption,
    StepsOption,
    answer,
    command_line,
    load,
    log,
    make_folder,
    new_app,
    print_json,
    progress,
    run,
)
from napari_hidiff.cli.models import models_app
from napari_hidiff.cli.refine import refine_command
from napari_hidiff.cli.replay import replay_command
from napari_hidiff.cli.sizes import sizes_command
from napari_hidiff.errors import InputError
from napari_hidiff.io.images import SAMPLE, sample
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import Label, mean_dice

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff
    from napari_hidiff.plot import Demo, Stage

window_app = new_app(
    help="Segment, correct and refine medical images in napari.\n\n"
    "**napari-hidiff** opens napari with the widget, **napari-hidiff fundus.jpg** with an image "
    "too, **napari-hidiff demo** refines the bundled sample, **napari-hidiff export** writes a "
    "smaller model file, **napari-hidiff models** lists the models, **napari-hidiff replay** "
    "repeats a recorded session, **napari-hidiff compare** compares the masks of two raters."
)
refine_app = new_app()
refine_app.command()(refine_command)


def main() -> NoReturn:
    """Entry point of ``napari-hidiff``; ``napari-hidiff IMAGE`` is short for its ``open``."""
    if not {"-h", "--help", *commands()}.intersection(sys.argv[1:2]):
        sys.argv.insert(1, "open")
    run(window_app, "napari-hidiff")


def commands() -> list[str]:
    """What may follow ``napari-hidiff``, beside an image."""
    names = [command.name for command in window_app.registered_commands]
    return [str(name) for name in (*names, *(group.name for group in window_app.registered_groups))]


def refine_main() -> NoReturn:
    """Entry point of ``napari-hidiff-refine``."""
    run(refine_app, "napari-hidiff-refine")


@window_app.command("open")
def open_window(
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="Files that napari opens, or a folder of images."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed that the widget starts with.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None,
        typer.Option(help="Device that it starts with."),
    ] = None,
    queue: Annotated[
        bool,
        typer.Option("--queue", help="Annotate the files one after another, not as layers."),
    ] = False,
) -> None:
    """Open napari with the widget "HiDiff refine", and with images if you name some.

    **napari-hidiff IMAGE** is short for **napari-hidiff open IMAGE**. Several files are opened as
    layers over each other (an image per channel, a mask). The images of a folder,
    **napari-hidiff FOLDER**, or some of them, **napari-hidiff --queue IMAGE...**, are annotated
    one after another. Model, sampler and steps are chosen in the widget.
    """
    from napari_hidiff._qt.commands import open_files, window_problem

    for path in images or ():
        if not path.exists():
            near = get_close_matches(str(path), commands(), 1)
            meant = f"; did you mean the command {near[0]}?" if near else ""
            raise InputError(f"{path}: no such file{meant}")
    if problem := window_problem():
        raise InputError(f"{problem}; napari-hidiff-refine works without a window")
    open_files(images or [], device, seed, queue)


@window_app.command("demo")
def demo_command(
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for demo.png and the mask.")
    ] = Path("demo"),
    model: ModelOption = "chase-vessels",
    window: Annotated[
        bool, typer.Option("--window/--no-window", help="Open napari afterwards, given a display.")
    ] = True,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    json: JsonOption = False,
) -> None:
    """Refine the bundled sample: print the Dice of every step, write a picture, open napari.

    The sample is a test image of CHASE_DB1: the bundled model was not trained on it. With a display
    napari opens with image, truth and mask.
    """
    from napari_hidiff.cli.refine import advance

    loaded = load(model, device, engine)
    make_folder(output)
    settings = {"sampler": sampler, "steps": steps, "samples": samples, "seed": seed}
    with progress() as bar:
        task = bar.add_task("refining the sample", total=1)
        demo = run_demo(loaded, settings, partial(advance, bar, task, 0))
    written = save_demo(demo, output, loaded.card.classes)
    if json:
        print_json({"command": command_line("napari-hidiff"), **demo.record, "files": written})
    else:
        table = Table("mask", "Dice", title=f"{loaded.card.name} on {demo.record['image']}")
        for stage in demo.stages:
            table.add_row(stage.name, f"{stage.dice:.4f}")
        Console().print(table)
        for name, path in written.items():
            print(f"{name}: {path}")
    if window:
        from napari_hidiff._qt.commands import open_demo, window_problem

        if problem := window_problem():
            log(f"napari is not opened: {problem}")
        else:
            open_demo(demo, loaded.card)


@window_app.command("export")
def export_command(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A bundled model (chase-vessels) or a model file."),
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The export to write, a .safetensors file.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists already.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a smaller model file for inference only: its binary weights as bits.

    Every command and the widget use it like the original, with the same results. Training cannot
    continue from it: keep the original.

    **napari-hidiff export runs/folder/model.safetensors small.safetensors**
    """
    from napari_hidiff.inference.catalog import export_file

    record = export_file(model, file, overwrite)
    before, after = (record["bytes"][key] / 1e6 for key in ("model", "file"))
    line = f"{file}: {after:.1f} MB, the model {before:.1f} MB"
    answer({"command": command_line("napari-hidiff"), **record}, line, json)


MODEL = "chase-vessels"


def run_demo(
    model: "HiDiff",
    settings: dict[str, Any],
    on_step: Callable[["Step"], None] = lambda step: None,
) -> "Demo":
    """Segment the sample, refine it step by step, score every mask.

    settings: sampler, steps, samples (None = the model's card) and seed.  Raises InputError if the
    model cannot read the sample.
    """
    from napari_hidiff.plot import Demo, Stage

    image, truth = sample()
    start = time.perf_counter()
    run = model.steps(image, **settings)

    def stage(name: str, mask: np.ndarray) -> "Stage":
        return Stage(name, mask, mean_dice(mask, truth, model.labels))

    stages = [stage("prior", model.mask_of(model.prior(image)))]
    for step in run:
        stages.append(stage(f"step {step.index}", step.mask))
        on_step(step)
    stages.append(stages[-1]._replace(name="result"))
    record = describe(model, settings) | {
        "image": SAMPLE,
        "dice": {stage.name: round(stage.dice, 4) for stage in stages},
        "seconds": round(time.perf_counter() - start, 3),
    }
    return Demo(image, truth, stages, record)


def save_demo(demo: "Demo", output: Path, classes: Sequence[Label]) -> dict[str, str]:
    """Write the picture and the mask into ``output``; returns their paths by name.

    classes: of the mask, background first.
    """
    from napari_hidiff.plot import save_stages

    paths = {"picture": output / "demo.png", "mask": output / f"{SAMPLE}_mask.png"}
    save_stages(paths["picture"], demo.image, demo.truth, demo.stages)
    write_labels(paths["mask"], demo.stages[-1].mask, classes)
    return {name: str(path) for name, path in paths.items()}


window_app.add_typer(models_app, name="models")
window_app.command("sizes")(sizes_command)
window_app.command("compare")(compare_command)
window_app.command("replay")(replay_command)
