"""Shared by all commands: exit status, output streams, and options with one meaning.

Results go to stdout, everything else to stderr. Exit status: 0 done, 2 bad input, 130 interrupted.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from napari_hidiff.errors import InputError, refused
from napari_hidiff.inference.card import SAMPLERS

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

UsageError = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])
"""Typer's error for unknown options and missing arguments; its module differs by version."""

ModelOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A model by name (chase-vessels, or one of yours: napari-hidiff models) or a "
        ".safetensors file.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, mps; auto uses a GPU if there is one.")
]
EngineOption = Annotated[
    str,
    typer.Option(
        metavar="auto|packed|torch",
        help="How to run the refiner: packed (binary kernels on the CPU, many times faster), "
        "torch, or auto (packed if possible).",
    ),
]
SeedOption = Annotated[
    int, typer.Option(min=0, help="Seed of the noise: the same seed gives the same mask.")
]
SamplerOption = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(SAMPLERS),
        help="How to refine: one-step is a single deterministic pass; ddim and ancestral take "
        "several random steps. Default: as the model's card recommends.",
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Number of refinement steps. Default: the model's card."),
]
SamplesOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Masks drawn at each step; their mean is used. Default: the model's card."
    ),
]
ScaleOption = Annotated[
    float | None,
    typer.Option(
        metavar="FACTOR",
        help="Resample images by this factor for the model, 1 = not at all; masks have the size of "
        "the image. Default: to the scale of the model's training images, where it differs clearly "
        "(the card says it).",
    ),
]
BoxOption = Annotated[
    str | None,
    typer.Option(
        metavar="Y0,X0,Y1,X1",
        help="Start from the object that LiteMedSAM (extra medsam) finds in this box of one "
        "picture: rows Y0 to Y1 - 1, columns X0 to X1 - 1. The model has one class.",
    ),
]
DicomSegOption = Annotated[
    bool,
    typer.Option(
        "--dicom-seg",
        help="Write the mask of a DICOM series as a DICOM segmentation, DIR/NAME_mask.dcm (extra "
        "dicom-seg), instead of NIfTI.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")
]


def new_app(**options: Any) -> typer.Typer:
    """A typer application without shell completion and with plain tracebacks."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def run(app: typer.Typer, name: str) -> NoReturn:
    """Run a command and exit with its status; bad input is one line on stderr and status 2.

    A command returns None or its exit status, and raises InputError for bad input.
    """
    try:
        status = app(prog_name=name, standalone_mode=False)
    except InputError as error:
        log(f"{name}: {error}")
        status = 2
    except OSError as error:  # a disk that is full, a folder that may not be written to
        where = f"{error.filename}: " if error.filename else "cannot read or write: "
        log(f"{name}: {where}{refused(error)}")
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        log(f"{name}: interrupted")
        status = 130
    except UsageError as error:
        log(f"{name}: {error.format_message()} ({name} --help explains)")
        status = 2
    sys.exit(status if isinstance(status, int) else 0)


def command_line(name: str) -> str:
    """The command line of ``name``, for a record."""
    return shlex.join([name, *sys.argv[1:]])


def log(line: str) -> None:
    """Write one line to stderr, neither wrapped nor coloured."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: dict[str, Any]) -> None:
    """Write the one JSON object of a command to stdout."""
    print(json.dumps(value, indent=1, allow_nan=False))


def answer(record: dict[str, Any], line: str, as_json: bool) -> None:
    """Print the result of a command: the record as JSON, or one line for people."""
    if as_json:
        print_json(record)
    else:
        print(line)


def load(model: str, device: str, engine: str) -> "HiDiff":
    """The model of a command; a note on its engine goes to stderr."""
    import napari_hidiff

    with progress() as bar:  # the first compilation on a machine takes about ten seconds
        bar.add_task("loading the model", total=None)
        loaded = napari_hidiff.load_model(model, device=device, engine=engine)
    if loaded.backend.note:
        log(loaded.backend.note)
    return loaded


def make_folder(path: Path) -> None:
    """Make a folder for results; InputError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be made: {error.strerror}") from error


def progress() -> Progress:
    """A progress bar on stderr that is erased at the end; silent if stderr is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
