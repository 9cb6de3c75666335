"""A model with the Gaussian kernel: trained, loaded, refining; what it cannot do is refused."""

import dataclasses
import json

import layouts
import numpy as np
import pytest

from napari_hidiff.diffusion.gaussian import GaussianDiffusion
from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.recipes import RECIPES, as_in_the_paper
from napari_hidiff.training.run import blank_card, check_folder, check_recipe, note_recipe
from napari_hidiff.training.trainer import train

TINY = {
    "pretrain_iterations": 2,
    "folds": 0,
    "iterations": 2,
    "width": 32,
    "stem": 2,
    "crop": 32,
    "batch": 2,
    "segmentor_every": 2,
    "trajectory": 0.5,
    "validate_every": 2,
    "workers": 0,
    "steps": 2,
    "samples": 1,
    "precision": "fp32",
    "kernel": "gaussian",
}


def tiny(**changes):
    return dataclasses.replace(RECIPES["folder"], **(TINY | changes))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset("folder", layouts.write_folder(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    train(tiny(), dataset, folder, device="cpu")
    return folder


def test_a_recipe_trains_a_model_that_refines(run, dataset):
    model = load_model(run / "model.safetensors", "cpu")
    assert isinstance(model.process, GaussianDiffusion)
    assert model.card.diffusion["kernel"] == "gaussian"
    assert json.loads((run / "report.json").read_text())["calibration"] == []
    image = dataset.load(dataset.splits["test"][0]).image
    for sampler in ("one-step", "ddim", "ancestral"):
        result = model.refine(image, sampler=sampler, steps=3, samples=2)
        assert result.engine == "torch"
        assert np.isfinite(result.probability).all()
        assert result.mask.shape == image.shape[:2]


def test_it_runs_on_torch_with_one_line(run):
    path = run / "model.safetensors"
    model = load_model(path, "cpu")
    assert model.engine == "torch"
    assert "real-valued" in model.backend.note
    assert "\n" not in model.backend.note
    with pytest.raises(InputError, match=r"packed engine cannot run this: .*real-valued"):
        load_model(path, "cpu", engine="packed")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "kl"}, "loss kl is about flips"),
        ({"loss": "kl-focal"}, "loss kl-focal is about flips"),
        ({"predicts": "eps"}, "eps are flips.* --predicts y0"),
        ({"centre": "even"}, "--centre is for --kernel bernoulli"),
        ({"kernel": "poisson"}, "kernel must be one of .*'poisson'"),
    ],
)
def test_what_is_about_flips_is_refused(changes, message, dataset):
    recipe = tiny(**changes)
    with pytest.raises(InputError, match=message) as error:
        check_recipe(recipe, blank_card(recipe, dataset, ""))
    assert "\n" not in str(error.value)


def test_the_paper_s_mode_is_about_flips_and_bernoulli_is_not_named(dataset):
    recipe = as_in_the_paper(tiny())
    with pytest.raises(InputError, match="eps are flips"):
        check_recipe(recipe, blank_card(recipe, dataset, ""))
    assert "kernel" not in blank_card(tiny(kernel="bernoulli"), dataset, "").diffusion


def test_a_run_from_before_there_were_kernels_goes_on(tmp_path):
    note_recipe(tmp_path, tiny(kernel="bernoulli"))
    noted = tmp_path / "recipe.json"
    old = json.loads(noted.read_text())
    del old["kernel"]
    noted.write_text(json.dumps(old))
    check_folder(tmp_path, tiny(kernel="bernoulli"), resume=True)
    with pytest.raises(InputError, match="trained with other settings"):
        check_folder(tmp_path, tiny(), resume=True)
