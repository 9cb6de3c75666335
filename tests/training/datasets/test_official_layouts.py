"""Data sets as their owners distribute them are read by the real command; one of a kind trains."""

import json

import layouts
import numpy as np
import pytest
import volume_layouts
from commands import call

from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training import cli
from napari_hidiff.training.cli import resolved
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.run import blank_card

TINY = {
    "pretrain_iterations": 1,
    "folds": 0,
    "iterations": 1,
    "rounds": 0,
    "diffusion_steps": 3,
    "width": 32,
    "stem": 2,
    "crop": 32,
    "batch": 2,
    "segmentor_every": 1,
    "validate_every": 1,
    "validate_cases": 1,
    "workers": 0,
    "steps": 2,
    "samples": 1,
}
FLAGS = [part for k, v in TINY.items() for part in (f"--{k.replace('_', '-')}", str(v))]

SEGMENTORS = {"chase": ("--segmentor", "flexible-unet")}
"""Layouts that train another segmentor than the usual one."""

FRAMES = range(1, 613, 20)
FOUR = ("FLAIR", "T1w", "t1gd", "T2w")
LAYOUTS = {
    "btcv": ("synapse", lambda root: volume_layouts.write_btcv(root / "RawData" / "Training")),
    "transunet": ("synapse", lambda root: volume_layouts.write_transunet(root / "Synapse")),
    "brats-2020": ("brats", lambda root: volume_layouts.write_brats(root, "2020")),
    "brats-2021": ("brats", lambda root: volume_layouts.write_brats(root, "2021")),
    "brats-2023": ("brats", lambda root: volume_layouts.write_brats(root, "2023", count=6)),
    "msd-3d": ("msd", lambda root: volume_layouts.write_msd(root / "Task09_Spleen", count=4)),
    "msd-4d": ("msd", lambda root: volume_layouts.write_msd(root / "Task01_BrainTumour", FOUR, 4)),
    "kvasir": ("kvasir", lambda root: layouts.write_kvasir(root / "Kvasir-SEG")),
    "cvc-tif": ("cvc", lambda root: layouts.write_cvc(root / "TIF", FRAMES)),
    "cvc-png": (
        "cvc",
        lambda root: layouts.write_cvc(root / "PNG", FRAMES, ".png"),
    ),
    "polyp": ("polyp", lambda root: layouts.write_polyp(root / "polyp")),
    "chase": ("chase", lambda root: layouts.write_chase(root / "CHASEDB1")),
    "drive-without-test-truth": (
        "drive",
        lambda root: layouts.write_drive(root / "DRIVE", test_truth=False),
    ),
    "nifti-folder": ("folder", lambda root: volume_layouts.write_nifti_folder(root, labels=3)),
}
TRAINED = ("btcv", "brats-2023", "msd-4d", "polyp", "chase", "nifti-folder")
"""One of a kind: volumes, of several channels, in 4-D; pictures; folders of one's own. What
is read of the others trains by the same lines."""


def run(*arguments):
    return call(cli.main, *arguments)


def written(layout, folder):
    """The data set's name, and where the command is told to look."""
    name, write = LAYOUTS[layout]
    data = write(folder)
    # MSD is named by its task's folder, a folder by itself; the others are found in their parent.
    return name, data if name in ("msd", "folder") or layout == "btcv" else folder


@pytest.mark.slow
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout not in TRAINED])
def test_the_layout_is_read_by_name(layout, tmp_path):
    name, where = written(layout, tmp_path / "data")
    done = run("--dataset", name, "--data", where, "--check", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["bad"] == []
    assert content["loaded"] == sum(content["cases"].values()) > 0
    assert all(count > 0 for count in content["present"].values())
    dataset = open_dataset(name, where)
    card = HiDiff.create(blank_card(resolved(name, "quick", False, {}), dataset, "")).card
    assert (card.dataset, card.channels) == (name, dataset.channels)
    assert [label.name for label in card.classes] == list(dataset.classes)
    assert (card.licence, card.attribution) == (dataset.licence, dataset.attribution)


@pytest.mark.slow
@pytest.mark.parametrize("layout", TRAINED)
def test_the_layout_trains_by_name(layout, tmp_path):
    name, where = written(layout, tmp_path / "data")
    flags = (*FLAGS, *SEGMENTORS.get(layout, ()), "--json")
    done = run("--dataset", name, "--data", where, "--output", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    model = load_model(json.loads(done.stdout)["model"], device="cpu")
    dataset = open_dataset(name, where)
    card = model.card
    assert card.dataset == name
    assert [label.name for label in card.classes] == list(dataset.classes)
    assert card.channels == dataset.channels
    assert card.segmentor["name"] == SEGMENTORS.get(layout, ("", "unet"))[1]
    assert (card.licence, card.attribution) == (dataset.licence, dataset.attribution)
    assert card.training["recipe"]["iterations"] == TINY["iterations"]
    assert card.training["cases"]["train"] == [case.id for case in dataset.splits["train"]]
    image = dataset.load(dataset.splits["train"][0]).image
    plane = image[len(image) // 2] if image.ndim == 4 else image
    refined = model.refine(plane)
    assert refined.mask.shape == plane.shape[:2]
    assert np.isfinite(refined.probability).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder"),
    [("brats", "BraTS2021"), ("synapse", "Synapse_layout"), ("msd", "Task04_Hippocampus")],
)
def test_real_folders_are_checked_by_the_command(name, folder, real_data):
    done = run("--dataset", name, "--data", real_data(folder), "--check", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["bad"] == []
    assert content["loaded"] == sum(content["cases"].values()) > 0
    assert all(count > 0 for count in content["present"].values())


@pytest.mark.slow
def test_the_command_checks_and_refuses_a_bad_case_or_skips_it(tmp_path):
    root = volume_layouts.write_brats(tmp_path / "BraTS2021")
    name = open_dataset("brats", root).splits["train"][0].id
    (root / name / f"{name}_t2.nii.gz").unlink()
    arguments = ("--dataset", "brats", "--data", root, *FLAGS)
    checked = run(*arguments, "--check")
    assert checked.returncode == 2
    assert f"{name}_t2.nii.gz: missing" in checked.stdout
    refused = run(*arguments, "--output", tmp_path / "run")
    assert refused.returncode == 2
    assert f"{name}_t2.nii.gz: missing" in refused.stderr.splitlines()[-1]
    skipped = run(*arguments, "--output", tmp_path / "other", "--skip-bad")
    assert skipped.returncode == 0, skipped.stderr
    assert f"{name}_t2.nii.gz: missing" in skipped.stderr


@pytest.mark.slow
def test_the_command_says_what_it_wanted_where_it_finds_nothing(tmp_path):
    done = run("--dataset", "synapse", "--data", tmp_path, "--check")
    assert done.returncode == 2
    assert "train_npz" in done.stderr
    assert "img0001.nii.gz" in done.stderr
    assert done.stderr.count("\n") == 1
