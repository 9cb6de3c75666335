"""Guards in the window: what a re-refinement changes, against every pixel's distance and gain."""

import numpy as np
from scipy import ndimage

from napari_hidiff.annotation.constraints import MARGIN, REACH
from napari_hidiff.annotation.refinement import CERTAIN, FIRM, NEAR


def refined(hand) -> np.ndarray:
    """What the model makes of all strokes so far, without any guard; [H, W]."""
    model, image = hand.widget.models.loaded(), hand.widget.image.data
    return model.refine(image, fixed=hand.fixed).mask


def distance(painted: np.ndarray) -> np.ndarray:
    """Distance [H, W] of every pixel to the nearest painted one, one by one."""
    rows, columns = np.nonzero(painted)
    y, x = np.indices(painted.shape)
    return np.sqrt(((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(-1))


def components(where: np.ndarray) -> list[np.ndarray]:
    labels, count = ndimage.label(where, np.ones((3, 3)))
    return [labels == number for number in range(1, count + 1)]


def last_run(hand) -> dict:
    log = hand.widget.bench.annotation.log
    return next(entry for entry in reversed(log) if entry["action"] == "run")


def test_near_my_strokes_leaves_far_pixels_alone(hand) -> None:
    near = hand.control("near")
    assert near.isChecked() == NEAR
    near.setChecked(False)
    hand.widget.settings.firm.value = False
    hand.click("segment")
    hand.click("run")
    hand.stroke((60, 70), (64, 84))
    hand.click("rerefine")  # the first stroke is not one since the last result any more
    near.setChecked(True)
    before = hand.mask.data.copy()
    painted = hand.stroke((20, 30), (26, 60))
    fresh = painted | (hand.widget.session.timeline.fresh)
    edited = hand.mask.data.copy()
    everything = refined(hand)
    hand.click("rerefine")
    after = hand.mask.data
    far = distance(fresh) > REACH + 1
    kept = [part for part in components(edited != everything) if not (~far & part).any()]
    assert kept, "the model changed nothing far away: there was nothing to guard against"
    for part in kept:
        np.testing.assert_array_equal(after[part], before[part])
    reached = (edited != everything) & ~np.logical_or.reduce(kept)
    np.testing.assert_array_equal(after[reached], everything[reached])
    assert reached.any(), "nothing was refined at all"
    assert last_run(hand)["near"] == REACH


def test_only_where_surer_changes_nothing_for_a_worse_guess(hand) -> None:
    assert hand.widget.settings.certain.value == CERTAIN
    hand.widget.settings.firm.value = False
    hand.click("segment")
    hand.click("run")
    hand.stroke((20, 30), (26, 60))
    edited = hand.mask.data.copy()
    old = hand.widget.session.run.shown[-1].probability[0]
    everything = refined(hand)
    hand.widget.settings.certain.value = True
    hand.click("rerefine")
    new = hand.widget.session.run.shown[-1].probability[0]
    parts = components(edited != everything)
    assert parts
    for part in parts:
        gain = np.where(everything, new, 1 - new)[part].sum()
        gain -= np.where(edited, old, 1 - old)[part].sum()
        wanted = everything if gain > 0 else edited
        np.testing.assert_array_equal(hand.mask.data[part], wanted[part])


def test_toss_ups_stay_as_they_are_unless_the_user_wants_them(hand) -> None:
    assert hand.widget.settings.firm.value
    assert FIRM
    hand.click("segment")
    hand.click("run")
    hand.stroke((20, 30), (26, 60))
    edited, everything = hand.mask.data.copy(), refined(hand)
    hand.click("rerefine")
    p = hand.widget.session.run.shown[-1].probability[0]
    decided = (edited == everything) | (np.abs(2 * p - 1) >= MARGIN) | (hand.fixed >= 0)
    assert not decided.all(), "the model is sure of every change: there was nothing to guard"
    np.testing.assert_array_equal(hand.mask.data, np.where(decided, everything, edited))
    assert last_run(hand)["margin"] == MARGIN
    hand.widget.settings.firm.value = False
    hand.click("rerefine")
    np.testing.assert_array_equal(hand.mask.data, refined(hand))
