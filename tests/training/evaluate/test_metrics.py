"""Scores against brute force and MONAI, their edge cases, the bootstrap and the fixed damage."""

import itertools

import layouts
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from napari_hidiff import surfaces
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate import metrics
from napari_hidiff.training.evaluate.damage import damage
from napari_hidiff.training.evaluate.metrics import paired_bootstrap


def blobs(seed, shape=(13, 17), share=0.3):
    rng = np.random.default_rng(seed)
    return rng.random(shape) < share, rng.random(shape) < share


def brute_surface(mask):
    """Pixels of the mask with a face neighbour outside the mask or the array."""
    points = []
    for index in map(tuple, np.argwhere(mask)):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = list(index)
            neighbour[axis] += step
            there = 0 <= neighbour[axis] < mask.shape[axis]
            if not there or not mask[tuple(neighbour)]:
                points.append(index)
                break
    return np.array(points, float)


def brute_distances(mask, truth, spacing):
    a, b = brute_surface(mask) * spacing, brute_surface(truth) * spacing
    apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return apart.min(axis=1), apart.min(axis=0)


def brute_hd95(mask, truth, spacing):
    return max(np.percentile(side, 95) for side in brute_distances(mask, truth, spacing))


def brute_nsd(mask, truth, tolerance, spacing):
    near = [side <= tolerance + 1e-6 for side in brute_distances(mask, truth, spacing)]
    return sum(side.sum() for side in near) / sum(side.size for side in near)


def brute_overlap(mask, truth):
    pairs = list(zip(mask.ravel().tolist(), truth.ravel().tolist(), strict=True))
    both, only, missed = (pairs.count(pair) for pair in [(1, 1), (1, 0), (0, 1)])
    return {
        "dice": 2 * both / (2 * both + only + missed),
        "iou": both / (both + only + missed),
        "recall": both / (both + missed),
        "accuracy": (both + pairs.count((0, 0))) / len(pairs),
    }


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0.02, 0.98),
    st.sampled_from([(13, 17), (1, 9), (5, 6, 7)]),
    st.sampled_from([0, 0.5, 1.0, 1.9]),
)
def test_scores_against_brute_force(seed, share, shape, tolerance):
    mask, truth = blobs(seed, shape, share)
    mask.flat[0] = truth.flat[-1] = True
    spacing = (0.5, 2.0, 1.25)[: len(shape)]
    scores = metrics.score(
        mask.astype(np.uint8), truth.astype(np.uint8), 2, spacing, tolerance=tolerance
    )
    assert list(scores.mean) == list(metrics.METRICS)
    for name, value in brute_overlap(mask, truth).items():
        assert scores.mean[name] == pytest.approx(value, abs=1e-12)
    assert scores.mean["hd95"] == pytest.approx(brute_hd95(mask, truth, spacing), abs=1e-9)
    expected = brute_nsd(mask, truth, tolerance, spacing)
    assert scores.mean["nsd"] == pytest.approx(expected, abs=1e-12)
    assert surfaces.nsd(truth, mask, tolerance, spacing) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("ignore:.*get_mask_edges")
@pytest.mark.parametrize("shape", [(24, 31), (9, 12, 11)])
@pytest.mark.parametrize("seed", range(3))
def test_surface_scores_are_monais(shape, seed):
    rng = np.random.default_rng(seed)
    spacing = [1.5, 0.7, 2.0][: len(shape)]
    mask, truth = np.zeros((2, *shape), bool)
    for array in (mask, truth):
        start = rng.integers(1, 4, len(shape))
        array[tuple(slice(s, -s) for s in start)] = True
        array &= rng.random(shape) < 0.95
    both = [torch.tensor(array)[None, None].float() for array in (mask, truth)]
    whole = {"include_background": True, "spacing": spacing}
    theirs = compute_hausdorff_distance(*both, percentile=95, **whole)
    assert surfaces.hd95(mask, truth, spacing) == pytest.approx(float(theirs), abs=1e-5)
    for tolerance in (0.0, 1.0, 1.6):
        theirs = compute_surface_dice(*both, [tolerance], **whole)
        assert surfaces.nsd(mask, truth, tolerance, spacing) == pytest.approx(float(theirs))


def test_nsd_of_known_surfaces():
    """Two lines or planes: within their distance all is met, below it nothing."""
    truth, mask = np.zeros((2, 12, 8), bool)
    truth[2], mask[5] = True, True
    spacing = (0.7, 1.0)  # 3 * 0.7 is not exactly 2.1
    assert surfaces.nsd(mask, truth, 2.1, spacing) == 1
    assert surfaces.nsd(mask, truth, 2.0, spacing) == 0
    mask[2, :4] = True  # 4 of the truth's 8 and 4 of the mask's 12 pixels lie on the other
    assert surfaces.nsd(mask, truth, 0, spacing) == 8 / 20
    plane = np.zeros((5, 6, 7), bool)
    plane[2] = True
    moved = np.roll(plane, 1, 0)
    assert surfaces.nsd(moved, plane, 2.5, (2.5, 1, 1)) == 1
    assert surfaces.nsd(moved, plane, 1, (2.5, 1, 1)) == 0


def test_regions_are_unions_and_their_mean_is_the_score():
    rng = np.random.default_rng(4)
    truth, mask = rng.integers(0, 4, (2, 6, 9, 8)).astype(np.uint8)
    regions = {"whole": (1, 2, 3), "core": (1, 3), "enhancing": (3,)}
    scores = metrics.score(mask, truth, 4, (2.0, 1.0, 0.5), None, 0.5, regions)
    assert list(scores.per_region) == list(regions)
    assert list(scores.per_class) == [1, 2, 3]
    for name, union in regions.items():
        flat_mask, flat_truth = (np.isin(array, union).astype(np.uint8) for array in (mask, truth))
        alone = metrics.score(flat_mask, flat_truth, 2, (2.0, 1.0, 0.5), None, 0.5)
        assert scores.per_region[name] == alone.per_class[1]
    assert scores.per_region["enhancing"] == scores.per_class[3]
    for name in set(metrics.METRICS) - {"accuracy"}:
        expected = np.mean([row[name] for row in scores.per_region.values()])
        assert scores.mean[name] == pytest.approx(expected)
    assert scores.mean["accuracy"] == (mask == truth).mean()
    only = np.where(mask == 2, 2, 0)
    assert metrics.score(only, truth, 4, regions=regions).empty == 2  # core and enhancing
    assert metrics.score(only, truth, 4).empty == 2  # classes 1 and 3
    assert metrics.empty(only, 4, mask != 2, regions) == 3


def test_perfect_and_disjoint_masks():
    truth = np.zeros((8, 9), np.uint8)
    truth[2:4, 2:4] = 1
    same = metrics.score(truth, truth).mean
    assert same == {"dice": 1, "iou": 1, "recall": 1, "accuracy": 1, "hd95": 0, "nsd": 1}
    apart = metrics.score(np.roll(truth, 4, axis=1), truth, spacing=(1, 3)).mean
    assert apart == {"dice": 0, "iou": 0, "recall": 0, "accuracy": 1 - 8 / 72, "hd95": 12, "nsd": 0}


def test_empty_masks_are_scored_and_counted():
    some, none = np.zeros((2, 6, 8), np.uint8)
    some[1, 1] = 1
    both = metrics.score(none, none)
    assert both.mean == {"dice": 1, "iou": 1, "recall": 1, "accuracy": 1, "hd95": 0, "nsd": 1}
    missed = metrics.score(none, some, spacing=(1, 1))
    assert {missed.mean[name] for name in ("dice", "iou", "recall", "nsd")} == {0}
    assert missed.mean["hd95"] == 10  # the diagonal of 6 x 8
    invented = metrics.score(some, none, spacing=(0.5, 0.5))
    assert invented.mean["dice"] == invented.mean["nsd"] == 0
    assert invented.mean["recall"] == 1
    assert invented.mean["hd95"] == 5
    assert (both.empty, missed.empty, invented.empty) == (1, 1, 0)


def test_several_classes_are_averaged_over_the_foreground():
    truth = np.array([[0, 1, 1, 2], [0, 1, 1, 2]], np.uint8)
    mask = np.array([[0, 1, 1, 1], [0, 1, 1, 1]], np.uint8)
    scores = metrics.score(mask, truth, labels=3)
    assert scores.per_class[1]["dice"] == pytest.approx(0.8)
    assert scores.per_class[2]["dice"] == 0
    assert scores.mean["dice"] == pytest.approx(0.4)
    assert scores.mean["accuracy"] == 0.75  # the right label, not the mean over classes
    assert scores.empty == 1


def test_only_the_field_of_view_counts():
    truth, mask = np.zeros((2, 10, 10), np.uint8)
    truth[2:5, 2:5] = mask[2:5, 2:5] = 1
    mask[8, 8] = 1
    inside = np.zeros((10, 10), bool)
    inside[:7, :7] = True
    outside = metrics.score(mask, truth)
    scores = metrics.score(mask, truth, field_of_view=inside)
    assert outside.mean["dice"] < 1
    assert scores.mean == {"dice": 1, "iou": 1, "recall": 1, "accuracy": 1, "hd95": 0, "nsd": 1}
    half = metrics.score(np.zeros_like(mask), truth, field_of_view=np.eye(10, dtype=bool))
    assert half.mean["accuracy"] == 0.7


@pytest.mark.parametrize("which", ["truth", "field_of_view"])
def test_other_shapes_are_refused(which):
    wrong = {"truth": np.zeros((3, 4), np.uint8), "field_of_view": np.ones((3, 3), bool)}
    wrong[which] = np.ones((4, 4), wrong[which].dtype)
    with pytest.raises(ValueError, match="shape"):
        metrics.score(np.zeros((3, 4), np.uint8), **wrong)


def test_bootstrap_is_paired_and_repeatable():
    rng = np.random.default_rng(0)
    difference = rng.normal(0.02, 0.05, 30)
    interval = paired_bootstrap(difference, seed=3)
    assert interval == paired_bootstrap(difference, seed=3)
    assert interval.mean == pytest.approx(difference.mean())
    assert interval.low < interval.mean < interval.high
    # For a mean of 30 values the percentile interval is close to the normal one.
    error = difference.std() / np.sqrt(30)
    assert interval.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.2 * error)


def test_bootstrap_s_ends_are_percentiles_of_the_means_of_resamples():
    """Of two values a mean is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4; of four 0 with 1/256."""
    assert paired_bootstrap([0, 1]) == (0.5, 0, 1)
    four = paired_bootstrap([0, 0, 0, 1])
    assert four == (0.25, 0, 0.75)  # 1 has a chance of 1/256, less than 2.5 %
    values = np.arange(5.0) ** 2
    drawn = np.random.default_rng(7).integers(0, 5, (300, 5))
    means = sorted(float(values[row].mean()) for row in drawn)
    found = paired_bootstrap(values, seed=7, resamples=300)
    # 2.5 % of the way along the 299 gaps is 7.475 of them, linearly.
    assert found.low == pytest.approx(means[7] + 0.475 * (means[8] - means[7]))
    assert found.high == pytest.approx(means[291] + 0.525 * (means[292] - means[291]))
    many = np.random.default_rng(0).normal(0, 1, 30)
    assert paired_bootstrap(many) == paired_bootstrap(many, seed=0, resamples=10_000)


def test_bootstrap_covers_the_true_mean():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        low, high = paired_bootstrap(rng.normal(1, 1, 40), seed=trial, resamples=1000)[1:]
        hits += low <= 1 <= high
    assert 0.88 <= hits / 200 <= 0.98


def test_bootstrap_of_one_image_claims_no_interval():
    interval = paired_bootstrap([0.25])
    assert interval.mean == 0.25
    assert np.isnan([interval.low, interval.high]).all()


@pytest.mark.parametrize("values", [[], [np.nan, 1.0], [[1.0, 2.0]]])
def test_bootstrap_refuses_what_has_no_mean(values):
    with pytest.raises(ValueError, match="finite"):
        paired_bootstrap(values)


def soft(mask):
    return np.where(mask, 0.9, 0.05).astype(np.float32)[None]


def test_damage_repeats_and_leaves_its_input():
    _, vessels = vessel_pictures()[0]
    prior = soft(vessels)
    before = prior.copy()
    first = damage(prior)
    assert np.array_equal(prior, before)
    assert np.array_equal(first, damage(prior, seed=0))
    assert not np.array_equal(first, damage(prior, seed=1))
    assert first.dtype == np.float32
    assert first.shape == prior.shape
    assert ((first >= 0) & (first <= 1)).all()


def test_damage_takes_away_and_adds():
    _, vessels = vessel_pictures()[0]
    after = damage(soft(vessels))[0] >= 0.5
    assert (vessels & ~after).sum() > 0.03 * vessels.sum()
    assert (after & ~vessels).sum() > 0.01 * vessels.sum()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (1, 1, 50), (3, 48, 64), (9, 40, 33)])
@pytest.mark.parametrize("seed", [0, 1])
def test_damage_of_any_size_stays_a_probability(shape, seed):
    rng = np.random.default_rng(seed)
    prior = rng.random(shape, np.float32)
    if shape[0] > 1:
        prior /= prior.sum(axis=0)
    result = damage(prior, seed)
    assert result.shape == shape
    assert ((result >= 0) & (result <= 1)).all()
    if shape[0] > 1:
        assert np.abs(result.sum(axis=0) - 1).max() < 1e-5
        assert (result.argmax(axis=0) != prior.argmax(axis=0)).any()


def test_damage_of_an_empty_prior_invents_nothing():
    assert (damage(np.zeros((1, 30, 30), np.float32)) == 0).all()


def vessel_pictures():
    return [layouts.fundus(seed, 240, 256)[:2] for seed in range(3)]


def lost_by_damage(vessels):
    return 1 - metrics.dice(damage(soft(vessels))[0] >= 0.5, vessels)


def test_damage_costs_enough_to_be_worth_repairing():
    for _, vessels in vessel_pictures():
        assert 0.05 < lost_by_damage(vessels) < 0.4


def test_damage_on_real_vessels(real_data):
    """From the second observer's masks as priors, over the 8 test images."""
    dataset = open_dataset("chase", real_data("CHASEDB1"))
    lost = []
    for case in dataset.split("test"):
        sample = dataset.load(case)
        truth, second = sample.mask == 1, dataset.load_second(sample) == 1
        after = damage(soft(second))[0] >= 0.5
        lost.append(metrics.dice(second, truth) - metrics.dice(after, truth))
    assert all(0.05 < value < 0.15 for value in lost)
    assert np.mean(lost) == pytest.approx(0.097, abs=0.001)
