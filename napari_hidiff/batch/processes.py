"""A batch on several processes: those of this machine, or the workers of a dask cluster.

Every worker loads the model once and refines one image at a time. Neither the worker nor the number
of workers changes a mask: noise depends on the seed alone (see also :func:`own_threads`).
:func:`how_many` estimates how many processes are worth their start on this machine.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dask
import psutil
import torch
from dask.system import CPU_COUNT
from distributed import Client, Future, LocalCluster, WorkerPlugin, get_worker, wait
from distributed.scheduler import KilledWorker

from napari_hidiff.batch.jobs import MAX_ATTEMPTS, BatchSettings, Job, JobResult
from napari_hidiff.batch.records import digest, read_record
from napari_hidiff.batch.refine import attempt, held, refine_one
from napari_hidiff.errors import InputError, first_line
from napari_hidiff.inference.catalog import find_model, load_model
from napari_hidiff.inference.cost import Estimate
from napari_hidiff.inference.denoiser import PIXELS_AT_ONCE, REMEMBERED, STANDING
from napari_hidiff.io.images import read_image
from napari_hidiff.io.registry import is_volume, read

if TYPE_CHECKING:
    from distributed import Worker

    from napari_hidiff.inference.model import HiDiff

AHEAD = 2
"""Images queued per thread of a worker, so that no worker is idle."""
PATIENCE = 15.0
"""Seconds without a result before a check that workers are alive."""
PROGRAM = 700 * 2**20
"""Bytes of a process with a small model (docs/engine.md: 0.65 GB)."""
START = 15.0
"""Seconds of work per process below which one more does not pay."""
TYPICAL = (1024, 1024)
"""Rows and columns assumed if the largest file cannot be read."""


class WorkerSlot(NamedTuple):
    """A worker's number on its host, from 0, and the number of workers there."""

    place: int
    beside: int


class WorkerSetup(NamedTuple):
    """Setup of the workers: the slot of each by its name, and the threads of a host.

    threads : of all workers of a host together; None = its number of cores.
    """

    seats: Mapping[Any, WorkerSlot]
    threads: int | None


class IgnoreInterrupt(WorkerPlugin):
    """Ignores Ctrl+C in workers: a terminal sends it to all processes, the main one decides."""

    def setup(self, worker: "Worker") -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


_models: dict[tuple[str, ...], "HiDiff"] = {}
_turn = threading.Lock()
"""One image at a time, also in a worker with several threads."""


@contextmanager
def local(workers: int) -> Iterator[Client]:
    """Workers on this machine; they end with the context, also in the middle of an image."""
    settings = {
        "distributed.admin.system-monitor.gil.enabled": False,
        "logging": {"distributed": "critical", "distributed.nanny": "critical"},
        # Replaces dask's settings: its MALLOC_TRIM_THRESHOLD_ returns every tensor to the system,
        # and spinning threads take the cores of other workers.
        "distributed.nanny.pre-spawn-environ": {"OMP_WAIT_POLICY": "PASSIVE"},
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,  # dask's limit ignores the size of the model
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(IgnoreInterrupt())
        yield client


@contextmanager
def remote(address: str) -> Iterator[Client]:
    """The workers of a running dask scheduler; InputError if it does not answer."""
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"no dask scheduler answers at {address}: {first_line(error)}") from error
    with client:
        if not client.nthreads():
            raise InputError(f"the dask scheduler at {address} has no workers")
        yield client


def refine_all(
    client: Client,
    jobs: Sequence[Job],
    order: BatchSettings,
    threads: int | None = None,
    on_idle: Callable[[], None] = lambda: None,
) -> Iterator[JobResult]:
    """The results of all jobs, in order of completion.

    threads : see :class:`WorkerSetup`. on_idle is called repeatedly while no worker is left.
    An image whose worker dies is retried, with at most :data:`MAX_ATTEMPTS` attempts. Raises
    InputError before the first image if a worker cannot start, and when the scheduler is lost.
    """
    share = WorkerSetup(_seats(client), threads)
    _check(client, jobs[0], order, share)
    waiting = [(job, 0) for job in reversed(jobs)]
    flying: dict[Future[JobResult], tuple[Job, int]] = {}
    try:
        while waiting or flying:
            seats = sum(client.nthreads().values())
            while waiting and len(flying) < max(1, AHEAD * seats):
                job, times = waiting.pop()
                key = f"refine-{order.run}-{times}-{job.image}"
                # Without retries and not pure: this loop decides what runs, and how often.
                future = client.submit(work, job, order, share, key=key, pure=False)
                flying[future] = job, times
            try:
                finished = wait(list(flying), PATIENCE, "FIRST_COMPLETED").done
            except TimeoutError:
                if not client.nthreads():
                    on_idle()
                continue
            for future in finished:
                job, times = flying.pop(future)
                outcome = _outcome(future, job, times)
                future.release()
                if outcome is None:
                    waiting.append((job, times + 1))
                else:
                    yield outcome
    except CancelledError as error:
        raise InputError(
            "the dask scheduler was lost; the same command with --resume goes on"
        ) from error
    finally:
        if flying and client.status == "running":
            client.cancel(list(flying))


def work(job: Job, order: BatchSettings, share: WorkerSetup) -> JobResult:
    """On a worker: refine one image, unless this batch has its record already.

    dask repeats a finished job if its worker dies before the result was fetched.
    """
    with _turn:
        record = read_record(job.steps)
        if record is not None and record.get("run") == order.run and job.mask.exists():
            return JobResult(job, record)
        try:
            with attempt(job, order.run):
                return refine_one(_ready(order, share, get_worker().name), job, order)
        except InputError as error:
            return JobResult(job, error=str(error))


def own_device(wanted: str, seat: WorkerSlot) -> str:
    """The device of a worker: with ``auto`` and several GPUs the workers of a host take turns."""
    count = torch.cuda.device_count() if wanted == "auto" and torch.cuda.is_available() else 0
    return f"cuda:{seat.place % count}" if count else wanted


def own_threads(total: int, seat: WorkerSlot) -> int:
    """Threads of a worker, so that those of a host together have about ``total``.

    At least two unless ``total`` is one: with up to two threads in all, each worker has as many
    whatever the number of workers, and so rounds alike.
    """
    return 1 if total == 1 else max(2, total // seat.beside)


def _ready(order: BatchSettings, share: WorkerSetup, name: Any) -> "HiDiff":
    """The model of this worker, loaded with the first image."""
    seat = share.seats.get(name, WorkerSlot(0, 1))
    device = own_device(order.device, seat)
    torch.set_num_threads(own_threads(share.threads or CPU_COUNT, seat))
    key = (order.model, order.digest, device, order.engine)
    if key not in _models:
        if digest(find_model(order.model)) != order.digest:
            raise InputError(f"the model {order.model} is another file there")
        _models.clear()  # a worker of a cluster serves several batches
        _models[key] = load_model(order.model, device=device, engine=order.engine)
    return _models[key]


def _start(job: Job, order: BatchSettings, share: WorkerSetup, dask_worker: "Worker") -> str:
    """On every worker before the first image: load the model; returns the error, if any."""
    try:
        _ready(order, share, dask_worker.name)
    except InputError as error:
        return str(error)
    folder = job.mask.parent
    return "" if folder.is_dir() else f"{folder}: no such folder there"


def _check(client: Client, job: Job, order: BatchSettings, share: WorkerSetup) -> None:
    """InputError if a worker cannot load the model or does not see the output folder."""
    try:
        answers = client.run(_start, job, order, share)
    except Exception as error:  # any import error of another machine
        raise InputError(
            f"the workers cannot start ({type(error).__name__}: {first_line(error)}); they need "
            "this version of napari-hidiff"
        ) from error
    for address, line in answers.items():
        if line:
            raise InputError(f"worker {address}: {line}")


def _seats(client: Client) -> dict[Any, WorkerSlot]:
    """Every worker's slot by its name, which a restart by its nanny does not change."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    known = sorted((worker["host"], str(worker["name"]), worker["name"]) for worker in workers)
    seats: dict[Any, WorkerSlot] = {}
    for _, group in groupby(known, key=lambda worker: worker[0]):
        names = [name for *_, name in group]
        seats |= {name: WorkerSlot(place, len(names)) for place, name in enumerate(names)}
    return seats


def _outcome(future: Future[JobResult], job: Job, times: int) -> JobResult | None:
    """The result of a finished future; None: dask gave up after deaths of its workers."""
    error = future.exception()
    if error is None:
        result: JobResult | None = future.result()
        return result
    if isinstance(error, KilledWorker) and times < MAX_ATTEMPTS:
        return None
    return JobResult(job, error=f"{job.image}: {type(error).__name__}: {first_line(error)}")


def how_many(model: "HiDiff", jobs: Sequence[Job], settings: Mapping[str, Any]) -> int:
    """Number of processes for a batch: one per GPU, else limited by cores, memory and work.

    The estimate of the largest file, plus the caches of a model, must fit into free memory once
    per process.
    """
    if model.device.type == "cuda":
        return max(1, min(torch.cuda.device_count(), len(jobs)))
    chosen = {name: settings.get(name) for name in ("sampler", "steps", "samples", "scale")}
    cost = _cost(model, max((job.image for job in jobs), key=_size), chosen)
    memory = psutil.virtual_memory().available // (PROGRAM + REMEMBERED + STANDING + cost.bytes)
    worth = int(cost.seconds * len(jobs) / START)
    processes: int = max(1, min(torch.get_num_threads(), len(jobs), memory, worth))
    return processes


def _cost(model: "HiDiff", image: Path, chosen: Mapping[str, Any]) -> Estimate:
    """The cost of refining a picture, or all slices of a volume in batches."""
    try:
        if not is_volume(image):
            return model.estimate(read_image(image).shape, **chosen)
        array = read(image).array
    except InputError:
        return model.estimate(TYPICAL, **chosen)
    depth, height, width = array.shape[:3]
    if chosen.get("scale") is None:
        chosen = {**chosen, "scale": model.card.scale((height, width))}
    together = max(1, min(depth, PIXELS_AT_ONCE // (height * width)))
    seconds = model.estimate((height, width), **chosen).seconds * depth
    peak = model.estimate((together * height, width), **chosen).bytes
    return Estimate(seconds, peak + held(array))


def _size(image: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = image.iterdir() if image.is_dir() else [image]
    return sum(file.stat().st_size for file in files if file.is_file())
