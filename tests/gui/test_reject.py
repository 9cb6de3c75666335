"""Reject: exactly one result is taken back, in one undo step, and no stroke with it."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


def refined(hand) -> np.ndarray:
    """What the model makes of all strokes so far, without any guard; [H, W]."""
    model, image = hand.widget.models.loaded(), hand.widget.image.data
    return model.refine(image, fixed=hand.fixed).mask


@pytest.fixture
def corrected(hand):
    """A hand that refined, painted, erased, confirmed and refined again."""
    hand.click("segment")
    hand.click("run")
    hand.stroke((20, 30), (26, 60))
    hand.stroke((50, 20), (50, 50), mode="erase")
    hand.stroke((50, 20), (50, 50), mode="erase")  # confirms
    hand.edited, hand.strokes = hand.mask.data.copy(), hand.fixed
    hand.offers("reject", False)  # a stroke came after the first run
    hand.click("rerefine")
    hand.refined = hand.mask.data.copy()
    assert (hand.refined != hand.edited).any()
    return hand


def test_reject_takes_back_exactly_the_result_in_one_undo_step(corrected) -> None:
    hand = corrected
    hand.offers("reject")
    hand.key(Qt.Key.Key_K, SHIFT)
    np.testing.assert_array_equal(hand.mask.data, hand.edited)
    np.testing.assert_array_equal(hand.fixed, hand.strokes)
    assert hand.widget.bench.annotation.log[-1]["action"] == "reject"
    assert not hand.viewer.layers["image changes"].visible
    assert "The last result is undone" in hand.said()
    hand.offers("reject", False)
    hand.key(Qt.Key.Key_K, SHIFT)  # not twice
    np.testing.assert_array_equal(hand.mask.data, hand.edited)

    hand.key(Qt.Key.Key_Z, CONTROL | SHIFT)  # the result is one step away in the history
    np.testing.assert_array_equal(hand.mask.data, hand.refined)
    np.testing.assert_array_equal(hand.fixed, hand.strokes)
    hand.key(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(hand.mask.data, hand.edited)
    hand.key(Qt.Key.Key_Z, CONTROL)  # the eraser's stroke, whose pixels are free again
    assert (hand.fixed == 0).sum() == 0
    assert (hand.fixed == 1).any()


def test_a_result_is_not_rejected_after_anything_else(corrected) -> None:
    hand = corrected

    def not_rejectable() -> None:
        before, strokes = hand.mask.data.copy(), hand.fixed
        hand.offers("reject", False)
        hand.key(Qt.Key.Key_K, SHIFT)
        np.testing.assert_array_equal(hand.mask.data, before)
        np.testing.assert_array_equal(hand.fixed, strokes)

    def again() -> None:
        hand.stroke((10, 70), (10, 70), mode="erase" if hand.mask.data[10, 70] else "paint")
        before = hand.mask.data.copy()
        hand.click("rerefine")
        assert (hand.mask.data != before).any()
        hand.offers("reject")

    assert hand.stroke((60, 70), (66, 80)).any()
    not_rejectable()
    again()
    row, column = np.argwhere((hand.mask.data == 1) & (hand.fixed < 0))[0]
    before = hand.mask.data.copy()
    hand.press(row, column, size=1)
    hand.release(row, column)
    np.testing.assert_array_equal(hand.mask.data, before)  # it only confirms
    assert hand.fixed[row, column] == 1
    not_rejectable()
    again()
    hand.key(Qt.Key.Key_Z, CONTROL)
    not_rejectable()
    again()
    hand.mask.data[:4] = 1 - hand.mask.data[:4]  # by someone else, and no event
    hand.click("reject")
    assert "the mask was changed since" in hand.said()
    not_rejectable()
    again()
    hand.click("accept")
    not_rejectable()


def test_strokes_before_and_after_a_rejected_result_are_refined_around(corrected) -> None:
    hand = corrected
    hand.widget.settings.firm.value = False
    hand.click("reject")
    painted = hand.stroke((60, 70), (66, 80))
    strokes = hand.fixed
    assert (strokes[painted] == 1).all()
    expected = refined(hand)
    hand.click("rerefine")
    np.testing.assert_array_equal(hand.mask.data, expected)
    np.testing.assert_array_equal(hand.mask.data[strokes >= 0], strokes[strokes >= 0])
    hand.click("reject")
    np.testing.assert_array_equal(hand.fixed, strokes)
