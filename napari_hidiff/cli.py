"""The commands ``napari-hidiff`` (window, demo) and ``napari-hidiff-refine`` (files, no window).

Nothing heavy is imported before the arguments are understood, so that ``--help`` answers at once.
"""

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.table import Table

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
    make_folder,
    new_app,
    print_json,
    progress,
    run,
)
from napari_hidiff.errors import InputError
from napari_hidiff.models_cli import models_app
from napari_hidiff.replay_command import replay_command

window_app = new_app(
    help="Segment, correct and refine medical images in napari.\n\n"
    "**napari-hidiff** opens napari with the widget docked, **napari-hidiff fundus.jpg** opens it "
    "on an image, **napari-hidiff demo** shows a refinement of the bundled sample, **napari-hidiff "
    "export** makes a model file smaller, **napari-hidiff models** lists the models there are, "
    "**napari-hidiff replay** repeats a session."
)
window_app.command("replay")(replay_command)
window_app.add_typer(models_app, name="models")
refine_app = new_app()

ModelOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A model by name (chase-vessels, or one of yours: napari-hidiff models) or a "
        ".safetensors file.",
    ),
]


def main() -> NoReturn:
    """Entry point of ``napari-hidiff``; ``napari-hidiff IMAGE`` is short for its ``open``."""
    commands = {
        *("-h", "--help"),
        *(known.name for known in window_app.registered_commands),
        *(group.name for group in window_app.registered_groups),
    }
    if not commands.intersection(sys.argv[1:2]):
        sys.argv.insert(1, "open")
    run(window_app, "napari-hidiff")


def refine_main() -> NoReturn:
    """Entry point of ``napari-hidiff-refine``."""
    run(refine_app, "napari-hidiff-refine")


@window_app.command("open")
def open_window(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE...", help="Files that napari opens.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed that the widget starts with.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None,
        typer.Option(help="Device that it starts with."),
    ] = None,
) -> None:
    """Open napari with the widget "HiDiff refine" docked, on the images if any are given.

    **napari-hidiff IMAGE** is short for **napari-hidiff open IMAGE**. Model, sampler and steps are
    chosen in the widget.
    """
    from napari_hidiff._qt.launch import open_files, window_problem

    for path in images or ():
        if not path.exists():
            raise InputError(f"{path}: no such file")
    if problem := window_problem():
        raise InputError(f"{problem}; napari-hidiff-refine works without a window")
    open_files(images or [], device, seed)


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

    The sample is a test image of CHASE_DB1 that the bundled model has not been trained on. With a
    display napari opens on image, truth and mask; without one the files and the numbers are all.
    """
    from napari_hidiff.batch_command import advance
    from napari_hidiff.demo import run_demo, save_demo

    loaded = load(model, device, engine)
    make_folder(output)
    settings = {"sampler": sampler, "steps": steps, "samples": samples, "seed": seed}
    with progress() as bar:
        task = bar.add_task("refining the sample", total=1)
        demo = run_demo(loaded, settings, partial(advance, bar, task, 0))
    written = save_demo(demo, output)
    if json:
        print_json({"command": command("napari-hidiff"), **demo.record, "files": written})
    else:
        table = Table("mask", "Dice", title=f"{loaded.card.name} on {demo.record['image']}")
        for stage in demo.stages:
            table.add_row(stage.name, f"{stage.dice:.4f}")
        Console().print(table)
        for name, path in written.items():
            print(f"{name}: {path}")
    if window:
        from napari_hidiff._qt.launch import open_demo, window_problem

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
    """Write a model for inference only, in a smaller file: its binary weights as bits.

    Every command and the widget use it like the model it was made from, with the same results.
    Training cannot go on from it: keep the model.

    **napari-hidiff export runs/folder/model.safetensors small.safetensors**
    """
    from napari_hidiff.export import export_file

    record = export_file(model, file, overwrite)
    if json:
        print_json({"command": command("napari-hidiff"), **record})
    else:
        before, after = (record["bytes"][key] / 1e6 for key in ("model", "file"))
        print(f"{file}: {after:.1f} MB, the model {before:.1f} MB")


@refine_app.command()
def refine_command(
    model: ModelOption,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the masks; made if it is missing.")
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IMAGE...",
            help="Images (png, jpg, tif), volumes (nii, nii.gz, npz, tif stacks, DICOM folders), "
            "or folders of them.",
        ),
    ] = None,
    listed: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="A text file that names one image a line and, after tabs, its prior and its fixed "
            "pixels. Names start at the file's folder; # begins a comment.",
        ),
    ] = None,
    prior: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="Start from this mask (class numbers; 0 and 255 for one class) instead of the "
            "model's own. For several images: a folder with the same stems.",
        ),
    ] = None,
    fixed: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="Pixels that must keep their class: the class number where fixed; free is 255 in "
            "unsigned files and -1 in signed ones. For several images: a folder.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace masks that exist already.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on after an interruption: leave out images that are done with the same model, "
            "settings, image, prior and fixed pixels.",
        ),
    ] = False,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Processes that refine at once; 1 is this one. auto: one per GPU, else what "
            "cores, memory and the work to do allow. The masks are the same.",
        ),
    ] = "1",
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Use the workers of a running dask scheduler (tcp://host:8786). They must have "
            "napari-hidiff and see images and DIR under the same names.",
        ),
    ] = None,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    json: JsonOption = False,
) -> int:
    """Segment images and refine the masks, without a window.

    For each image NAME.jpg, DIR/NAME_mask.png (.tif for a tif) holds the class number of every
    pixel, 0 for background, and DIR/NAME_steps.json what was done. The colours in a photo viewer
    are those of the classes; the numbers behind them are the labels.

    A volume is refined slice by slice into DIR/NAME_mask.nii.gz, which lies exactly over it in
    ITK-SNAP and 3D Slicer; a DICOM series is named after its folder.

    DIR/report.csv has a row for every image, DIR/report.json everything that is known of them.

    An image that cannot be used gets one line on stderr, the others are still done, and the exit
    status is 2. After Ctrl+C (status 130), a kill or a power cut the same command with --resume
    does what is left.

    **napari-hidiff-refine fundus.jpg --model chase-vessels --output masks**

    **napari-hidiff-refine photos/ --model mine.safetensors --output masks --prior drafts/**

    **napari-hidiff-refine --list today.txt --model chase-vessels --output masks --workers auto**
    """
    from napari_hidiff.batch_command import Batch, run_batch

    settings = {"sampler": sampler, "steps": steps, "samples": samples, "seed": seed}
    batch = Batch(
        images=images or (),
        listed=listed,
        model=model,
        output=output,
        prior=prior,
        fixed=fixed,
        overwrite=overwrite,
        resume=resume,
        settings=settings,
        device=device,
        engine=engine,
        workers=workers,
        dask=dask,
    )
    return run_batch(batch, command("napari-hidiff-refine"), json)


def command(name: str) -> str:
    """The command line as it was given, for the record."""
    return shlex.join([name, *sys.argv[1:]])
