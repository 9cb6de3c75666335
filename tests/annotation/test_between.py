"""Slices between two known ones: interpolated shapes, refined with them as priors."""

import numpy as np

from napari_hidiff import load_model
from napari_hidiff.annotation.between import fill_slices, interpolated
from napari_hidiff.inference.card import Sampling
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import dice

ROWS, COLUMNS = np.mgrid[:60, :80]


def disc(row: float, column: float, radius: float, label: int = 1) -> np.ndarray:
    inside = (ROWS - row) ** 2 + (COLUMNS - column) ** 2 < radius**2
    return label * inside.astype(np.uint8)


def test_a_shape_grows_from_one_slice_to_the_other():
    small, large = disc(30, 40, 6), disc(30, 40, 18)
    between = list(interpolated(small, large, 3))
    for mask, radius in zip(between, (9, 12, 15), strict=True):
        assert mask.dtype == np.uint8
        assert dice(mask, disc(30, 40, radius)) > 0.97
    for mask in interpolated(large, large, 2):
        np.testing.assert_array_equal(mask, large)
    for forth, back in zip(between, reversed([*interpolated(large, small, 3)]), strict=True):
        np.testing.assert_array_equal(forth, back)


def test_labels_stay_apart_and_one_that_is_missing_ends_halfway():
    first = np.maximum(disc(20, 20, 10), disc(40, 55, 12, label=2))
    last = disc(20, 24, 10)
    near, middle, far = interpolated(first, last, 3)
    for mask in (near, middle, far):
        assert set(np.unique(mask)) <= {0, 1, 2}
        assert dice(mask == 1, disc(20, 22, 10)) > 0.85
    assert 0 < (near == 2).sum() < (first == 2).sum()
    assert not (middle == 2).any()
    assert not (far == 2).any()
    assert not any(mask.any() for mask in interpolated(np.zeros_like(first), 0 * first, 2))


def test_every_slice_between_is_refined_from_its_interpolated_mask(tiny):
    model = tiny(2, 1)
    volume = np.random.default_rng(0).normal(0, 1, (7, 60, 80)).astype(np.float32)
    stack = Stack([volume], "none")
    masks = {0: disc(30, 30, 8), 3: disc(30, 40, 12), 4: disc(30, 40, 12), 6: disc(30, 50, 6)}
    known = [((at, -1, -1), mask) for at, mask in masks.items()]
    fixed = {(2, -1, -1): np.where(disc(5, 5, 3) > 0, 1, -1)}
    found = list(fill_slices(model, stack, 0, known, fixed, Sampling("one-step", 1, 1)))
    assert [result.at[0] for result in found] == [1, 2, 5]
    priors = [*interpolated(masks[0], masks[3], 2), *interpolated(masks[4], masks[6], 1)]
    for result, prior in zip(found, priors, strict=True):
        np.testing.assert_array_equal(result.given, prior)
        plane = stack.normalised(model, result.at)
        strokes = fixed.get(result.at)
        alone = model.refine(plane, prior, strokes, sampler="one-step", normalised=True)
        np.testing.assert_array_equal(result.mask, alone.mask)
    assert (found[1].mask[fixed[2, -1, -1] == 1] == 1).all()


def test_an_object_of_a_prompted_model_is_filled():
    """A bright ball of which two slices are known; another object there is background."""
    model = load_model("universal", device="cpu", engine="torch")
    deep, rows, columns = np.mgrid[:17, :96, :96]
    ball = ((deep - 8) * 3) ** 2 + (rows - 48) ** 2 + (columns - 48) ** 2 < 30**2
    other = (rows - 48) ** 2 + (columns - 86) ** 2 < 6**2
    volume = np.where(ball | other, 150.0, 70.0)
    volume += np.random.default_rng(0).normal(0, 8, ball.shape)
    known = [((at, -1, -1), ball[at]) for at in (3, 9, 12)]
    fixed = {(at, -1, -1): np.where(other[at], 0, -1) for at in range(17)}
    stack, how = Stack([volume.astype(np.float32)], "none"), Sampling("one-step", 1, 1)
    found = list(fill_slices(model, stack, 0, known, fixed, how))
    assert [result.at[0] for result in found] == [4, 5, 6, 7, 8, 10, 11]
    for result in found:
        assert dice(result.mask > 0, ball[result.at[0]]) > 0.9
        assert not result.mask[other[result.at[0]]].any()
