"""Two real worker processes: the masks of one, whoever is killed, and each image once."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
import torch
from distributed.utils import get_mp_context
from PIL import Image

from napari_hidiff.batch import processes
from napari_hidiff.batch.jobs import BatchSettings, plan
from napari_hidiff.batch.processes import WorkerSlot, own_device, own_threads, refine_all
from napari_hidiff.batch.records import digest
from napari_hidiff.batch.refine import refine_one
from napari_hidiff.cli import app
from napari_hidiff.io.images import read_labels

SETTINGS = {"sampler": "ddim", "steps": 6, "samples": 4, "seed": 5}
OPTIONS = [part for name, value in SETTINGS.items() for part in (f"--{name}", str(value))]
COUNT = 6
PATIENCE = 600.0

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="stops processes by POSIX signals"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory, _sample):
    """A folder of small pictures, in its middle one that is none."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(COUNT):
        pixels = _sample[0][100 * number : 100 * number + 160, 300:492]
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "2broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def masks(images, tiny_model):
    """What one process makes of the pictures, by stem."""
    return {
        str(number): tiny_model.refine(
            np.array(Image.open(images / f"{number}.png")), **SETTINGS
        ).mask
        for number in range(COUNT)
    }


@pytest.fixture(scope="module")
def forks():
    """Processes that need not import anew: forked from one that has done nothing but import."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        context = get_mp_context()
    context.set_forkserver_preload(["napari_hidiff.cli", "napari_hidiff.batch.processes"])
    return context


@pytest.fixture(scope="module")
def client(forks):
    """Two workers; many are killed by the tests, and made anew."""
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        processes.local(2) as two,
    ):
        yield two


@pytest.fixture
def order(tiny_file, request):
    run = f"{abs(hash(request.node.name)):x}"
    return BatchSettings(str(tiny_file), digest(tiny_file), "cpu", "auto", SETTINGS, run)


def jobs_of(images, output):
    output.mkdir(exist_ok=True)
    return plan(sorted(images.iterdir()), output)


def same(output: Path, masks) -> None:
    """Exactly these masks are there, with their records and nothing half done."""
    assert {path.name for path in output.glob("*_mask.png")} == {f"{n}_mask.png" for n in masks}
    assert {path.name for path in output.glob("*_steps.json")} == {f"{n}_steps.json" for n in masks}
    for name, mask in masks.items():
        np.testing.assert_array_equal(read_labels(output / f"{name}_mask.png", 2), mask)


def times(output: Path) -> dict[str, int]:
    """When each mask whose record is there was written."""
    found = {}
    for record in output.glob("*_steps.json"):
        mask = record.with_name(record.name.replace("_steps.json", "_mask.png"))
        found[mask.name] = mask.stat().st_mtime_ns
    return found


class Killer(threading.Thread):
    """Kills workers while they are at an image: ``which`` (any if empty), ``most`` times.

    A worker is stopped first, so that it cannot come to an end between the look and the kill.
    ``seen`` holds when the masks were written that were done by the last kill.
    """

    def __init__(self, output: Path, which: str = "", most: int = 1, after: int = 0) -> None:
        super().__init__(daemon=True)
        self.output, self.which, self.most, self.after = output, which, most, after
        self.killed: dict[int, str] = {}
        self.seen: dict[str, int] = {}
        self.over = threading.Event()

    def run(self) -> None:
        while len(self.killed) < self.most and not self.over.is_set():
            if len(list(self.output.glob("*_steps.json"))) >= self.after:
                for mark in self.output.glob(f".{self.which}*.started"):
                    self._try(mark)
            time.sleep(0.002)

    def _try(self, mark: Path) -> None:
        try:
            pid = int(mark.read_text() or 0)
        except FileNotFoundError:
            return
        if not pid or pid in self.killed or len(self.killed) >= self.most:
            return
        os.kill(pid, signal.SIGSTOP)
        name = mark.name.split("_steps.json")[0][1:]
        if mark.exists() and not (self.output / f"{name}_steps.json").exists():
            self.seen = times(self.output)
            self.killed[pid] = name
            os.kill(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGCONT)


def test_two_workers_make_the_masks_of_one_and_a_broken_image_fails_alone(
    client, images, masks, order, tmp_path
):
    outcomes = list(refine_all(client, jobs_of(images, tmp_path / "out"), order, threads=1))
    assert len(outcomes) == COUNT + 1
    (failed,) = (outcome for outcome in outcomes if outcome.record is None)
    assert failed.job.image.name == "2broken.png"
    assert "cannot be read as an image" in failed.error
    same(tmp_path / "out", masks)
    assert not list((tmp_path / "out").glob(".*"))


def test_two_threads_make_the_same_masks_here_and_on_workers(
    client, images, tiny_model, order, tmp_path
):
    here, there = tmp_path / "here", tmp_path / "there"
    torch.set_num_threads(2)
    try:
        for job in jobs_of(images, here):
            refine_one(tiny_model, job, order)
    finally:
        torch.set_num_threads(1)
    list(refine_all(client, jobs_of(images, there), order, threads=2))
    for number in range(COUNT):
        name = f"{number}_mask.png"
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(
    client, images, masks, order, tmp_path
):
    output = tmp_path / "out"
    jobs = jobs_of(images, output)
    killer = Killer(output, after=2)
    killer.start()
    outcomes = list(refine_all(client, jobs, order, threads=1))
    killer.over.set()
    killer.join()
    assert len(killer.killed) == 1  # a real death, in the middle of an image
    assert len(killer.seen) >= 2
    assert sorted(outcome.job.image for outcome in outcomes) == [job.image for job in jobs]
    assert [o.job.image.name for o in outcomes if o.record is None] == ["2broken.png"]
    same(output, masks)
    after = times(output)
    assert {name: after[name] for name in killer.seen} == killer.seen


def test_what_a_worker_had_done_before_it_died_is_not_done_again(
    client, images, masks, order, tmp_path
):
    """Its result dies with it, and dask asks for it again: the record answers."""
    from distributed import wait

    client.wait_for_workers(2, timeout=PATIENCE)
    job = jobs_of(images, tmp_path / "out")[0]
    share = processes.WorkerSetup(processes._seats(client), 1)
    future = client.submit(processes.work, job, order, share, key=order.run, pure=False)
    wait([future], timeout=PATIENCE)
    before = times(tmp_path / "out")
    assert list(before) == ["0_mask.png"]
    ((address, *_),) = client.who_has([future]).values()
    os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
    end = time.monotonic() + PATIENCE
    while address in client.nthreads():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert future.result(timeout=PATIENCE).record["run"] == order.run
    assert times(tmp_path / "out") == before


@pytest.mark.slow
def test_an_image_that_kills_its_workers_fails_and_the_others_are_done(
    client, images, masks, order, tmp_path
):
    output = tmp_path / "out"
    jobs = jobs_of(images, output)
    killer = Killer(output, "3_", most=100)
    killer.start()
    outcomes = {o.job.image.stem: o for o in refine_all(client, jobs, order, threads=1)}
    killer.over.set()
    killer.join()
    assert list(killer.killed.values()) == ["3"] * 3
    assert "its worker died 3 times" in outcomes["3"].error
    assert len(outcomes) == COUNT + 1
    same(output, {name: mask for name, mask in masks.items() if name != "3"})


def test_the_command_uses_a_running_scheduler(
    client, images, masks, tiny_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)  # where the workers are not
    arguments = [str(images), "--model", str(tiny_file), "--output", "out", *OPTIONS, "--json"]
    address = ["--dask", client.scheduler.address]
    monkeypatch.setattr(sys, "argv", ["command", *arguments, *address])
    with pytest.raises(SystemExit) as left:
        app.refine_main()
    assert left.value.code == 2
    report = json.loads(capsys.readouterr().out)
    assert [Path(entry["image"]).name for entry in report["failed"]] == ["2broken.png"]
    assert [Path(entry["image"]).stem for entry in report["images"]] == sorted(masks)
    assert report["left"] == []
    same(tmp_path / "out", masks)


def command(arguments, out, err):
    """The command in a process group of its own, in a process that was just forked."""
    os.setsid()
    # Where the tests run in the background of a shell, Ctrl+C is ignored and inherited so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, stream in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = ["command", *arguments]
    app.refine_main()


@pytest.fixture
def started(forks, tmp_path):
    """``started(arguments)``: the command as a process, and the file of its stderr."""

    def start(arguments):
        out, err = tmp_path / "stdout", tmp_path / "stderr"
        process = forks.Process(target=command, args=([*map(str, arguments)], out, err))
        process.start()
        return process, err

    return start


def until_some_are_done(output, process, err):
    end = time.monotonic() + PATIENCE
    while not list(output.glob("*_steps.json")):
        assert process.is_alive(), err.read_text()
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_goes_on_with_resume(
    workers, how, images, masks, tiny_file, started, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "out"
    arguments = [images, "--model", tiny_file, "--output", output, *OPTIONS, "--device", "cpu"]
    arguments += ["--workers", workers]
    process, err = started(arguments)
    until_some_are_done(output, process, err)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    if how == signal.SIGKILL:
        process.kill()  # this process alone; its workers must notice
    else:
        os.killpg(process.pid, how)  # as a terminal does
    process.join(PATIENCE)
    assert psutil.wait_procs(family[1:], timeout=PATIENCE)[1] == []
    if how == signal.SIGINT:
        said = err.read_text()
        assert process.exitcode == 130, said
        assert "the same command with --resume goes on" in said
        assert "Traceback" not in said
        assert not list(output.glob(".*"))
        assert json.loads((output / "report.json").read_text())["left"]
    before = times(output)
    assert 0 < len(before) < COUNT
    again = [*map(str, arguments[:-1]), "1", "--resume", "--json"]
    monkeypatch.setattr(sys, "argv", ["command", *again])
    with pytest.raises(SystemExit) as left:
        app.refine_main()
    assert left.value.code == 2  # the broken one
    report = json.loads(capsys.readouterr().out)
    assert len(report["skipped"]) == len(before)
    assert len(report["images"]) == COUNT - len(before)
    same(output, masks)
    assert not list(output.glob(".*"))
    after = times(output)
    assert {name: after[name] for name in before} == before


def test_workers_share_gpus_and_cores(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [own_device("auto", WorkerSlot(place, 3)) for place in range(3)] == [
        "cuda:0",
        "cuda:1",
        "cuda:0",
    ]
    assert own_device("cpu", WorkerSlot(1, 3)) == "cpu"
    assert [own_threads(8, WorkerSlot(0, beside)) for beside in (1, 2, 8)] == [8, 4, 2]
    assert [own_threads(total, WorkerSlot(0, 4)) for total in (1, 2)] == [1, 2]
