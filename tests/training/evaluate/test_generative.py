"""The figures of the generative studies, each against a slow or hand-made answer."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hidiff.annotation.suggestions import Place, look_radius
from napari_hidiff.masks import dice, entropy
from napari_hidiff.training.evaluate.generative.figures import (
    at_level,
    auroc,
    centreline_dice,
    component_error,
    differences,
    diversity,
    energy_distance,
    errors_found,
    mean,
    overlap_distance,
)
from napari_hidiff.training.evaluate.generative.uncertainty import (
    combine,
    lead,
    maps_of,
    mutual_information,
)
from napari_hidiff.training.evaluate.output import interval, plain


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
    assert look_radius(errors.shape) == 2
    places = [Place(10, 10, 1.0), Place(30, 40, 0.9), Place(10, 12, 0.8)]
    assert errors_found(errors, places, 5) == pytest.approx([0.3, 0.3, 0.5, 0.5, 0.5])
    assert errors_found(errors, [], 3) == [0, 0, 0]


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
    assert interval(got["b - a"]) == "-0.3000 [-0.4000, -0.2000]"
    assert interval(single["a - b"]) == "+0.4000"
    assert interval(got["a - c"], "-") == "-"


def test_the_best_is_shown_ahead_whichever_way_the_pair_is_kept():
    pairs = {
        "a - b": {"mean": -0.2, "low": -0.3, "high": -0.1, "n": 4},
        "b - c": {"mean": 0.1, "low": None, "high": None, "n": 1},
        "b - d": None,
    }
    ahead = lead({"a": 0.5, "b": 0.7, "c": 0.6, "d": 0.1}, pairs)
    assert interval(ahead["b - a"]) == "+0.2000 [+0.1000, +0.3000]"
    assert interval(ahead["b - c"]) == "+0.1000"
    assert ahead["b - d"] is None
    turned = lead({"a": 0.5, "d": 0.7}, {"a - d": None})
    assert turned == {"d - a": None}


def test_json_holds_no_nan():
    assert plain({"a": [math.nan, 0.12345678], "b": -0.0, "c": 3}) == {
        "a": [None, 0.123457],
        "b": 0.0,
        "c": 3,
    }
