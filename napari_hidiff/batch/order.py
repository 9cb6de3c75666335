"""One image of a batch, in whichever process: what comes out, and how often it was tried."""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from napari_hidiff.batch.jobs import Job, Progress, refine_file
from napari_hidiff.batch.records import sources
from napari_hidiff.errors import InputError

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

LIVES = 3
"""Attempts at an image whose worker dies; no more than dask makes by itself."""


@dataclass(frozen=True)
class Order:
    """What all images of a batch have in common.

    model : a bundled name or a file; digest : SHA-256 of its file; device, engine : as asked for.
    settings : sampler, steps, samples, seed; run : a word that no other batch has.
    """

    model: str
    digest: str
    device: str
    engine: str
    settings: Mapping[str, Any]
    run: str


class Outcome(NamedTuple):
    """A job with its record, or with one line that says why there is none; trace: of a bug."""

    job: Job
    record: dict[str, Any] | None = None
    error: str = ""
    trace: str = ""


def refine_one(
    model: "HiDiff",
    job: Job,
    order: Order,
    on_step: Callable[[Progress], None] = lambda step: None,
) -> Outcome:
    """Refine a job's image; whatever is wrong with it is its outcome and not the batch's end."""
    try:
        made = {"made_from": sources(job, order.digest), "run": order.run}
        return Outcome(job, refine_file(model, job, dict(order.settings), on_step, made))
    except InputError as error:
        return Outcome(job, error=str(error))
    except Exception as error:  # out of memory, a bug: an overnight batch goes on with the others
        line = f"{job.image}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return Outcome(job, error=line, trace=traceback.format_exc())


@contextmanager
def attempt(job: Job, run: str) -> Iterator[None]:
    """Mark that an attempt at a job has begun; the mark stays where the process is killed.

    dask suspects every image that waited at a worker that died; the marks tell which one ran.
    Raises InputError after :data:`LIVES` attempts that did not come back.
    """
    for life in range(1, LIVES + 1):
        mark = job.steps.with_name(f".{job.steps.name}.{run}-{life}.started")
        try:
            with mark.open("x", encoding="utf-8") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{mark}: cannot be written: {error.strerror or error}") from error
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)
        return
    raise InputError(
        f"{job.image}: its worker died {LIVES} times while it was at it (too little memory?)"
    )
