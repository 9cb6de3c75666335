"""One and two processes train the same network from the same global batch.

What arithmetic guarantees is tested, in fp64: the gradients of one update, and many updates of the
real twin, in which a rounding difference stays one. A binary network may turn it into another sign.
"""

from dataclasses import replace
from pathlib import Path

import layouts
import pytest
import torch
from commands import call
from several_runs import train_on
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from napari_hidiff.errors import InputError
from napari_hidiff.training import cli
from napari_hidiff.training.checkpoint import load_checkpoint
from napari_hidiff.training.learner import accelerator_for, mixed_precision
from napari_hidiff.training.recipes import RECIPES

SETTINGS = {
    "size": "paper",
    "width": 32,
    "stem": 2,
    "pretrain-iterations": 2,
    "folds": 0,
    "crop": 32,
    "batch": 4,
    "segmentor-every": 2,
    "validate-cases": 1,
    "workers": 0,
    "steps": 2,
    "samples": 1,
    "device": "cpu",
    "precision": "fp64",
}
FLAGS = [part for name, value in SETTINGS.items() for part in (f"--{name}", str(value))]
MANY = 6
RUNS = {
    "real": ["--convolution", "real", "--iterations", str(MANY), "--validate-every", str(MANY)],
    "binary": ["--iterations", "1", "--segmentor-every", "1", "--validate-every", "1"],
}
UNEVEN = ["--batch", "3"]


def arguments(data: Path, folder: Path, name: str) -> list[str]:
    given = RUNS.get(name, UNEVEN)
    return ["--dataset", "folder", "--data", str(data), "--output", str(folder), *FLAGS, *given]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of all runs by processes and name, and how each of the two processes ended."""
    data = layouts.write_folder(tmp_path_factory.mktemp("data"))
    folders = {count: tmp_path_factory.mktemp(f"of {count}") for count in (1, 2)}
    for name in RUNS:
        done = call(cli.main, *arguments(data, folders[1] / name, name))
        assert done.returncode == 0, done.stderr
    wanted = [arguments(data, folders[2] / name, name) for name in (*RUNS, "uneven")]
    return folders, train_on(2, wanted, folders[2])


def losses(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "loss" in tag]
    return {tag: [event.value for event in events.Scalars(tag)] for tag in tags}


def moments(folder: Path, learner: str) -> list[torch.Tensor]:
    """The optimizer's averaged gradients: after one update, a tenth of the gradients."""
    state = load_checkpoint(folder / "last.pt")[learner]["optimizer"]["state"]
    return [state[number]["exp_avg"] for number in sorted(state)]


@pytest.mark.slow
def test_the_real_twin_trains_alike_over_many_updates(runs):
    folders, _ = runs
    one, two = (losses(folders[count] / "real") for count in (1, 2))
    assert (len(one["loss/refiner"]), len(one["loss/segmentor"])) == (MANY, MANY // 2)
    assert one.keys() == two.keys()
    for tag, values in one.items():
        assert two[tag] == pytest.approx(values, abs=1e-6)
    assert len(set(one["loss/refiner"])) == MANY  # the network did train
    for learner in ("segmentor", "refiner"):
        ends = [load_checkpoint(folders[n] / "real" / "last.pt")[learner]["module"] for n in (1, 2)]
        for name, weights in ends[0].items():
            if not weights.is_floating_point():
                continue  # how many batches a normalisation has seen: ours does not count
            torch.testing.assert_close(ends[1][name], weights, rtol=0, atol=1e-7, msg=name)


@pytest.mark.slow
def test_a_binary_network_has_the_gradients_of_one_process(runs):
    """Of the first updates: nothing that a sign is taken of is nearer to its change than 1e-8."""
    folders, _ = runs
    one, two = (losses(folders[count] / "binary") for count in (1, 2))
    for tag in (tag for tag in one if tag.startswith("segmentor/")):
        assert two[tag] == pytest.approx(one[tag], abs=1e-6)
    assert two["loss/refiner"][0] == pytest.approx(one["loss/refiner"][0], abs=1e-6)
    for learner in ("segmentor", "refiner"):
        both = (moments(folders[count] / "binary", learner) for count in (1, 2))
        for mine, others in zip(*both, strict=True):
            torch.testing.assert_close(others, mine, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_one_process_speaks_and_a_batch_that_cannot_be_shared_is_one_clear_error(runs):
    _, (first, second) = runs
    assert first["stdout"].count("model:") == len(RUNS)
    assert "model:" not in second["stdout"]
    for done in (first, second):
        assert done["statuses"] == [*[0] * len(RUNS), 2]
        assert "Traceback" not in done["stderr"]
    assert "a batch of 3 cannot be divided among 2 processes" in first["stderr"]


def test_precisions():
    assert mixed_precision("fp32", cpu=True) == "no"
    assert mixed_precision("bf16", cpu=True) == "bf16"
    assert mixed_precision("auto", cpu=True) in ("no", "bf16")
    with pytest.raises(InputError, match="precision must be one of auto, fp32"):
        mixed_precision("int4", cpu=True)


def test_a_process_may_train_twice_in_other_precisions():
    for precision, name in (("bf16", "bf16"), ("fp32", "no")):
        recipe = replace(RECIPES["folder"], precision=precision)
        assert accelerator_for(recipe, "cpu").mixed_precision == name
