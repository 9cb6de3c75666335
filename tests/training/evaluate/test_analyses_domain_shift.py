"""A model on its own images, changed: what is changed, and figures by hand."""

from dataclasses import replace

import numpy as np
import pytest
from layouts import write_kvasir
from printed import shown
from volume_layouts import write_msd

from napari_hidiff.inference import volumes
from napari_hidiff.inference.catalog import find_model, read_card
from napari_hidiff.inference.ood import ood_reasons
from napari_hidiff.masks import dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.analyses.domain_shift import AS_IT_IS, SHIFTS, shifted
from napari_hidiff.training.evaluate.experiments import run_experiment
from napari_hidiff.training.evaluate.samplers import SETTINGS
from napari_hidiff.training.evaluate.scoring import PreparedSample
from napari_hidiff.training.evaluate.study import Options


@pytest.fixture(scope="module")
def polyps(tmp_path_factory):
    return open_dataset("kvasir", write_kvasir(tmp_path_factory.mktemp("data"), count=8))


@pytest.mark.parametrize("name", [name for name in SHIFTS if name != AS_IT_IS])
def test_a_change_is_one_of_the_image_alone_and_always_the_same(polyps, name, tmp_path):
    volume = open_dataset("msd", write_msd(tmp_path / "Task01_Thing", ("MRI",)))
    for dataset in (polyps, volume):
        case = dataset.split("train")[0]
        before, after = dataset.load(case), shifted(dataset, name).load(case)
        again = shifted(dataset, name).load(case)
        np.testing.assert_array_equal(after.image, again.image)
        assert np.isfinite(after.image).all()
        assert after.image.shape[:-1] == after.mask.shape
        if name == "half the size":
            sides = np.array(before.mask.shape[-2:]) / 2
            assert np.abs(sides - after.mask.shape[-2:]).max() <= 0.5
        else:
            np.testing.assert_array_equal(after.mask, before.mask)
            assert not np.allclose(after.image, before.image)
    # What is changed follows the size that is scored.
    small = replace(polyps, longest_side=32)
    assert shifted(small, name).load(polyps.split("train")[0]).mask.shape[1] in (16, 32)


def test_scores_are_those_of_the_changed_images(tiny, polyps, tmp_path):
    model, cases = tiny(), polyps.split("test")[:2]
    options = Options(sampler="one-step")
    told = (model, polyps, cases, options, tmp_path, lambda *_: None)
    content = run_experiment("domain-shift", *told)
    assert list(content["shifts"]) == list(SHIFTS)
    for name, found in content["shifts"].items():
        for case, row in zip(cases, content["images"], strict=True):
            sample = shifted(polyps, name).load(case)
            mask = model.refine(sample.image, sampler="one-step").mask
            assert row[name]["refined"] == pytest.approx(dice(mask, sample.mask), abs=2e-6)
        lost = [row[AS_IT_IS]["prior"] - row[name]["prior"] for row in content["images"]]
        assert found["lost"]["mean"] == pytest.approx(np.mean(lost), abs=2e-6)
    text = shown("domain-shift", content)
    assert all(name in text for name in SHIFTS)


def test_a_noisy_photograph_is_unlike_those_of_training_and_a_blurred_one_is_not(chase_data):
    dataset = open_dataset("chase", chase_data)
    case, card = dataset.split("test")[0], read_card(find_model("chase-vessels"))
    for name, warned in (("noisy", True), ("blurred", False), (AS_IT_IS, False)):
        image = shifted(dataset, name).load(case).image
        assert bool(ood_reasons(image, card.channels, card.looks)) == warned


def test_an_ensemble_is_the_mean_of_prior_one_pass_and_ddim(tiny, polyps):
    model = tiny()
    prepared = PreparedSample.of(polyps.load(polyps.split("test")[0]), model)
    how = [("one-step", 3, 5), ("ddim", 3, 5)]
    parts = [
        volumes.refine(
            model, prepared.planes, prepared.prior, sampling=model.sampling(*one, 7, 1.0)
        )
        for one in how
    ]
    found = SETTINGS["ensemble"].probability(model, prepared, 7)
    np.testing.assert_allclose(found, np.mean([prepared.prior, *parts], 0), atol=1e-6)
    assert SETTINGS["ensemble"].forwards == 16
