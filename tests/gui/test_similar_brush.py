"""The brush that paints similar pixels only: real strokes on CT, MR and colour, undone, logged."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_hidiff.annotation.brush import noise_of, similar
from napari_hidiff.masks import FREE, unpack

SHIFT = Qt.KeyboardModifier.ShiftModifier


def scene(kind: str) -> np.ndarray:
    """A band of 9 rows on a ground, as CT in Hounsfield units, as MR, or in colours."""
    rows = np.arange(72)[:, None] * np.ones((1, 96))
    band, noise = abs(rows - 36) <= 4, np.random.default_rng(0).normal(0, 1, (72, 96))
    if kind == "CT":
        return np.where(band, 180, 40).astype(np.int16) + (15 * noise).astype(np.int16)
    if kind == "MR":
        return (np.where(band, 0.9, 0.4) + 0.03 * noise).astype(np.float32)
    colours = np.where(band[..., None], (150, 40, 30), (190, 90, 60)) + 6 * noise[..., None]
    return colours.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["CT", "MR", "colour"])
def test_a_stroke_paints_what_is_like_its_centre(open_hand, kind) -> None:
    image = scene(kind)
    hand = open_hand(image, rgb=kind == "colour", stepwise=False)
    hand.use_none()
    hand.click("new_mask")
    hand.key(Qt.Key.Key_E, SHIFT)
    assert hand.control("similar").isChecked()
    hand.mask.data[34:38, 50:52] = 1  # there already: painted over, it is the user's
    hand.mask.refresh()
    drag(hand, (36, 30), (36, 70), size=21)
    painted = hand.mask.data.astype(bool)
    assert painted[33:40, 32:68].all(), "the band, but for the averaged edge"
    assert not painted[:31].any()
    assert not painted[42:].any()
    wide = hand.mask.data.copy()
    np.testing.assert_array_equal(hand.fixed, np.where(painted, 1, FREE))
    stroke = hand.widget.bench.annotation.log[-1]
    assert stroke["action"] == "stroke"
    where, labels = unpack(stroke["pixels"], painted.size)
    assert (labels == 1).all()
    assert where.size + 8 == painted.sum()
    assert painted.ravel()[where].all()

    hand.mask.undo()
    hand.pause(1)
    assert hand.mask.data.sum() == 8, "one stroke is one step"
    assert (hand.fixed != FREE).sum() == 8, "written by a program: the user's, and left"
    hand.mask.redo()
    hand.pause(1)
    np.testing.assert_array_equal(hand.mask.data, wide)

    hand.key(Qt.Key.Key_E, SHIFT)
    drag(hand, (36, 30), (36, 70), size=21)
    assert hand.mask.data[28:45, 40:60].all(), "napari's own brush again"


def drag(hand, start, end, size) -> None:
    hand.press(*start, size=size)
    for part in (0.25, 0.5, 0.75, 1.0):
        hand.drag(*(np.array(start) + part * (np.array(end) - np.array(start))))
    hand.release(*end)


def test_a_click_paints_exactly_what_the_rule_says(open_hand) -> None:
    image = scene("MR")
    hand = open_hand(np.stack([image, image[::-1], 1 - image]), stepwise=False, scale=(3, 1, 1))
    hand.use_none()
    hand.viewer.dims.set_current_step(0, 2)
    hand.click("new_mask")
    hand.click("similar")
    hand.press(30, 40, size=13)
    hand.release(30, 40)
    plane = (1 - image)[..., None]
    alike = np.zeros((72, 96), bool)
    reach = 12  # two radii of the brush, each of 6 pixels beside its centre
    window = plane[30 - reach : 30 + reach + 1, 40 - reach : 40 + reach + 1]
    alike[18:43, 28:53] = similar(window, (reach, reach), noise_of(plane))
    rows, columns = np.mgrid[:72, :96]
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 <= 6.5**2
    np.testing.assert_array_equal(hand.mask.data[2] > 0, alike & disc)
    assert not hand.mask.data[:2].any()
    assert 0 < (alike & disc).sum() < disc.sum()


def test_the_eraser_takes_all_under_it(open_hand) -> None:
    hand = open_hand(scene("CT"), stepwise=False)
    hand.use_none()
    hand.click("new_mask")
    hand.click("similar")
    hand.mask.data[...] = 1
    hand.mask.refresh()
    hand.press(36, 40, mode="erase", size=21)
    hand.release(36, 40)
    assert (hand.mask.data == 0).sum() == 349  # napari's disc of diameter 21
