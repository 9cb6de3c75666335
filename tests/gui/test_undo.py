"""Ctrl+Z fifty deep, over strokes and the model's writes, and all the way back."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
DEEP = 50


@pytest.mark.slow
def test_undo_fifty_deep_over_strokes_and_runs_and_redo_back(hand) -> None:
    hand.click("segment")
    moments = [(hand.mask.data.copy(), hand.fixed)]
    rng = np.random.default_rng(3)
    writes = number = 0
    while len(moments) <= DEEP + 2:
        start, end = rng.uniform((5, 5), (66, 90), (2, 2))
        label = number % 2
        if number % 6 == 5:
            hand.widget.settings.seed.value = number
            hand.click("rerefine")
        else:
            hand.stroke(tuple(start), tuple(end), mode="paint" if label else "erase")
        number += 1
        if (hand.mask.data != moments[-1][0]).any():
            moments.append((hand.mask.data.copy(), hand.fixed))
            writes += number % 6 == 0
        else:  # it confirmed, if anything, and is undone with what came before
            moments[-1] = (moments[-1][0], hand.fixed)
    assert writes >= 3
    assert len({fixed.tobytes() for _, fixed in moments}) > 30
    assert len({mask.tobytes() for mask, _ in moments}) == len(moments), "choose another seed"
    for depth in range(1, DEEP + 1):
        hand.key(Qt.Key.Key_Z, CONTROL)
        np.testing.assert_array_equal(hand.mask.data, moments[-1 - depth][0], f"{depth} deep")
        np.testing.assert_array_equal(hand.fixed, moments[-1 - depth][1], f"{depth} deep")
    for depth in range(DEEP - 1, -1, -1):
        hand.key(Qt.Key.Key_Z, CONTROL | SHIFT)
        np.testing.assert_array_equal(hand.mask.data, moments[-1 - depth][0], f"back at {depth}")
        np.testing.assert_array_equal(hand.fixed, moments[-1 - depth][1], f"back at {depth}")
    hand.click("accept")
