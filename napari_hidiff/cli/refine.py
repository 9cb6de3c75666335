"""The command ``napari-hidiff-refine``: its arguments, and the batch that it runs.

:func:`refine_command` has the options and their help; :func:`run_batch` plans the jobs, refines
them here or in several processes, and reports.
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, TaskID

from napari_hidiff._version import __version__
from napari_hidiff.batch import records
from napari_hidiff.batch.jobs import (
    BatchSettings,
    Job,
    JobResult,
    absolute,
    find_images,
    plan,
    read_list,
)
from napari_hidiff.batch.jobs import Progress as Counted
from napari_hidiff.batch.records import Report, check_place
from napari_hidiff.cli.console import (
    BoxOption,
    DeviceOption,
    DicomSegOption,
    EngineOption,
    JsonOption,
    ModelOption,
    SamplerOption,
    SamplesOption,
    ScaleOption,
    SeedOption,
    StepsOption,
    command_line,
    load,
    log,
    make_folder,
    print_json,
    progress,
)
from napari_hidiff.errors import InputError
from napari_hidiff.masks import Box

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


def refine_command(
    model: ModelOption,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the masks; created if needed.")
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
            help="A text file with one image per line and, after tabs, the mask to start from and "
            "the fixed pixels. Names are relative to the file's folder; # begins a comment.",
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
            help="Pixels that must keep their class: a mask with the class number of fixed pixels, "
            "and 255 (unsigned files) or -1 (signed) elsewhere. For several images: a folder.",
        ),
    ] = None,
    box: BoxOption = None,
    dicom_seg: DicomSegOption = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing masks.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue after an interruption: skip images that were finished with the same "
            "model, settings, image, prior and fixed pixels.",
        ),
    ] = False,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Number of processes; 1: this one only. auto: one per GPU, else as many as cores, "
            "memory and work allow. The masks are the same.",
        ),
    ] = "1",
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Use the workers of a running dask scheduler (tcp://host:8786). They need "
            "napari-hidiff, and images and DIR under the same paths.",
        ),
    ] = None,
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    samples: SamplesOption = None,
    scale: ScaleOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    json: JsonOption = False,
) -> int:
    """Segment images and refine the masks, without a window.

    For each image NAME.jpg it writes DIR/NAME_mask.png (.tif for a tif), with the class number of
    every pixel (0 for background) and the colours of the classes, and a record of the refinement,
    DIR/NAME_steps.json.

    A volume is refined slice by slice into DIR/NAME_mask.nii.gz, which ITK-SNAP and 3D Slicer show
    at the position of the volume; the mask of a DICOM series has the name of its folder.

    DIR/report.csv has one row per image, DIR/report.json all details.

    If an image cannot be used, one line on stderr says why, the others are refined, and the exit
    status is 2. After Ctrl+C (status 130), a kill or a power cut, repeat the command with --resume.

    **napari-hidiff-refine fundus.jpg --model chase-vessels --output masks**

    **napari-hidiff-refine photos/ --model mine.safetensors --output masks --prior drafts/**

    **napari-hidiff-refine --list today.txt --model chase-vessels --output masks --workers auto**
    """
    settings: dict[str, Any] = {"sampler": sampler, "steps": steps, "samples": samples}
    settings |= {"seed": seed, "scale": scale}
    batch = Batch(
        images=images or (),
        listed=listed,
        model=model,
        output=output,
        prior=prior,
        fixed=fixed,
        box=None if box is None else Box.parse(box),
        dicom_seg=dicom_seg,
        overwrite=overwrite,
        resume=resume,
        settings=settings,
        device=device,
        engine=engine,
        workers=workers,
        dask=dask,
    )
    return run_batch(batch, command_line("napari-hidiff-refine"), json)


NAME = "napari-hidiff-refine"


@dataclass(frozen=True)
class Batch:
    """The arguments of the command; see its help.

    settings : sampler, steps, samples, scale (None = the model's card) and seed.
    workers : a number of processes, or ``auto``; dask : the address of a scheduler instead.
    """

    images: Sequence[Path]
    listed: Path | None
    model: str
    output: Path
    prior: Path | None
    fixed: Path | None
    box: Box | None
    dicom_seg: bool
    overwrite: bool
    resume: bool
    settings: Mapping[str, Any]
    device: str
    engine: str
    workers: str
    dask: str | None


def run_batch(batch: Batch, command: str, json: bool) -> int:
    """Refine all images, print a line for each, report; returns the exit status.

    Raises InputError for errors before the first image.
    """
    start = time.perf_counter()
    workers = _workers(batch)
    jobs = _plan(batch)
    model = _load(batch, workers)
    chosen = asdict(model.sampling(**batch.settings))
    settings = {name: value for name, value in chosen.items() if value is not None}
    order = _order(batch, settings)
    done: Mapping[Path, dict[str, Any]] = {}
    left: Sequence[Job] = jobs
    if batch.resume:
        wanted = records.ResumeKey(model.card.name, order.digest, settings)
        left, done = records.split(jobs, wanted, batch.overwrite)
        log(f"{len(done)} of {len(jobs)} images are done already")
    make_folder(batch.output)
    records.sweep(jobs)
    if workers == 0:
        workers = _auto(model, left, settings)
    workers = workers if batch.dask else max(1, min(workers, len(left)))
    report = Report(_head(command, model, order, workers, batch.dask), jobs, done)
    stopped = False
    try:
        with _outcomes(batch, model, left, order, workers) as outcomes:
            for outcome in outcomes:
                report.add(outcome)
                _say(outcome, report, json)
    except KeyboardInterrupt:
        stopped = True
    finally:
        if not (stopped and batch.dask):  # a cluster's workers finish their images
            records.sweep(jobs)
        report.write(batch.output, time.perf_counter() - start)
    if json:
        print_json(report.value(time.perf_counter() - start))
    if stopped:
        log(
            f"{NAME}: interrupted with {len(report.left)} of {len(jobs)} images left; the same "
            "command with --resume goes on"
        )
        return 130
    return 2 if report.failed else 0


def _workers(batch: Batch) -> int:
    """The number of processes; 0 = auto, -1 = those of a cluster."""
    if batch.dask is not None:
        if batch.workers != "1":
            raise InputError("--workers starts processes here, --dask uses others: give one")
        return -1
    if batch.workers == "auto":
        return 0
    if not (batch.workers.isdecimal() and int(batch.workers) > 0):
        raise InputError(f"--workers must be auto or a number from 1, not {batch.workers!r}")
    return int(batch.workers)


def _load(batch: Batch, workers: int) -> "HiDiff":
    """The model; with worker processes only its card is needed, and nothing is compiled."""
    if workers in (0, 1):
        return load(batch.model, batch.device, batch.engine)
    from napari_hidiff.inference.catalog import load_model

    device = "cpu" if workers == -1 else batch.device  # other machines may have other devices
    engine = "auto" if workers == -1 and batch.engine == "packed" else batch.engine
    return load_model(batch.model, device, engine, prepare=False)


def _plan(batch: Batch) -> list[Job]:
    """The jobs of all images, from arguments or from a list."""
    if not batch.images and batch.listed is None:
        raise InputError("no images: give files, folders or a --list")
    listed = [] if batch.listed is None else read_list(batch.listed)
    images = dict.fromkeys([*find_images(batch.images), *(line.image for line in listed)])
    jobs = plan(
        list(images),
        batch.output,
        batch.prior,
        batch.fixed,
        batch.overwrite,
        batch.resume,
        {line.image: line for line in listed},
        batch.box,
        batch.dicom_seg,
    )
    check_place(batch.output, batch.overwrite)
    return jobs if batch.dask is None else [absolute(job) for job in jobs]


def _order(batch: Batch, settings: Mapping[str, Any]) -> BatchSettings:
    from napari_hidiff.inference.catalog import available_models, find_model

    file = find_model(batch.model)
    name = batch.model if batch.model in available_models() else str(file.absolute())
    digest = records.digest(file)
    assert digest is not None  # it was loaded
    run = secrets.token_hex(6)
    return BatchSettings(name, digest, batch.device, batch.engine, dict(settings), run)


def _auto(model: "HiDiff", jobs: Sequence[Job], settings: Mapping[str, Any]) -> int:
    from napari_hidiff.batch.processes import how_many

    workers = how_many(model, jobs, settings) if jobs else 1
    log(f"--workers auto: {workers}")
    return workers


def _head(
    command: str, model: "HiDiff", order: BatchSettings, workers: int, dask: str | None
) -> dict[str, Any]:
    """The facts common to all images, for the report."""
    import torch

    return {
        "command": command,
        "run": order.run,
        "model": model.card.name,
        "model_sha256": order.digest,
        "classes": [label.name for label in model.card.classes],
        "settings": dict(order.settings),
        "asked": {"device": order.device, "engine": order.engine},
        "workers": dask or workers,
        "versions": {"napari-hidiff": __version__, "torch": torch.__version__},
    }


@contextmanager
def _outcomes(
    batch: Batch, model: "HiDiff", jobs: Sequence[Job], order: BatchSettings, workers: int
) -> Iterator[Iterator[JobResult]]:
    """The results of the jobs, refined here or by workers, under a progress bar."""
    with progress() as bar:
        task = bar.add_task("images", total=len(jobs))
        if workers == 1 or not jobs:
            yield _here(model, jobs, order, bar, task)
            return
        import torch

        from napari_hidiff.batch import processes

        threads: int | None = torch.get_num_threads()
        if batch.dask is None:
            cluster = processes.local(workers)
        else:
            cluster = processes.remote(batch.dask)
            threads = threads if threads == 1 else None
        with cluster as client:
            refined = processes.refine_all(client, jobs, order, threads, _say_idle)
            yield _counted(refined, bar, task)


def _say_idle() -> None:
    log("no worker is left; waiting for one (Ctrl+C stops, --resume goes on)")


def _here(
    model: "HiDiff", jobs: Sequence[Job], order: BatchSettings, bar: Progress, task: TaskID
) -> Iterator[JobResult]:
    """One image after the other, in this process."""
    from napari_hidiff.batch.refine import refine_one

    for position, job in enumerate(jobs):
        bar.update(task, description=job.image.name, completed=position)
        yield refine_one(model, job, order, partial(advance, bar, task, position))


def _counted(outcomes: Iterator[JobResult], bar: Progress, task: TaskID) -> Iterator[JobResult]:
    for outcome in outcomes:
        bar.update(task, description=outcome.job.image.name, advance=1)
        yield outcome


def advance(bar: Progress, task: TaskID, done: int, step: Counted) -> None:
    """Update a progress bar of images: ``done`` of them, and this step of the next."""
    bar.update(task, completed=done + step.index / step.total)


def _say(outcome: JobResult, report: Report, json: bool) -> None:
    """Print one line about an image to stderr, and the path of its mask to stdout."""
    record = outcome.record
    if record is None:
        log(f"{NAME}: {outcome.error}")
        return
    count = f"{len(report.jobs) - len(report.left)} of {len(report.jobs)}"
    what = "slices" if "slices" in record else "steps"
    work = record.get("slices") or len(record["steps"])
    log(f"{outcome.job.image}: {work} {what}, {record['seconds']:.1f} s ({count})")
    if turn := record.get("orientation"):
        log(
            f"{outcome.job.image}: has EXIF orientation {turn}; the mask lies on it as it is "
            "stored, not as photo viewers turn it"
        )
    if not json:
        print(record["mask"], flush=True)
