"""The evaluation: its arms, its report, and the repair of damaged priors."""

import json

import layouts
import numpy as np
import pytest

import napari_hidiff
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.images import sample as bundled_sample
from napari_hidiff.masks import Label
from napari_hidiff.training.datasets import Case, Sample, open_dataset
from napari_hidiff.training.evaluate.damage import damage
from napari_hidiff.training.evaluate.metrics import METRICS, score
from napari_hidiff.training.evaluate.report import report
from napari_hidiff.training.evaluate.scoring import (
    DAMAGED,
    PRIOR,
    REFINED,
    REPAIRED,
    SECOND,
    Evaluation,
    PreparedSample,
    arms_of,
    evaluate,
    score_case,
)
from napari_hidiff.training.evaluate.study import Options

MODEL = "chase-vessels"
SMALL = {"name": "unet", "filters": [4, 4, 6, 8, 8, 8]}
VESSELS = (Label("background", "#000000"), Label("vessel", "#ff4040"))
RGB = ("red", "green", "blue")
REGAINED = 1 / 3
"""The share of the Dice lost to damage that a refiner has to regain to count as one."""


def untrained(classes=VESSELS, channels=RGB):
    """A real model whose refiner has learned nothing: it returns the prior."""
    card = Card(
        "untrained",
        classes,
        channels,
        dataset="chase",
        segmentor=SMALL,
        defaults={"sampler": "ddim", "steps": 2, "samples": 2},
    )
    return HiDiff.create(card, seed=0)


@pytest.fixture(scope="module")
def model():
    return untrained()


@pytest.fixture(scope="module")
def restless():
    """A model whose refiner answers differently for different noise."""
    model = untrained()
    rng = np.random.default_rng(0)
    import torch

    for parameter in model.refiner.head.parameters():
        parameter.copy_(torch.from_numpy(rng.normal(0, 0.5, parameter.shape)))
    return model


def subject(model, sample, prior):
    """A picture that starts from a given prior, float32 [K, H, W]."""
    planes = volumes.normalise(model, sample.image[None])
    return PreparedSample(sample, planes, prior[:, None])


@pytest.fixture(scope="module")
def chase(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "CHASEDB1"
    return open_dataset("chase", layouts.write_chase(root, height=40, width=33))


def test_every_image_and_arm_is_scored_as_the_model_answers(restless, chase):
    cases = chase.split("test")[:3]
    options = Options(seeds=(5, 6), also=("one-step",), damage=True, second_observer=True)
    seen = []
    result = evaluate(restless, chase, cases, options, lambda done, case: seen.append((done, case)))
    assert seen == list(enumerate(cases))
    assert [image.id for image in result.images] == [case.id for case in cases]
    assert result.arms == (PRIOR, REFINED, "one-step", DAMAGED, REPAIRED, SECOND)
    sample = chase.load(cases[1])
    prior = restless.prior(sample.image)
    expected = {
        PRIOR: [restless.mask_of(prior)],
        REFINED: [restless.refine(sample.image, seed=seed).mask for seed in (5, 6)],
        "one-step": [restless.refine(sample.image, sampler="one-step").mask],
        DAMAGED: [restless.mask_of(damage(prior))],
        REPAIRED: [restless.refine(sample.image, damage(prior), seed=seed).mask for seed in (5, 6)],
        SECOND: [chase.load_second(sample)],
    }
    assert not np.array_equal(*expected[REFINED])
    for arm, masks in expected.items():
        for metric in METRICS:
            wanted = np.mean([score(mask, sample.mask).mean[metric] for mask in masks])
            assert result.images[1].arms[arm].mean[metric] == pytest.approx(wanted, abs=1e-12)


def test_the_sampler_without_randomness_runs_once(model, chase):
    result = evaluate(model, chase, chase.split("test")[:1], Options((4, 5, 6), sampler="one-step"))
    assert result.seeds == (4,)
    assert result.engines == {"torch"}


def test_drive_is_scored_inside_its_field_of_view(restless, tmp_path):
    dataset = open_dataset("drive", layouts.write_drive(tmp_path / "DRIVE", range(1, 3)))
    case = dataset.split("test")[0]
    sample = dataset.load(case)
    everywhere = np.ones((1, *sample.mask.shape), np.float32)
    arms = arms_of(restless, dataset, Options(sampler="one-step"))
    row = score_case(subject(restless, sample, everywhere), dataset, arms)
    inside = sample.field_of_view
    assert row.arms[PRIOR].mean["accuracy"] == pytest.approx(sample.mask[inside].mean())
    assert row.arms[PRIOR].mean["recall"] == 1
    refined = restless.refine(sample.image, everywhere, sampler="one-step").mask
    right = (refined == sample.mask)[inside].mean()
    assert right != (refined == sample.mask).mean()
    assert row.arms[REFINED].mean["accuracy"] == pytest.approx(right)


def test_several_classes_are_reported_by_name(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=4, labels=3, classes="disc\nvessel")
    dataset = open_dataset("folder", root)
    classes = tuple(Label(name, "#808080") for name in dataset.classes)
    model = untrained(classes)
    result = evaluate(model, dataset, dataset.split("val"), Options(seeds=(0,)))
    content = report(result, dataset, "val", model, "m", "c")
    assert list(content["per_class"]) == ["disc", "vessel"]
    mean = np.mean([by_arm[REFINED]["dice"] for by_arm in content["per_class"].values()])
    assert content["mean"][REFINED]["dice"] == pytest.approx(mean, abs=2e-6)
    for image in content["images"]:
        for metric in set(METRICS) - {"accuracy"}:
            parts = [image["per_class"][name][PRIOR][metric] for name in ("disc", "vessel")]
            assert image[PRIOR][metric] == pytest.approx(np.mean(parts), abs=2e-6)


def test_what_does_not_fit_is_refused_before_anything_runs(model, chase, tmp_path):
    cases = chase.split("test")
    three = untrained(tuple(Label(name, "#808080") for name in ("background", "a", "b")))
    with pytest.raises(InputError, match="classes background, a, b"):
        evaluate(three, chase, cases)
    with pytest.raises(InputError, match="1 channels"):
        evaluate(untrained(channels=("grey",)), chase, cases)
    with pytest.raises(InputError, match="negative"):
        evaluate(model, chase, cases, Options(tolerance=-1))
    with pytest.raises(InputError, match="seed"):
        evaluate(model, chase, cases, Options(seeds=()))
    drive = open_dataset("drive", layouts.write_drive(tmp_path / "DRIVE", range(21, 23)))
    with pytest.raises(InputError, match="second observer for 21"):
        evaluate(model, drive, drive.split("train"), Options(second_observer=True))


def test_the_report_is_complete_and_plain(restless, chase):
    cases = chase.split("test")[:4]
    options = Options(seeds=(0, 1), also=("one-step",), damage=True, second_observer=True)
    result = evaluate(restless, chase, cases, options)
    content = report(result, chase, "test", restless, "name", "command line")
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    wanted = "dataset split model seeds n command versions images mean difference empty_masks"
    assert set(wanted.split()) < set(content)
    assert (content["seeds"], content["n"], content["model"]) == ([0, 1], 4, "name")
    for image in content["images"]:
        assert set(image) == {"id", *result.arms}
        assert all(list(image[arm]) == list(METRICS) for arm in result.arms)
    prior, refined = (
        np.array([image[arm]["dice"] for image in content["images"]]) for arm in (PRIOR, REFINED)
    )
    difference = content["difference"]["dice"]
    assert content["mean"][REFINED]["dice"] == pytest.approx(refined.mean(), abs=2e-6)
    assert difference["mean"] == pytest.approx((refined - prior).mean(), abs=2e-6)
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert set(content["difference_to"]) == {"one-step", SECOND}
    assert content["settings"] == {"sampler": "ddim", "steps": 2, "samples": 2}
    assert content["notes"] == []
    assert content["surface"] == {"unit": "pixels", "tolerance": 1.0}
    assert not {"per_class", "by_set", "skipped"} & set(content)


def test_scores_on_training_images_say_so(model, chase):
    model = model.with_card(attribution=chase.attribution)
    result = evaluate(model, chase, chase.split("train")[:1], Options(seeds=(0,)))
    content = report(result, chase, "train", model, "m", "c")
    assert "trained on 1" in content["notes"][0]
    card = {"cases": {"train": [], "val": [result.images[0].id]}}
    other = model.with_card(training=card)
    assert "chosen on 1" in report(result, chase, "train", other, "m", "c")["notes"][0]
    elsewhere = model.with_card(dataset="drive")
    assert report(result, chase, "train", elsewhere, "m", "c")["notes"] == []
    assert content["difference"]["dice"]["low"] is None  # one image has no interval


def test_empty_masks_are_counted(model, chase):
    case = chase.split("test")[0]
    sample = chase.load(case)
    nothing = Sample(case, sample.image, np.zeros_like(sample.mask), None, None)
    never = np.full((1, *sample.mask.shape), 0.01, np.float32)
    arms = arms_of(model, chase, Options(seeds=(0,)))
    rows = [score_case(subject(model, s, never), chase, arms) for s in (sample, nothing)]
    result = Evaluation(rows, (0,), {})
    content = report(result, chase, "test", model, "m", "c")
    assert content["empty_masks"] == {"truth": 1, PRIOR: 2, REFINED: 2}
    assert [image[REFINED]["dice"] for image in content["images"]] == [0, 1]


def regained_share(model, dataset, samples, priors, options):
    """The report's share of lost Dice that comes back, from given priors."""
    arms = arms_of(model, dataset, options)
    rows = [
        score_case(subject(model, sample, prior), dataset, arms)
        for sample, prior in zip(samples, priors, strict=True)
    ]
    result = Evaluation(rows, options.seeds, {})
    return report(result, dataset, "test", model, "m", "c")["damage"]


def test_an_identity_refiner_regains_nothing(model, tmp_path):
    root = layouts.write_chase(tmp_path / "CHASEDB1", height=120, width=128)
    dataset = open_dataset("chase", root)
    samples = [dataset.load(case) for case in dataset.split("test")[:3]]
    priors = [
        np.where(dataset.load_second(sample), 0.9, 0.05).astype(np.float32)[None]
        for sample in samples
    ]
    repair = regained_share(model, dataset, samples, priors, Options((0,), "one-step", damage=True))
    assert repair["lost"]["mean"] > 0.05
    assert repair["regained"]["mean"] == 0
    assert repair["share"] < REGAINED


def test_a_refiner_that_knows_the_truth_regains_more_than_was_lost(model, chase):
    """The share is what it says: the truth as the repaired mask gives (1 - damaged) / lost."""
    sample = chase.load(chase.split("test")[0])
    prior = np.where(chase.load_second(sample), 0.9, 0.05).astype(np.float32)[None]
    arms = arms_of(model, chase, Options((0,), "one-step", damage=True))
    arms[REPAIRED] = lambda subject: iter([subject.sample.mask])
    row = score_case(subject(model, sample, prior), chase, arms)
    content = report(Evaluation([row], (0,), {}), chase, "test", model, "m", "c")
    before, damaged = (row.arms[arm].mean["dice"] for arm in (PRIOR, DAMAGED))
    assert content["damage"]["share"] == pytest.approx((1 - damaged) / (before - damaged), abs=1e-4)


@pytest.mark.slow
def test_the_bundled_model_repairs_the_bundled_sample(chase):
    image, truth = bundled_sample()
    case = Case("sample", "sample", chase.split("test")[0].images, chase.split("test")[0].mask)
    model = napari_hidiff.load_model(MODEL, device="cpu")
    options = Options(seeds=(0,), damage=True)
    samples = [Sample(case, image, truth, None, None)]
    repair = regained_share(model, chase, samples, [model.prior(image)], options)
    assert repair["lost"]["mean"] > 0.05
    assert repair["share"] >= REGAINED


def test_the_second_observer_of_chase(model, real_data):
    dataset = open_dataset("chase", real_data("CHASEDB1"))
    arms = {SECOND: arms_of(model, dataset, Options(second_observer=True))[SECOND]}
    no_prior = np.zeros((1, 960, 999), np.float32)
    samples = [dataset.load(case) for case in dataset.split("test")]
    rows = [score_case(subject(model, sample, no_prior), dataset, arms) for sample in samples]
    assert len(rows) == 8
    result = Evaluation(rows, (0,), {})
    assert result.values(SECOND, "dice").mean() == pytest.approx(0.798, abs=0.001)
