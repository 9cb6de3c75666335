"""Thresholds: the search finds the best one, and a network with one makes its masks at 1/2."""

import numpy as np
import pytest
import torch

from napari_hidiff import load_model
from napari_hidiff.inference.card import card_rows
from napari_hidiff.masks import dice, mask_of
from napari_hidiff.networks.refiner import probabilities
from napari_hidiff.networks.segmentor import balanced
from napari_hidiff.training.validation import (
    TRIED,
    Threshold,
    best_threshold,
    mask_at,
    with_threshold,
)


def some(classes: int, seed: int = 0) -> np.ndarray:
    """Logits float32 [2, K, 20, 24]."""
    return np.random.default_rng(seed).normal(size=(2, classes, 20, 24)).astype(np.float32)


@pytest.mark.parametrize("classes", [1, 3])
def test_shifted_logits_have_their_mask_at_a_half(classes):
    logits = torch.from_numpy(some(classes))
    plain = probabilities(logits).numpy()
    np.testing.assert_array_equal(mask_at(plain, 0.5), mask_of(plain))
    assert balanced(logits, 0.5) is logits
    sizes = []
    for threshold in (0.2, 0.8):
        shifted = mask_of(probabilities(balanced(logits, threshold)).numpy())
        np.testing.assert_array_equal(shifted, mask_at(plain, threshold))
        sizes.append((shifted > 0).mean())
    assert sizes[0] > (mask_of(plain) > 0).mean() > sizes[1]


def test_the_best_threshold_is_that_of_a_search_by_hand():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(3):
        truth = np.zeros((1, 30, 30), np.uint8)
        truth[0, 8:20, 8:20] = 1
        probability = (0.25 + 0.5 * truth + rng.normal(0, 0.15, truth.shape)).clip(0, 1)[:, None]
        found.append((probability, truth))
    chosen = best_threshold(iter(found), 2)
    by_hand = {
        tried: np.mean([dice((p[:, 0] >= tried).astype(int), truth, 1) for p, truth in found])
        for tried in TRIED
    }
    assert chosen.dice == pytest.approx(max(by_hand.values()))
    assert by_hand[chosen.threshold] == max(by_hand.values())
    assert chosen.dice_at_half == pytest.approx(by_hand[0.5])


def test_of_equal_thresholds_the_one_nearest_a_half_is_taken():
    truth = np.zeros((1, 10, 10), np.uint8)
    truth[0, :5] = 1
    assert best_threshold([(np.where(truth, 0.7, 0.1)[:, None], truth)], 2).threshold == 0.5
    assert best_threshold([(np.where(truth, 0.9, 0.62)[:, None], truth)], 2).threshold == 0.65
    three = np.stack([1 - truth, truth, 0 * truth], 1) * 0.5 + 1 / 6
    assert best_threshold([(three, truth)], 3).threshold == 0.5


@pytest.mark.parametrize("engine", ["torch", "packed"])
@pytest.mark.parametrize("labels", [2, 3])
def test_a_card_with_thresholds_moves_the_masks(tiny, tmp_path, labels, engine):
    card = tiny(labels).card
    for part, threshold in (("segmentor", 0.3), ("refiner", 0.7)):
        card = with_threshold(card, part, Threshold(threshold, 0.9, 0.8))
    tiny(labels).save(tmp_path / "plain.safetensors")
    tiny(labels).with_card(**vars(card)).save(tmp_path / "moved.safetensors")
    plain, moved = (
        load_model(tmp_path / f"{name}.safetensors", device="cpu", engine=engine)
        for name in ("plain", "moved")
    )
    image = np.random.default_rng(0).integers(0, 255, (60, 70, 3)).astype(np.uint8)
    first = plain.prior(image)
    np.testing.assert_array_equal(moved.mask_of(moved.prior(image)), mask_at(first, 0.3))
    fixed = np.full(image.shape[:2], -1)
    fixed[5:20, 5:20], fixed[30:40, 30:40] = 1, 0
    one, other = (model.refine(image, first, fixed, sampler="one-step") for model in (plain, moved))
    np.testing.assert_array_equal(other.mask, mask_at(one.probability, 0.7))
    assert (other.mask != one.mask).any()
    np.testing.assert_array_equal(other.mask[fixed >= 0], fixed[fixed >= 0])
    rows = dict(card_rows(moved.card))
    assert "0.3 of the segmentor" in rows["Threshold"]
    assert "0.7 of the refiner" in rows["Threshold"]
    assert "Threshold" not in dict(card_rows(plain.card))
