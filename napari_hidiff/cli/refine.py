"""The command ``napari-hidiff-refine``: its arguments and its help."""

from pathlib import Path
from typing import Annotated

import typer

from napari_hidiff.cli.console import (
    DeviceOption,
    EngineOption,
    JsonOption,
    ModelOption,
    SamplerOption,
    SamplesOption,
    SeedOption,
    StepsOption,
    command_line,
)


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
    from napari_hidiff.cli.batch_command import Batch, run_batch

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
    return run_batch(batch, command_line("napari-hidiff-refine"), json)
