"""The generative studies: every figure against a slow or hand-made answer, and real runs."""

import json
import math
from dataclasses import dataclass
from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from cases import message
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import write_chase, write_drive
from PIL import Image
from rich.console import Console
from volume_layouts import write_msd

from napari_hidiff import volumes
from napari_hidiff.places import Place, radius
from napari_hidiff.probability import entropy
from napari_hidiff.scores import dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.generative import alternatives, uncertainty
from napari_hidiff.training.evaluate.generative.measures import (
    at_level,
    auroc,
    centreline_dice,
    component_error,
    diversity,
    energy_distance,
    found,
    overlap_distance,
)
from napari_hidiff.training.evaluate.generative.study import differences, mean
from napari_hidiff.training.evaluate.generative.tables import as_text, print_best
from napari_hidiff.training.evaluate.generative.uncertainty import (
    combine,
    maps_of,
    mutual_information,
)
from napari_hidiff.training.evaluate.generative.views import SAMPLES, last_step, views_of
from napari_hidiff.training.evaluate.report import plain
from napari_hidiff.training.evaluate.slices import foreground_slices


@dataclass(frozen=True)
class Options:
    seeds: tuple[int, ...] = (0,)
    slices: int = 2


def masks(*rows: str) -> list[np.ndarray]:
    """Masks [1, W] from digits."""
    return [np.array([[int(digit) for digit in row]], np.uint8) for row in rows]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=25))
def test_auroc_counts_pairs(pixels):
    score = np.array([s for s, _ in pixels], np.float32)
    positive = np.array([p for _, p in pixels])
    pairs = [(a > b) + 0.5 * (a == b) for a, b in product(score[positive], score[~positive])]
    if pairs:
        assert auroc(score, positive) == pytest.approx(np.mean(pairs))
    else:
        assert math.isnan(auroc(score, positive))


def test_a_level_of_one_class_is_a_threshold():
    p = np.random.default_rng(0).random((1, 8, 9)).astype(np.float32)
    for level in (0.1, 0.5, 0.8):
        np.testing.assert_array_equal(at_level(p, level), p[0] >= level)


def test_a_level_of_several_classes_is_the_same_rule():
    rng = np.random.default_rng(0)
    p = rng.dirichlet((1, 1, 1), (8, 9)).transpose(2, 0, 1)
    np.testing.assert_array_equal(at_level(p, 0.5), p.argmax(0))
    sizes = [int((at_level(p, level) > 0).sum()) for level in (0.01, 0.2, 0.5, 0.8, 0.99)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2] > sizes[4]
    one = rng.random((1, 8, 9))
    for level in (0.3, 0.7):
        both = np.concatenate([1 - one, one])
        np.testing.assert_array_equal(at_level(both, level), at_level(one, level))


def test_energy_distance_by_hand():
    one, half, other = masks("1100", "1000", "0011")
    # d: one-half 1/2, one-other 1, half-other 1
    assert energy_distance([one], [one], 2) == 0
    assert energy_distance([one], [half], 2) == pytest.approx(2 * 0.5)
    assert energy_distance([one, other], [one, other], 2) == pytest.approx(0)
    across, within = (0 + 0.5 + 1 + 1) / 4, 2 * 1 / 4
    wanted = 2 * across - within - 2 * 0.5 / 4
    assert energy_distance([one, other], [one, half], 2) == pytest.approx(wanted)
    assert energy_distance([one], [one, other], 2) == pytest.approx(2 * 0.5 - 0.5)


def test_distances_of_classes_are_averaged_and_empty_ones_are_equal():
    first, second = masks("1120", "1020")
    assert overlap_distance(first, second, 3) == pytest.approx((1 / 2 + 0) / 2)
    assert overlap_distance(first, second, 4) == pytest.approx((1 / 2 + 0 + 0) / 3)


def test_energy_distance_is_never_negative_and_prefers_the_right_spread():
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 3, (30, 4, 5, 6)).astype(np.uint8)
    for samples, observers in zip(sets[::2], sets[1::2], strict=True):
        assert energy_distance(list(samples), list(observers[:2]), 3) >= -1e-12
    one, other = masks("1100", "0011")
    assert energy_distance([one, other], [one, other], 2) < energy_distance([one], [one, other], 2)


def test_diversity_is_the_mean_over_pairs():
    drawn = np.random.default_rng(0).integers(0, 2, (5, 7, 8)).astype(np.uint8)
    pairs = [1 - dice(drawn[i], drawn[j]) for i in range(5) for j in range(i)]
    assert diversity(drawn, 2) == pytest.approx(np.mean(pairs))
    assert diversity(drawn[[0, 0, 0]], 2) == 0
    assert diversity(drawn[:1], 2) == 0


@pytest.fixture
def line() -> np.ndarray:
    """A straight vessel, three pixels wide."""
    mask = np.zeros((21, 60), np.uint8)
    mask[9:12, 5:55] = 1
    return mask


def test_centreline_dice_of_a_whole_and_a_broken_line(line):
    assert centreline_dice(line, line) == 1
    thin = line.copy()
    thin[9] = thin[11] = 0
    assert dice(thin, line) == pytest.approx(0.5)
    assert centreline_dice(thin, line) == pytest.approx(1, abs=0.03)  # only the width differs
    broken = line.copy()
    broken[:, 25:35] = 0
    # All of the broken skeleton is right, a fifth of the true one is missed.
    assert centreline_dice(broken, line) == pytest.approx(2 * 0.8 / 1.8, abs=0.01)
    assert centreline_dice(np.roll(line, 8, 0), line) == 0
    labelled = line.copy()
    labelled[:, 30:] *= 2
    swapped = np.where(labelled == 2, 0, labelled).astype(np.uint8)
    assert centreline_dice(swapped, labelled, 3) == pytest.approx(0.5)  # class 1 right, 2 missing


def test_centreline_dice_of_empty_masks(line):
    nothing = np.zeros_like(line)
    assert centreline_dice(nothing, nothing) == 1
    assert centreline_dice(nothing, line) == centreline_dice(line, nothing) == 0


def test_components_too_many_or_too_few(line):
    broken = line.copy()
    broken[:, 20:22] = broken[:, 40:42] = 0
    assert component_error(broken, line) == 2
    assert component_error(line, broken) == 2
    assert component_error(broken, broken) == 0
    diagonal = np.eye(6, dtype=np.uint8)
    assert component_error(diagonal, np.zeros_like(diagonal)) == 1  # corners connect
    assert component_error(diagonal, np.zeros_like(diagonal), 3) == 0.5


def test_errors_found_by_visits():
    errors = np.zeros((32, 48), bool)  # one look reaches 2 pixels
    errors[10, 10:20] = True
    assert radius(errors.shape) == 2
    places = [Place(10, 10, 1.0), Place(30, 40, 0.9), Place(10, 12, 0.8)]
    assert found(errors, places, 5) == pytest.approx([0.3, 0.3, 0.5, 0.5, 0.5])
    assert found(errors, [], 3) == [0, 0, 0]


def test_mutual_information_is_what_samples_disagree_about():
    sure = np.zeros((2, 1, 1, 3), np.float32)
    sure[0, 0, 0] = (1, 1, 0.5)
    sure[1, 0, 0] = (0, 1, 0.5)
    np.testing.assert_allclose(mutual_information(sure), [[np.log(2), 0, 0]], atol=1e-4)
    each = np.random.default_rng(0).dirichlet((1, 1, 1), (4, 5, 6)).transpose(0, 3, 1, 2)
    both = each.mean(0)
    joint = [[np.sum(p * np.log(p / both)) for p in [each]]]  # KL to the mean, by hand
    assert mutual_information(each).mean() == pytest.approx(joint[0][0] / (4 * 30), rel=1e-3)


def test_combinations_lie_between_their_parts():
    first, second = np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
    combined = combine(first, second)
    assert set(combined) == {"mean", "max", "product"}
    np.testing.assert_allclose(combined["mean"], (first + second) / 2)
    np.testing.assert_array_equal(combined["max"], np.maximum(first, second))
    np.testing.assert_allclose(combined["product"] ** 2, first * second, rtol=1e-5)
    for one in combined.values():
        assert (one >= np.minimum(first, second) - 1e-6).all()
        assert (one <= np.maximum(first, second) + 1e-6).all()


def test_maps_are_those_of_their_probabilities():
    rng = np.random.default_rng(0)
    prior, once = rng.random((2, 1, 5, 6)).astype(np.float32)
    each = rng.random((3, 1, 5, 6)).astype(np.float32)
    maps = maps_of(prior, once, each)
    assert len(maps) == 10
    np.testing.assert_array_equal(maps["segmentor"], entropy(prior))
    np.testing.assert_array_equal(maps["one-step"], entropy(once))
    np.testing.assert_allclose(maps["samples"], entropy(each.mean(0)), rtol=1e-5)
    wanted = np.maximum(entropy(prior), entropy(once))
    np.testing.assert_array_equal(maps["max of segmentor and one-step"], wanted)


def test_means_leave_out_what_is_unknown():
    trees = [
        {"a": 1.0, "b": [1.0, None], "c": {"d": None}},
        {"a": 3.0, "b": [2.0, None], "c": {"d": None}},
        {"a": None, "b": [math.nan, 4.0], "c": {"d": None}},
    ]
    assert mean(trees) == {"a": 2.0, "b": [1.5, 4.0], "c": {"d": None}}


def test_differences_are_paired_over_the_cases_that_have_both():
    rows = {"x": (0.9, 0.5), "y": (0.8, 0.6), "z": (None, 0.1)}
    figures = {name: {"f": {"m": {"a": a, "b": b, "c": None}}} for name, (a, b) in rows.items()}
    got = differences(figures, ("f", "m"), [("a", "b"), ("b", "a"), ("a", "c")])
    assert got["a - b"] == {"mean": 0.3, "low": 0.2, "high": 0.4, "n": 2}
    assert got["b - a"] == {"mean": -0.3, "low": -0.4, "high": -0.2, "n": 2}
    assert got["a - c"] is None
    single = differences({"x": figures["x"]}, ("f", "m"), [("a", "b")])
    assert single["a - b"] == {"mean": 0.4, "low": None, "high": None, "n": 1}
    assert as_text(got["b - a"]) == "-0.3000 [-0.4000, -0.2000]"
    assert as_text(single["a - b"]) == "+0.4000"
    assert as_text(got["a - c"]) == "-"


def test_the_best_is_shown_ahead_whichever_way_the_pair_is_kept():
    console = Console(file=StringIO(), width=100)
    pairs = {"a - b": {"mean": -0.2, "low": -0.3, "high": -0.1, "n": 4}}
    print_best("title", {"a": 0.5, "b": 0.7, "c": None}, pairs, console)
    text = console.file.getvalue()
    assert "b - a" in text
    assert "+0.2000 [+0.1000, +0.3000]" in text


def test_json_holds_no_nan():
    assert plain({"a": [math.nan, 0.12345678], "b": -0.0, "c": 3}) == {
        "a": [None, 0.123457],
        "b": 0.0,
        "c": 3,
    }


@pytest.fixture(scope="module")
def chase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chase(tmp_path_factory.mktemp("data") / "CHASEDB1", 9, 40, 44)


def test_slices_are_the_middles_of_equal_parts_of_the_foreground():
    mask = np.zeros((12, 4, 4), np.uint8)
    mask[2:11, 1, 1] = 1
    assert foreground_slices(mask, 1) == [6]
    assert foreground_slices(mask, 3) == [3, 6, 9]
    assert foreground_slices(mask, 100) == list(range(2, 11))
    mask[5] = 0
    assert 5 not in foreground_slices(mask, 100)
    assert foreground_slices(np.zeros_like(mask), 3) == []


def test_views_of_a_picture_have_both_observers(chase, tiny):
    dataset = open_dataset("chase", chase)
    (view,) = views_of(tiny(), dataset, dataset.split("val")[0], 3)
    sample = dataset.load(dataset.split("val")[0])
    np.testing.assert_array_equal(view.truth, sample.mask)
    np.testing.assert_array_equal(view.observers[1], dataset.load_second(sample))
    assert view.inside.all()
    # The model sees what it would see of the raw image.
    np.testing.assert_array_equal(
        tiny().prior(view.image, normalised=True), tiny().prior(sample.image)
    )


def test_what_lies_outside_the_field_of_view_does_not_count(tmp_path, tiny):
    dataset = open_dataset("drive", write_drive(tmp_path / "DRIVE"))
    case = next(case for case in dataset.split("test") if case.second is not None)
    (view,) = views_of(tiny(), dataset, case, 1)
    assert not view.inside.all()
    assert not any(mask[~view.inside].any() for mask in view.observers)
    everywhere = np.ones_like(view.truth)
    np.testing.assert_array_equal(view.cut(everywhere), view.inside)


def test_views_of_a_volume_are_slices_normalised_together(tmp_path, tiny):
    dataset = open_dataset("msd", write_msd(tmp_path / "Task01_Thing"))
    model = tiny(len(dataset.classes), 1)
    case = dataset.split("train")[0]
    views = views_of(model, dataset, case, 2)
    sample = dataset.load(case)
    planes = volumes.normalise(model, sample.image)
    chosen = foreground_slices(sample.mask, 2)
    assert len(views) == len(chosen) == 2
    for view, index in zip(views, chosen, strict=True):
        np.testing.assert_array_equal(view.image, planes[index])
        np.testing.assert_array_equal(view.truth, sample.mask[index])
        assert view.truth.any()


@pytest.fixture(scope="module")
def told(chase, tiny):
    """CHASE with one validation truth that is exactly the model's own first mask."""
    dataset, model = open_dataset("chase", chase), tiny()
    case = dataset.split("val")[0]
    view = views_of(model, dataset, case, 1)[0]
    mine = model.mask_of(model.prior(view.image, normalised=True))
    assert 0 < mine.mean() < 1
    Image.fromarray(mine.astype(bool)).save(case.mask)
    return dataset, model


@pytest.fixture
def forwards(tiny):
    """How often the networks of the tiny model really ran, as a list that grows."""
    seen = []
    model = tiny()
    hooks = [
        module.register_forward_pre_hook(lambda *_: seen.append(1))
        for module in (model.segmentor, model.refiner)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def shown(study, content) -> str:
    console = Console(file=StringIO(), width=140)
    study.print_table(content, console)
    return console.file.getvalue()


def test_alternatives_run(told, tmp_path, forwards):
    dataset, model = told
    cases = dataset.split("val")[:2]
    met = []
    content = alternatives.run(
        model, dataset, cases, Options(), tmp_path, lambda done, case: met.append((done, case.id))
    )
    assert met == [(0, cases[0].id), (1, cases[1].id)]
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    row = content["cases"][cases[0].id]
    assert row["dice"]["prior"] == 1  # its truth is the model's own first mask
    assert row["cldice"]["prior"] == 1
    assert row["components"]["prior"] == 0

    view = views_of(model, dataset, cases[1], 1)[0]
    once = last_step(model, view, "one-step").probability
    each = last_step(model, view, "ddim").each
    assert len(each) == SAMPLES
    row = content["cases"][cases[1].id]
    assert row["dice"]["one-step"] == pytest.approx(dice(once[0] >= 0.5, view.truth), abs=1e-6)
    assert row["dice"]["ddim mean"] == pytest.approx(
        dice(each.mean(0)[0] >= 0.5, view.truth), abs=1e-6
    )
    levels = [dice(once[0] >= level, view.truth) for level in (0.3, 0.5, 0.7)]
    assert row["dice"]["levels best of 3"] == pytest.approx(max(levels), abs=1e-6)
    drawn = list((each[:, 0] >= 0.5).astype(np.uint8))
    assert row["ged"]["ddim"] == pytest.approx(energy_distance(drawn, view.observers, 2), abs=1e-6)
    assert row["observers"] == pytest.approx(overlap_distance(*view.observers, 2), abs=1e-6)
    assert 1 <= row["found"]["ddim best of clear"] <= row["found"]["ddim best of 3"] <= 3
    assert content["pictures"] == ["alternatives.png"]
    pair = content["differences"]["ged"]["ddim - one-step"]
    ged = [case["ged"] for case in content["cases"].values()]
    assert pair["mean"] == pytest.approx(
        np.mean([g["ddim"] - g["one-step"] for g in ged]), abs=2e-6
    )
    assert "ddim best of 3 - levels best of 3" in shown(alternatives, content)
    with Image.open(tmp_path / "alternatives.png") as picture:
        assert picture.format == "PNG"

    forwards.clear()
    assert alternatives.run(model, dataset, cases, Options(), tmp_path) == content
    assert not forwards


def test_uncertainty_run_resumes_and_mends(told, tmp_path, forwards):
    dataset, model = told
    cases = dataset.split("val")[:2]
    uncertainty.run(model, dataset, cases[:1], Options(), tmp_path)
    forwards.clear()
    content = uncertainty.run(model, dataset, cases, Options(), tmp_path)
    once = len(forwards)
    perfect, row = (content["cases"][case.id] for case in cases)
    assert set(perfect["auroc"]["prior"].values()) == {None}  # no error to find
    assert set(perfect["area"]["prior"].values()) == {None}
    assert content["differences"]["auroc"]["prior"]["segmentor - samples"]["n"] == 1
    assert content["differences"]["auroc"]["one-step"]["segmentor - samples"]["n"] == 2

    view = views_of(model, dataset, cases[1], 1)[0]
    prior = model.prior(view.image, normalised=True)
    wanted = auroc(entropy(prior).ravel(), (model.mask_of(prior) != view.truth).ravel())
    assert row["auroc"]["prior"]["segmentor"] == pytest.approx(wanted, abs=1e-6)
    for mask in ("prior", "one-step"):
        for name, curve in row["found"][mask].items():
            assert len(curve) == uncertainty.VISITS
            assert curve == sorted(curve)
            assert row["area"][mask][name] == pytest.approx(np.mean(curve), abs=2e-6)
        assert row["area"][mask]["ideal"] >= max(
            share for name, share in row["area"][mask].items() if name != "ideal"
        )
    text = shown(uncertainty, content)
    assert "mutual information" in text
    assert "AUROC of the errors of the one-step mask" in text
    with Image.open(tmp_path / "uncertainty.png") as picture:
        assert picture.format == "PNG"

    first, second = sorted(tmp_path.glob("uncertainty-*.json"))
    second.write_text(second.read_text()[:-20])  # torn
    (tmp_path / "uncertainty-other.json").write_text("{}")
    forwards.clear()
    assert uncertainty.run(model, dataset, cases, Options(), tmp_path) == content
    assert 0 < len(forwards) <= once + 2
    assert json.loads(second.read_text())["record"]["figures"] == row

    kept = json.loads(first.read_text())
    first.write_text(json.dumps(kept | {"key": "of another model"}))
    forwards.clear()
    assert uncertainty.run(model, dataset, cases, Options(), tmp_path) == content
    assert forwards


def test_uncertainty_of_volumes_pools_slices(tmp_path, tiny):
    dataset = open_dataset("msd", write_msd(tmp_path / "Task01_Thing"))
    model = tiny(len(dataset.classes), 1)
    case = dataset.split("train")[0]
    content = uncertainty.run(model, dataset, [case], Options(), tmp_path / "state")
    views = views_of(model, dataset, case, 2)
    priors = [model.prior(view.image, normalised=True) for view in views]
    scores = np.concatenate([entropy(p).ravel() for p in priors])
    wrong = np.concatenate(
        [(p.argmax(0) != v.truth).ravel() for p, v in zip(priors, views, strict=True)]
    )
    assert content["cases"][case.id]["auroc"]["prior"]["segmentor"] == pytest.approx(
        auroc(scores, wrong), abs=1e-6
    )
    assert "-" in shown(uncertainty, content)


def test_settings_that_cannot_be_are_one_line(chase, tiny, tmp_path):
    dataset = open_dataset("chase", chase)
    cases = dataset.split("val")[:1]
    for study in (alternatives, uncertainty):
        assert "slices" in message(
            study.run, tiny(), dataset, cases, Options(slices=0), tmp_path / "state"
        )
        assert "seed" in message(study.run, tiny(), dataset, cases, Options(()), tmp_path)
        assert "no case" in message(study.run, tiny(), dataset, [], Options(), tmp_path)
        assert "classes" in message(study.run, tiny(3), dataset, cases, Options(), tmp_path)
    assert not list(tmp_path.iterdir())
