"""A batch on several processes: those of this machine, or the workers of a dask cluster.

Every worker loads the model once and takes one image at a time. Which worker refines an image, and
how many there are, changes no mask: noise depends on the seed alone, and see :func:`own_threads`.

How many processes a batch is worth on this machine.
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
"""Images that wait at the scheduler per thread of a worker, so that none is ever idle."""
PATIENCE = 15.0
"""Seconds without a result after which it is looked whether there still are workers."""


class WorkerSlot(NamedTuple):
    """A worker's place among those of its host, from 0, and how many they are."""

    place: int
    beside: int


class WorkerSetup(NamedTuple):
    """What a worker needs to know beside the order: its seat by its name, and threads of a host.

    threads : for all workers of a host together; None: as many as it has cores.
    """

    seats: Mapping[Any, WorkerSlot]
    threads: int | None


class IgnoreInterrupt(WorkerPlugin):
    """Ctrl+C in a terminal reaches every process of it; only the one that was started decides."""

    def setup(self, worker: "Worker") -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


_models: dict[tuple[str, ...], "HiDiff"] = {}
_turn = threading.Lock()
"""Held by the image that is refined: a worker with several threads still takes one at a time."""


@contextmanager
def local(workers: int) -> Iterator[Client]:
    """Processes on this machine, gone at the end, whether they are at work or not."""
    settings = {
        "distributed.admin.system-monitor.gil.enabled": False,
        "logging": {"distributed": "critical", "distributed.nanny": "critical"},
        # In place of dask's own: with its MALLOC_TRIM_THRESHOLD_ every tensor is fetched from the
        # system anew, and threads that spin while they wait take the cores of other workers.
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
            memory_limit=0,  # dask would stop a worker at a limit that knows nothing of the model
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
    """The outcome of every job, as they come.

    threads : see :class:`WorkerSetup`. on_idle is called now and then while no worker is left.
    An image whose worker dies goes to another one, at most
    :data:`MAX_ATTEMPTS` times. Raises InputError before the first image where a worker cannot take
    part, and when the scheduler is lost.
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
                # Without retries and not pure: what runs, and how often, is decided here.
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
    """On a worker: refine one image, unless this batch has done so already.

    dask repeats what a worker had done if that dies before its result was fetched.
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

    Two at least unless ``total`` is one: the number of workers must not matter, and on the CPU the
    probabilities of one thread were seen to differ by rounding from those of two, while those of
    two, three and four were the same.
    """
    return 1 if total == 1 else max(2, total // seat.beside)


def _ready(order: BatchSettings, share: WorkerSetup, name: Any) -> "HiDiff":
    """The model in this worker, loaded by the first image."""
    seat = share.seats.get(name, WorkerSlot(0, 1))
    device = own_device(order.device, seat)
    torch.set_num_threads(own_threads(share.threads or CPU_COUNT, seat))
    key = (order.model, order.digest, device, order.engine)
    if key not in _models:
        if digest(find_model(order.model)) != order.digest:
            raise InputError(f"the model {order.model} is another file there")
        _models.clear()  # a worker of a cluster outlives a batch
        _models[key] = load_model(order.model, device=device, engine=order.engine)
    return _models[key]


def _start(job: Job, order: BatchSettings, share: WorkerSetup, dask_worker: "Worker") -> str:
    """On every worker before the first image: load the model; a line if it cannot take part."""
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
    except Exception as error:  # whatever another machine's Python says about our module
        raise InputError(
            f"the workers cannot start ({type(error).__name__}: {first_line(error)}); they need "
            "this version of napari-hidiff"
        ) from error
    for address, line in answers.items():
        if line:
            raise InputError(f"worker {address}: {line}")


def _seats(client: Client) -> dict[Any, WorkerSlot]:
    """Every worker's seat by its name, which outlives a restart of the worker by its nanny."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    known = sorted((worker["host"], str(worker["name"]), worker["name"]) for worker in workers)
    seats: dict[Any, WorkerSlot] = {}
    for _, group in groupby(known, key=lambda worker: worker[0]):
        names = [name for *_, name in group]
        seats |= {name: WorkerSlot(place, len(names)) for place, name in enumerate(names)}
    return seats


def _outcome(future: Future[JobResult], job: Job, times: int) -> JobResult | None:
    """What a finished future says; None: dask gave it up for deaths that may not be its own."""
    error = future.exception()
    if error is None:
        found: JobResult | None = future.result()
        return found
    if isinstance(error, KilledWorker) and times < MAX_ATTEMPTS:
        return None
    return JobResult(job, error=f"{job.image}: {type(error).__name__}: {first_line(error)}")


PROGRAM = 700 * 2**20
"""Bytes of a process with a small model loaded (docs/engine.md: 0.65 GB)."""
START = 15.0
"""Seconds of work that make the start of one more process worth while."""
TYPICAL = (1024, 1024)
"""Rows and columns assumed where the largest file cannot be read."""


def how_many(model: "HiDiff", jobs: Sequence[Job], settings: Mapping[str, Any]) -> int:
    """Processes for a batch: one per GPU, else what cores, memory and the work to do allow.

    The image of the largest file stands for all: its estimate, and what a model remembers of
    images, must fit into the memory that is free, once per process.
    """
    if model.device.type == "cuda":
        return max(1, min(torch.cuda.device_count(), len(jobs)))
    chosen = {name: settings[name] for name in ("sampler", "steps", "samples")}
    cost = _cost(model, max((job.image for job in jobs), key=_size), chosen)
    memory = psutil.virtual_memory().available // (PROGRAM + REMEMBERED + STANDING + cost.bytes)
    worth = int(cost.seconds * len(jobs) / START)
    found: int = max(1, min(torch.get_num_threads(), len(jobs), memory, worth))
    return found


def _cost(model: "HiDiff", image: Path, chosen: Mapping[str, Any]) -> Estimate:
    """What refining a picture takes, or all slices of a volume, some of them at once."""
    try:
        if not is_volume(image):
            return model.estimate(read_image(image).shape, **chosen)
        array = read(image).array
    except InputError:
        return model.estimate(TYPICAL, **chosen)
    depth, height, width = array.shape[:3]
    together = max(1, min(depth, PIXELS_AT_ONCE // (height * width)))
    seconds = model.estimate((height, width), **chosen).seconds * depth
    peak = model.estimate((together * height, width), **chosen).bytes
    return Estimate(seconds, peak + held(array))


def _size(image: Path) -> int:
    """Bytes of a file, or of those in a folder."""
    files = image.iterdir() if image.is_dir() else [image]
    return sum(file.stat().st_size for file in files if file.is_file())
