"""A model of three neighbouring slices from the command: trained, tuned, evaluated, applied."""

import json

import numpy as np
import pytest
import volume_layouts
from commands import call
from trainings import FLAGS, run

from napari_hidiff.cli import app
from napari_hidiff.inference import volumes
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.training.evaluate import cli as evaluating


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return volume_layouts.write_nifti_folder(tmp_path_factory.mktemp("data"), count=6)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "three"
    given = ("--dataset", "folder", "--data", data, "--output", folder, "--device", "cpu")
    done = run(*given, *FLAGS, "--slices", 3)
    assert done.returncode == 0, done.stderr
    return folder / "model.safetensors"


def test_its_networks_read_three_slices(trained):
    card = load_model(trained, device="cpu").card
    assert (card.slices, card.inputs, len(card.channels)) == (3, 3, 1)
    assert card.training["recipe"]["slices"] == 3


def test_it_is_evaluated_and_refines_a_volume(data, trained, tmp_path):
    given = ("--model", trained, "--dataset", "folder", "--data", data, "--split", "val")
    done = call(evaluating.main, *given, "--output", tmp_path / "scores.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["n"] == 1
    image = data / "images" / "scan0.nii.gz"
    done = call(app.refine_main, image, "--model", trained, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    written = next(tmp_path.glob("*.nii.gz"))
    model, scan = load_model(trained, device="cpu"), read_volume(image)
    planes = volumes.normalise(model, scan.array[..., None])
    mask = model.mask_of(volumes.refine(model, planes, sampling=model.sampling()), 0)
    assert (np.asarray(read_volume(written).array) != mask).mean() < 0.01


def test_it_can_be_tuned_and_stays_a_model_of_three(data, trained, tmp_path):
    given = ("--dataset", "folder", "--data", data, "--output", tmp_path / "run", "--from", trained)
    short = ("--pretrain-iterations", 2, "--iterations", 2, "--crop", 32, "--batch", 2)
    done = run(*given, *short, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "run" / "model.safetensors", device="cpu").card.slices == 3
    done = run(*given, "--slices", 5, "--device", "cpu")
    assert done.returncode == 2
    assert "--slices cannot be changed with --from" in done.stderr


@pytest.mark.parametrize("slices", [0, 2, -1])
def test_an_even_number_is_refused(data, tmp_path, slices):
    given = ("--dataset", "folder", "--data", data, "--output", tmp_path / "run")
    done = run(*given, "--slices", slices)
    assert done.returncode == 2
    assert "--slices is an odd number from 1 on" in done.stderr
