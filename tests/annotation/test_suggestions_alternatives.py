"""Alternatives: the modes of a set of samples, clearly different, most frequent first."""

import numpy as np
import pytest
from cases import message
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hidiff.annotation.suggestions import CLEAR, DISTINCT, alternatives, distances
from napari_hidiff.masks import mask_of, mean_dice

SIDE = 48


def soft(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A probability [1, H, W] around a mask, with noise that flips no pixel."""
    return (np.where(mask, 0.8, 0.2) + rng.uniform(-0.1, 0.1, mask.shape))[None].astype(np.float32)


@pytest.fixture
def modes() -> tuple[np.ndarray, ...]:
    """Three masks with little in common."""
    masks = np.zeros((3, SIDE, SIDE), bool)
    masks[0, 5:25, 5:25] = True
    masks[1, 15:45, 15:45] = True
    masks[2, :, 40:] = True
    return tuple(masks)


def test_three_modes_are_found_with_their_shares_and_means(modes):
    rng = np.random.default_rng(0)
    which = rng.permutation([0] * 3 + [1] * 8 + [2] * 5)
    each = np.stack([soft(modes[i], rng) for i in which])
    found = alternatives(each)
    assert [a.share for a in found] == [8 / 16, 5 / 16, 3 / 16]
    for alternative, mode in zip(found, (1, 2, 0), strict=True):
        np.testing.assert_array_equal(alternative.mask, modes[mode])
        mean = each[which == mode].mean(0)
        np.testing.assert_allclose(alternative.probability, mean, rtol=1e-6)
        assert alternative.mask.dtype == np.uint8
        assert alternative.probability.dtype == np.float32
        assert alternative.probability.shape == (1, SIDE, SIDE)


def test_a_count_joins_the_modes_that_are_closest(modes):
    rng = np.random.default_rng(0)
    close = modes[0].copy()
    close[5:8, 5:25] = False
    each = np.stack([soft(mask, rng) for mask in (modes[0], modes[1], close, modes[1], modes[1])])
    assert [a.share for a in alternatives(each, 2)] == [3 / 5, 2 / 5]
    assert [a.share for a in alternatives(each, 3)] == [3 / 5, 1 / 5, 1 / 5]
    assert [a.share for a in alternatives(each, 1)] == [1.0]


def test_several_classes(modes):
    rng = np.random.default_rng(0)

    def two(first, second):
        p = np.stack([~(first | second), first & ~second, second]) * 0.8 + 0.1
        return (p + rng.uniform(0, 0.05, p.shape)).astype(np.float32)

    small, other, column = modes
    # The same foreground under swapped labels is another mask.
    each = np.stack([two(small, column), two(column, small), two(small, column), two(other, small)])
    found = alternatives(each)
    assert [a.share for a in found] == [0.5, 0.25, 0.25]
    np.testing.assert_array_equal(found[0].mask, each[0].argmax(0))
    assert {a.mask.tobytes() for a in found} == {m.tobytes() for m in mask_of(each)}


def noisy(masks: np.ndarray) -> np.ndarray:
    """Samples of masks, each with one pixel in twenty flipped."""
    flips = np.random.default_rng(1).random(masks.shape) < 0.05
    return np.where(masks ^ flips, 0.9, 0.1)[:, None].astype(np.float32)


def test_noise_alone_gives_one_alternative_that_is_clear(modes):
    each = noisy(np.stack([modes[1]] * 16))
    assert distances(mask_of(each), 2)[0, 1] > DISTINCT  # each sample is another mask
    (only,) = alternatives(each, clear=CLEAR)
    assert only.share == 1
    np.testing.assert_array_equal(only.mask, modes[1])


def test_modes_are_found_among_noise(modes):
    which = np.random.default_rng(0).permutation([0] * 3 + [1] * 8 + [2] * 5)
    each = noisy(np.stack([modes[i] for i in which]))
    for clear in (0, CLEAR):
        found = alternatives(each, clear=clear)
        assert [a.share for a in found] == [8 / 16, 5 / 16, 3 / 16]
        for alternative, mode in zip(found, (1, 2, 0), strict=True):
            assert (alternative.mask != modes[mode]).mean() < 0.02


def test_masks_that_hardly_differ_are_one(modes):
    nearly = modes[1].copy()
    nearly[15, 15:20] = False
    each = np.stack([modes[1], nearly, modes[1], nearly])[:, None].astype(np.float32)
    assert 0 < distances(mask_of(each), 2)[0, 1] < DISTINCT
    assert [a.share for a in alternatives(each)] == [1.0]


def test_of_equally_frequent_ones_the_closer_to_the_mean_is_first(modes):
    near = modes[1] & ~modes[0]  # two alike, one apart: the mean is near the two
    each = np.stack([modes[2], modes[1], near])[:, None].astype(np.float32)
    found = alternatives(each)
    assert [a.share for a in found] == [1 / 3] * 3
    np.testing.assert_array_equal(found[-1].mask, modes[2])


def test_one_sample_and_empty_samples_give_one(modes):
    each = soft(modes[0], np.random.default_rng(0))[None]
    (only,) = alternatives(each)
    assert only.share == 1
    np.testing.assert_array_equal(only.mask, modes[0])
    np.testing.assert_array_equal(only.probability, each[0])
    (empty,) = alternatives(np.zeros((5, 1, 20, 30), np.float32))
    assert empty.share == 1
    assert not empty.mask.any()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 7),
    st.sampled_from([1, 3, 4]),
    st.integers(1, 4),
    st.sampled_from([0, CLEAR]),
)
def test_whatever_the_samples(seed, samples, classes, count, clear):
    rng = np.random.default_rng(seed)
    each = rng.random((samples, classes, 6, 7), dtype=np.float32) ** 2
    found = alternatives(each, count, clear)
    labels = max(2, classes)
    assert 1 <= len(found) <= count
    assert sum(a.share for a in found) == pytest.approx(1)
    assert [a.share for a in found] == sorted((a.share for a in found), reverse=True)
    masks = np.stack([a.mask for a in found])
    for alternative in found:
        np.testing.assert_array_equal(alternative.mask, mask_of(alternative.probability))
    for i, j in zip(*np.triu_indices(len(found), 1), strict=True):
        assert 1 - mean_dice(masks[i], masks[j], labels) >= DISTINCT - 1e-9
    mixed = sum(a.share * a.probability for a in found)
    np.testing.assert_allclose(mixed, each.mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("labels", [2, 3])
def test_distances_are_one_minus_the_mean_dice(labels):
    masks = np.random.default_rng(0).integers(0, labels, (5, 9, 11)).astype(np.uint8)
    masks[:, :3] = 1  # where all agree
    masks[3] = masks[4] = 0
    wanted = [[1 - mean_dice(a, b, labels) for b in masks] for a in masks]
    np.testing.assert_allclose(distances(masks, labels), wanted, atol=1e-12)


def test_what_is_no_set_of_samples_is_refused():
    assert "[S, K, H, W]" in message(alternatives, np.zeros((1, 8, 8), np.float32))
    assert "[S, K, H, W]" in message(alternatives, np.zeros((0, 1, 8, 8), np.float32))
    assert "at least 1" in message(alternatives, np.zeros((2, 1, 8, 8), np.float32), 0)
