"""One and two processes train the same network from the same global batch."""

import subprocess
import sys

import layouts
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from napari_hidiff.errors import InputError
from napari_hidiff.training.processes import mixed_precision

SETTINGS = {
    "size": "quick",
    "pretrain-iterations": 3,
    "fold-iterations": 2,
    "iterations": 20,
    "crop": 32,
    "batch": 4,
    "segmentor-every": 2,
    "validate-every": 20,
    "workers": 0,
    "steps": 2,
    "samples": 1,
    "device": "cpu",
}
FLAGS = [part for name, value in SETTINGS.items() for part in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return layouts.write_folder(tmp_path_factory.mktemp("data"))


def launch(processes, *arguments):
    """``torchrun``, which accelerate launch starts for several GPUs, here on the CPU with gloo."""
    alone = ["--standalone", "--local-addr=127.0.0.1"]  # a free port, and no look-up of host names
    start = ["-m", "torch.distributed.run", *alone, f"--nproc_per_node={processes}"]
    module = ["-m", "napari_hidiff.training", "--dataset", "folder", *FLAGS]
    command = [sys.executable, *start, *module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def losses(folder):
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "loss" in tag]
    return {tag: [event.value for event in events.Scalars(tag)] for tag in tags}


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(data, tmp_path):
    """In fp64: in fp32 rounding alone parts the signs of a binary network after a few updates."""
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        options = ("--data", data, "--output", folder, "--precision", "fp64")
        done = launch(processes, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("model:") == 1  # one process speaks
        found.append(losses(folder))
    one, two = found
    assert len(one["loss/refiner"]) == 20
    assert len(one["loss/segmentor"]) == 10
    assert one.keys() == two.keys()
    for tag, values in one.items():
        assert two[tag] == pytest.approx(values, abs=1e-4)
    assert len(set(one["loss/refiner"])) > 15  # the network did train


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_one_clear_error(data, tmp_path):
    done = launch(2, "--data", data, "--output", tmp_path / "run", "--batch", 3)
    assert done.returncode != 0
    assert "a batch of 3 cannot be divided among 2 processes" in done.stderr


def test_precisions():
    assert mixed_precision("fp32", cpu=True) == "no"
    assert mixed_precision("bf16", cpu=True) == "bf16"
    assert mixed_precision("auto", cpu=True) in ("no", "bf16")
    with pytest.raises(InputError, match="precision must be one of auto, fp32"):
        mixed_precision("int4", cpu=True)
