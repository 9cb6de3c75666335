"""Training through the real command: a model comes out, and an interrupted run ends the same."""

import dataclasses
import json
import os
import signal
import sys
import time
from itertools import chain
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from commands import forked
from safetensors.torch import load_file
from trainings import FLAGS, run, tiny

from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.training import case_cache, stages, trainer
from napari_hidiff.training.checkpoint import load_checkpoint, save_checkpoint
from napari_hidiff.training.crops import Crops, Shares, batches, fitted
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.learner import Learner, parameter_groups, warm_cosine
from napari_hidiff.training.recipes import RECIPES, as_in_the_paper
from napari_hidiff.training.run import blank_card, check_recipe
from napari_hidiff.training.trainer import REFINER_STAGE, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return layouts.write_folder(tmp_path_factory.mktemp("data"))


def same(first, second):
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def command(data, folder):
    arguments = ("--dataset", "folder", "--data", data, "--output", folder, "--device", "cpu")
    return run(*arguments, *FLAGS, "--json")


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """The model of the command's run: what an interrupted one must end with."""
    done = command(data, tmp_path_factory.mktemp("whole") / "run")
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["model"])


def test_the_command_trains_a_model_that_refines(data, uninterrupted):
    folder = uninterrupted.parent
    model = load_model(uninterrupted)
    dataset = open_dataset("folder", data)
    assert [label.name for label in model.card.classes] == list(dataset.classes)
    assert model.card.training["recipe"]["iterations"] == 4
    assert model.card.training["cases"]["val"] == [c.id for c in dataset.splits["val"]]
    image = dataset.load(dataset.splits["test"][0]).image
    assert model.refine(image).mask.shape == image.shape[:2]
    report = json.loads((folder / "report.json").read_text())
    chosen = report["thresholds"]
    assert model.card.training["thresholds"] == chosen
    assert model.segmentor.threshold == chosen["segmentor"]["threshold"]
    assert model.refiner.threshold == chosen.get("refiner", {}).get("threshold", 0.5)
    assert all(found["dice"] >= found["dice_at_half"] for found in chosen.values())
    assert [row["t"] for row in report["calibration"]] == list(range(1, 11))
    for row in report["calibration"]:
        assert 0 <= row["predicted"] <= 1
        assert 0 <= row["true"] <= 1
    assert [row["iteration"] for row in report["validation"]] == [2, 4]
    assert list((folder / "events").iterdir())
    again = command(data, folder)
    assert again.returncode == 2
    assert "already holds a run" in again.stderr


def test_a_loss_that_is_no_number_ends_the_training():
    learner = Learner(torch.nn.Linear(5, 1), 0.1, 10, 0.0, 0.9, accelerator())
    before = learner.plain.weight.detach().clone()
    loss = learner.module(torch.ones(1, 5)).sum() * float("nan")
    with pytest.raises(InputError, match=r"nan in update 1: .* lower learning rate"):
        learner.step(iter([loss]), 1)
    torch.testing.assert_close(learner.plain.weight, before)


def test_the_paper_s_mode_is_one_switch_away(data, tmp_path):
    recipe = as_in_the_paper(tiny(steps=2))
    assert (recipe.predicts, recipe.loss, recipe.posterior) == ("eps", "kl-focal", "plugin")
    path = train(
        dataclasses.replace(recipe, iterations=2, stem=2),
        open_dataset("folder", data),
        tmp_path / "run",
        device="cpu",
    )
    model = load_model(path)
    assert model.refiner.output == "eps"
    assert model.card.defaults["sampler"] == "ancestral"
    assert np.isfinite(model.refine(np.zeros((40, 40, 3), np.uint8)).probability).all()


def interrupted(data, folder, module=None, number=0):
    """In a process of its own: a run in ``folder`` that saves a checkpoint every iteration, so
    that there is much to be cut; it kills itself amid the ``number``-th ``module.save``."""
    trainer.SAVE_EVERY = stages.SAVE_EVERY = 1
    if module is not None:
        module = sys.modules[module]
        real, count = module.save, 0

        def save(*arguments):
            nonlocal count
            count += 1
            if count == number:
                file = next(a for a in arguments if hasattr(a, "write"))
                file.write(b"half of it")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            real(*arguments)

        module.save = save
    arguments = ("--dataset", "folder", "--data", data, "--output", folder, *FLAGS)
    resume = ["--resume"] if (folder / "recipe.json").exists() else []
    done = run(*arguments, *resume, "--device", "cpu")
    (folder / "stderr.txt").write_text(done.stderr, encoding="utf-8")
    sys.exit(done.returncode)


def finish(data, folder):
    """Resume a killed run and return its model."""
    assert not (folder / "model.safetensors").exists()
    (second := forked(interrupted, data, folder)).join()
    assert second.exitcode == 0, (folder / "stderr.txt").read_text(encoding="utf-8")
    return folder / "model.safetensors"


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(data, tmp_path, uninterrupted):
    """SIGKILL from outside as soon as a checkpoint is there, wherever the run then is; twice."""
    folder = tmp_path / "cut"
    for after in ("fold0.pt", "last.pt"):
        process = forked(interrupted, data, folder)
        while not (folder / after).exists():
            assert process.is_alive(), "the run ended before it could be killed"
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert same(uninterrupted, finish(data, folder))


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_writes_loses_nothing(data, tmp_path, uninterrupted):
    """Each kind of file that a run writes is cut in its turn; what was whole is not made again."""
    folder = tmp_path / "cut"
    for module, number, half in (
        ("numpy", 3, "cache/folder/.*.npy.*.part"),
        ("torch", 2, "cut/.fold0.pt.*.part"),
        ("numpy", 1, "cut/priors/.*.npy.*.part"),
        ("torch", 2 + 3 + 2, "cut/.best.pt.*.part"),  # after fold1, segmentor and last
    ):
        process = forked(interrupted, data, folder, module, number)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert list(tmp_path.glob(half))  # it did die while it wrote this
    assert same(uninterrupted, finish(data, folder))


def test_a_run_cut_between_iterations_resumes_exactly(data, tmp_path, uninterrupted, monkeypatch):
    monkeypatch.setattr("napari_hidiff.training.trainer.SAVE_EVERY", 1)
    dataset, folder = open_dataset("folder", data), tmp_path / "cut"

    def cut(crops, done, iterations, **place):
        for i, group in enumerate(batches(crops, done, iterations, **place)):
            if crops.stage == REFINER_STAGE and done + i == 3:
                raise KeyboardInterrupt
            yield group

    monkeypatch.setattr("napari_hidiff.training.trainer.batches", cut)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), dataset, folder, device="cpu")
    monkeypatch.setattr("napari_hidiff.training.trainer.batches", batches)
    resumed = train(tiny(), dataset, folder, device="cpu", resume=True)
    assert same(uninterrupted, resumed)
    with pytest.raises(InputError, match="other settings"):
        train(tiny(lr=0.1), dataset, folder, device="cpu", resume=True)


def test_dry_run_prints_the_recipe_and_trains_nothing(data, tmp_path):
    done = run(
        "--dataset",
        "folder",
        "--data",
        data,
        "--output",
        tmp_path / "no",
        "--width",
        64,
        "--dry-run",
        "--json",
    )
    plan = json.loads(done.stdout)
    assert plan["recipe"]["width"] == 64
    assert set(plan["cases"]) == {"train", "val", "test"}
    told = run("--dataset", "folder", "--data", data, "--device", "cpu", "--dry-run")
    lines = told.stdout.splitlines()
    assert len(lines) == 6
    assert "width 32" in lines[2], "there is no GPU"
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--dataset", "nope"],
            "no data set 'nope'; known are synapse, brats, kvasir, cvc, drive, chase",
        ),
        (["--dataset", "folder", "--data", "missing"], "missing"),
        (["--dataset", "folder", "--width", "33"], "width must be a multiple of 32, not 33"),
        (["--dataset", "folder", "--schedule", "linear"], "betas"),
        (["--dataset", "folder", "--loss", "mse"], "mse"),
        (["--dataset", "folder", "--resume"], "no run to resume"),
    ],
)
def test_bad_input_is_one_line_and_status_two(data, tmp_path, arguments, message):
    if "--data" not in arguments:
        arguments = [*arguments, "--data", str(data)]
    done = run(*arguments, "--output", tmp_path / "run")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_torn_checkpoint_is_named_and_never_replaces_a_good_one(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"iteration": 1})

    def torn(state, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(InputError, match="disk full"):
        save_checkpoint(path, {"iteration": 2})
    assert load_checkpoint(path) == {"iteration": 1}
    path.write_bytes(b"half")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(path)


@pytest.fixture(scope="module")
def stored(data, tmp_path_factory):
    """Cases of the folder on disk, with a prior each."""
    dataset, folder = open_dataset("folder", data), tmp_path_factory.mktemp("cache")
    cases = []
    for case in case_cache.build(dataset, ("train",), folder).splits["train"]:
        file = folder / f"{case.id}.prior.npy"
        depth, _, height, width = case.shape
        rng = np.random.default_rng(len(cases))
        case_cache.save_array(file, rng.random((depth, 1, height, width)).astype(np.float16))
        cases.append(dataclasses.replace(case, prior_file=file))
    return cases


def test_a_crop_is_decided_by_its_number_alone(data, stored):
    recipe = tiny()
    card = blank_card(recipe, open_dataset("folder", data), "")
    one, other = (Crops(stored, recipe, card, 5, refining=True) for _ in range(2))
    expected = {number: one[number] for number in (4, 0, 5)}
    for number in (0, 4):
        for key, value in other[number].items():
            assert torch.equal(value, expected[number][key])
    assert not torch.equal(expected[4]["image"], expected[5]["image"])
    item = expected[0]
    assert item["image"].shape == (3, 32, 32)
    assert set(item["truth"].unique().tolist()) <= {0, 1}
    where = item["fixed"] >= 0
    assert (item["fixed"][where] == item["truth"][where]).all()


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_each_batch_without_loss_or_repeat(processes):
    ranks = [list(Shares(8, 2, 5, rank, processes)) for rank in range(processes)]
    together = [list(chain(*parts)) for parts in zip(*ranks, strict=True)]
    assert together == [list(range(8 * batch, 8 * batch + 8)) for batch in (2, 3, 4)]


def test_crops_never_exceed_what_the_images_fill(stored):
    assert fitted(tiny(crop=256), stored).crop == 64  # images of 60 x 64 pixels
    assert fitted(tiny(crop=32), stored).crop == 32


def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


def test_micro_batches_are_averaged():
    torch.manual_seed(0)
    x, y = torch.randn(8, 5), torch.randn(8, 1)
    weights = []
    for parts in (1, 4):
        torch.manual_seed(1)
        learner = Learner(torch.nn.Linear(5, 1), 0.1, 10, 0.0, 0.9, accelerator())

        def losses(parts=parts, learner=learner):
            for a, b in zip(x.chunk(parts), y.chunk(parts), strict=True):
                yield (learner.module(a) - b).square().mean()

        learner.step(losses(), parts)
        weights.append(learner.module.weight.detach().clone())
    torch.testing.assert_close(*weights)


def test_the_average_follows_weights_and_buffers():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    learner = Learner(net, 0.05, 100, 0.0, 0.9, accelerator())
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        x = 3 + torch.randn(16, 3, generator=generator)
        learner.step(iter([learner.module(x).square().mean()]), 1)
    average = learner.averaged
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())
    assert not torch.equal(average[0].weight, net[0].weight)
    torch.testing.assert_close(average[0].weight, net[0].weight, atol=0.3, rtol=0)
    assert not torch.equal(average[1].running_mean, torch.zeros(3))


def test_the_learning_rate_warms_up_and_falls():
    factor = warm_cosine(100)
    values = [factor(i) for i in range(101)]
    assert max(values) == 1
    assert values[:6] == sorted(values[:6])
    assert values[5:] == sorted(values[5:], reverse=True)
    assert values[-1] == pytest.approx(0.01)


def test_latent_binary_weights_do_not_decay():
    from napari_hidiff.networks.binary import BinaryConv2d

    net = torch.nn.Sequential(torch.nn.Conv2d(32, 32, 3), BinaryConv2d(32, 32, 3, 1, 8))
    decayed, free = parameter_groups(net, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert any(p is net[0].weight for p in decayed["params"])
    assert any(p is net[1].weight for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(net.parameters()))


def test_every_recipe_can_be_built(data):
    dataset = open_dataset("folder", data)
    assert all(recipe.dataset == name for name, recipe in RECIPES.items())
    for recipe in RECIPES.values():
        for mode in (recipe, as_in_the_paper(recipe)):
            check_recipe(mode, blank_card(mode, dataset, ""))
