"""The strokes of the simulated annotator, against oracles that try every pixel."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hidiff.training.simulated_annotator import (
    LONGEST,
    SCRIBBLE,
    WIDEST,
    discs,
    next_stroke,
    painted,
    skeleton_path,
    thin,
)

EIGHT = np.ones((3, 3), bool)


def blobs(seed: int, labels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A mask and a truth [H, W] that differ in pieces of many shapes, some at the border."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(16, 40, 2))
    noise = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, *rng.uniform(0.5, 4, 2)))
    levels = np.quantile(noise, np.linspace(0, 1, labels + 1)[1:-1])
    mask, truth = np.digitize(noise, levels).astype(np.uint8)
    return mask, truth


def inscribed(errors: np.ndarray) -> np.ndarray:
    """The distance from every pixel of an error to the nearest that is none, or off the image."""
    outside = np.argwhere(~np.pad(errors, 1)) - 1
    found = np.zeros(errors.shape)
    for y, x in np.argwhere(errors):
        found[y, x] = np.sqrt(((outside - (y, x)) ** 2).sum(1).min())
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_disc_is_the_largest_that_fits_into_an_error(seed):
    mask, truth = blobs(seed, labels=2 + seed % 2)
    errors = mask != truth
    deepest = inscribed(errors)
    stroke = next_stroke(mask, truth)
    y, x = stroke.centre
    assert deepest[y, x] == pytest.approx(deepest.max())
    assert (y, x) == tuple(np.argwhere(deepest >= deepest.max() - 1e-9)[0])
    widest = min(mask.shape) * WIDEST
    assert stroke.radius == pytest.approx(min(widest, deepest.max()))
    for i, j in np.ndindex(mask.shape):
        inside = (i - y) ** 2 + (j - x) ** 2 < round(stroke.radius**2, 6) or (i, j) == (y, x)
        assert stroke.where[i, j] == inside
    assert errors[stroke.where].all()


def test_the_largest_disc_counts_not_the_largest_area():
    truth = np.zeros((80, 96), np.uint8)
    mask = truth.copy()
    mask[10, 2:94] = 1  # 92 pixels, thin
    mask[40:47, 50:57] = 1  # 49 pixels
    stroke = next_stroke(mask, truth)
    assert stroke.centre == (43, 53)
    assert stroke.radius == 4


def test_a_disc_is_never_wider_than_a_sixteenth_and_the_border_is_a_border():
    truth = np.zeros((64, 128), np.uint8)
    assert next_stroke(truth + 1, truth).radius == 4
    mask = truth.copy()
    mask[:3, 60:] = 1  # at the border of the image: no deeper than its middle row
    assert next_stroke(mask, truth).centre[0] == 1


def test_a_disc_whose_radius_is_a_root_ends_inside():
    """1.4142...**2 is more than 2: pixels at that distance are not inside."""
    disc = discs((9, 9), np.array([[4, 4]]), np.array([np.sqrt(2.0)]))
    assert disc.sum() == 5
    assert discs((9, 9), np.array([[0, 8]]), np.array([0.0])).sum() == 1


@pytest.mark.parametrize("seed", range(40))
def test_a_scribble_is_one_piece_inside_one_error_and_not_too_long(seed):
    mask, truth = blobs(seed)
    errors = mask != truth
    stroke = next_stroke(mask, truth, SCRIBBLE)
    assert errors[stroke.where].all()
    assert stroke.where[stroke.centre]
    assert ndimage.label(stroke.where, EIGHT)[1] == 1
    component = ndimage.label(errors, EIGHT)[0]
    component = component == component[stroke.centre]
    length = mask.shape[0] * LONGEST
    path = skeleton_path(component, stroke.centre, length)
    steps = np.abs(np.diff(path, axis=0))
    assert (steps.max(1, initial=0) == 1).all()
    assert len({tuple(pixel) for pixel in path}) == len(path), "no pixel twice"
    assert np.hypot(*steps.T).sum() <= length + 1e-9
    assert component[tuple(path.T)].all()


def test_a_scribble_follows_a_line_to_both_sides_and_takes_its_width():
    truth = np.zeros((80, 160), np.uint8)
    mask = truth.copy()
    mask[38:43, 20:140] = 1
    stroke = next_stroke(mask, truth, SCRIBBLE)
    rows, columns = np.nonzero(stroke.where)
    assert (rows.min(), rows.max()) == (38, 42)
    assert 10 <= np.ptp(columns) <= 80 * LONGEST + 2 * stroke.radius
    path = skeleton_path(mask > 0, (40, 80), 10)
    assert (path[:, 1].min(), path[:, 1].max()) == (75, 85)


def test_a_short_branch_gives_its_rest_to_the_other_side():
    component = np.zeros((20, 60), bool)
    component[10, 5:55] = True
    path = skeleton_path(component, (10, 6), 12)
    assert set(map(tuple, path)) == {(10, column) for column in range(5, 18)}


def test_the_middle_of_a_cross_stays_on_the_path():
    """From the end of one arm the other arms are as near as the middle is from two of them."""
    component = np.zeros((41, 41), bool)
    component[20, 2:39] = component[2:39, 20] = True
    path = skeleton_path(component, (20, 20), 10)
    assert np.abs(path - (20, 20)).sum(1).min() <= 1


def test_no_error_no_stroke_and_unknown_kinds_are_refused():
    mask, truth = blobs(0)
    assert next_stroke(truth, truth) is None
    with pytest.raises(ValueError, match="disc, scribble"):
        next_stroke(mask, truth, "cross")


def test_strokes_on_their_own_correct_everything():
    mask, truth = blobs(3, labels=3)
    for _ in range(int((mask != truth).sum())):
        stroke = next_stroke(mask, truth)
        if stroke is None:
            break
        values = painted(stroke, truth, labels=3)
        mask = np.where(values >= 0, values, mask)
    np.testing.assert_array_equal(mask, truth)


def test_lines_are_thin_and_balls_are_not():
    lines = np.zeros((64, 64), np.uint8)
    lines[::16] = 1
    ball = np.hypot(*np.mgrid[-32:32, -32:32]) < 20
    assert thin(lines)
    assert not thin(ball.astype(np.uint8))
    assert not thin(np.zeros((64, 64), np.uint8))


@pytest.mark.parametrize("labels", [2, 4])
def test_a_wrong_stroke_has_another_label_everywhere(labels):
    mask, truth = blobs(5, labels)
    stroke = next_stroke(mask, truth)
    right = painted(stroke, truth, labels)
    np.testing.assert_array_equal(right[stroke.where], truth[stroke.where])
    assert (right[~stroke.where] == -1).all()
    seen = set()
    for seed in range(20):
        wrong = painted(stroke, truth, labels, np.random.default_rng(seed))
        assert (wrong[~stroke.where] == -1).all()
        assert (wrong[stroke.where] != truth[stroke.where]).all()
        seen |= set(wrong[stroke.where].tolist())
    assert seen <= set(range(labels))
