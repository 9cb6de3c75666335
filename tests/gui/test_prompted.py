"""Any object from its first stroke, point or box, by the universal model in a real window."""

import json

import numpy as np
from gui.test_shape import controls, out_of_sight, places
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog
from scipy import ndimage
from skimage import data

from napari_hidiff.annotation.replay import Replay
from napari_hidiff.io.images import read_mask
from napari_hidiff.masks import dice

CONTROL = Qt.KeyboardModifier.ControlModifier


def blobs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grey picture uint8 [160, 200] with two bright discs, and each of them."""
    rows, columns = np.mgrid[:160, :200]
    first = (rows - 70) ** 2 + (columns - 60) ** 2 < 30**2
    other = (rows - 90) ** 2 + (columns - 150) ** 2 < 22**2
    noise = np.random.default_rng(0).normal(0, 8, rows.shape)
    picture = (np.where(first | other, 150, 70) + noise).clip(0, 255).astype(np.uint8)
    return picture, first.astype(np.uint8), other.astype(np.uint8)


def ready(hand) -> None:
    """Wait for the model, and let an update follow every stroke."""
    hand.wait(lambda: hand.widget.fit.problem is None, "the model to fit")
    if not hand.control("after_stroke").isChecked():  # a busy machine does not do so by itself
        hand.click("after_stroke")


def point(hand, row: float, column: float, size: int, tool: str = "paint") -> None:
    """Click once with the brush or the eraser."""
    if not hand.control(tool).isChecked():
        hand.click(tool)
    hand.mask.brush_size = size
    at = hand.point(row, column)
    QTest.mouseMove(hand.canvas, at)
    QTest.mouseClick(hand.canvas, Qt.MouseButton.LeftButton, pos=at)
    hand.pause(1)
    hand.idle()


def box(hand, truth: np.ndarray) -> None:
    """Draw the box around an object, bool [H, W]."""
    hand.click("box")
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    first, last = (hand.point(rows[at], columns[at]) for at in (0, -1))
    QTest.mouseMove(hand.canvas, first)
    QTest.mousePress(hand.canvas, Qt.MouseButton.LeftButton, pos=first)
    for part in (0.5, 1.0):
        hand.drag(rows[0] + part * np.ptp(rows), columns[0] + part * np.ptp(columns))
    QTest.mouseRelease(hand.canvas, Qt.MouseButton.LeftButton, pos=last)
    hand.pause(1)
    hand.idle()


def of(hand, label: int) -> np.ndarray:
    return (hand.mask.data == label).astype(np.uint8)


def replayed(hand) -> np.ndarray:
    """The mask that the log of the window gives again."""
    model, log = hand.widget.models.loaded(), hand.widget.bench.annotation.log
    log = json.loads(json.dumps(log))  # as a file has it
    image, shape = hand.widget.image.data, hand.mask.data.shape
    replay = Replay(log=log, image=image, shape=shape, models=lambda *_: model)
    replay.run()
    assert replay.deviation is None
    assert not replay.unknown
    return replay.mask


def test_strokes_points_and_boxes_find_objects_one_by_one(open_hand) -> None:
    picture, disc, other = blobs()
    hand = open_hand(picture, "universal", stepwise=False)
    ready(hand)
    assert len(controls(hand)) == 9
    hand.says("Next: paint a stroke inside the object", "next")
    hand.click("rerefine")
    hand.wait(lambda: "Paint a stroke inside the object first" in hand.said(), "the advice")
    assert not hand.mask.data.any()

    hand.click("paint")
    hand.press(70, 50, size=13)
    hand.drag(70, 60)
    hand.release(70, 70)
    hand.idle()
    stroke = hand.fixed == 1
    assert stroke.any()
    assert dice(hand.mask.data, disc) > 0.85
    assert (hand.mask.data[stroke] == 1).all()

    first = of(hand, 1)
    hand.click("new_object")
    assert hand.mask.selected_label == 2
    box(hand, other)
    assert (hand.mask.mode, hand.control("paint").isChecked()) == ("paint", True)
    assert dice(of(hand, 2), other) > 0.85
    np.testing.assert_array_equal(of(hand, 1), first, "the other object is fixed")
    found = of(hand, 2)
    point(hand, 90, 130, 5, "erase")
    assert hand.fixed[90, 130] == 0
    assert not hand.mask.data[90, 130]
    np.testing.assert_array_equal(of(hand, 1), first)
    assert dice(of(hand, 2), found) > 0.9, "the box still counts"
    np.testing.assert_array_equal(replayed(hand), hand.mask.data)

    hand.click("box")
    hand.key(Qt.Key.Key_Z, CONTROL)  # reaches the mask with the box in hand, too
    hand.click("box")
    assert (hand.mask.mode, hand.control("box").isChecked()) == ("pan_zoom", False)
    hand.key(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(of(hand, 2), found)
    hand.key(Qt.Key.Key_Z, CONTROL)
    assert not of(hand, 2).any(), "the box is undone with its answer"
    hand.click("rerefine")
    hand.wait(lambda: hand.said().count("Paint a stroke inside the object first") == 2, "it")
    point(hand, 90, 150, 9)
    assert dice(of(hand, 2), other) > 0.85
    hand.click("class_1")
    point(hand, 70, 60, 9)
    np.testing.assert_array_equal(of(hand, 1) | of(hand, 2), hand.mask.data > 0)
    assert dice(of(hand, 1), disc) > 0.85
    np.testing.assert_array_equal(replayed(hand), hand.mask.data)


def test_an_object_is_filled_between_its_own_slices(open_hand) -> None:
    """A slice with strokes of another object alone says nothing of this one."""
    picture, disc, other = blobs()
    hand = open_hand(np.stack([picture] * 7), "universal", stepwise=False)
    ready(hand)
    hand.click("paint")
    for at, label in ((3, 2), (0, 1), (6, 1)):
        hand.viewer.dims.set_current_step(0, at)
        hand.idle()
        hand.mask.selected_label = label
        point(hand, *((70, 60) if label == 1 else (90, 150)), 25)
    hand.click("fill_slices")
    hand.says("Filled 5 slices", "slices")
    for at in range(7):
        assert dice((hand.mask.data[at] == 1).astype(np.uint8), disc) > 0.85, f"slice {at}"
    assert dice((hand.mask.data[3] == 2).astype(np.uint8), other) > 0.85
    assert not (np.delete(hand.mask.data, 3, 0) == 2).any()


def test_it_starts_from_any_labels_layer(open_hand) -> None:
    picture, disc, other = blobs()
    hand = open_hand(picture, "universal", stepwise=False)
    ready(hand)
    draft = 3 * np.roll(disc, 6, 1) + 7 * other
    layer = hand.viewer.add_labels(draft, name="draft", visible=False)
    hand.widget.choose.prior.value = layer
    hand.known()
    hand.click("rerefine")
    np.testing.assert_array_equal(of(hand, 7), other, "the other objects come along")
    assert dice(of(hand, 3), disc) > dice((draft == 3).astype(np.uint8), disc)
    assert hand.mask.selected_label == 3
    hand.click("new_object")
    assert hand.mask.selected_label == 8
    np.testing.assert_array_equal(replayed(hand), hand.mask.data)


def test_a_first_timer_saves_objects_of_a_picture_that_no_model_was_trained_on(
    open_hand, monkeypatch, tmp_path
) -> None:
    """Coins on a tray: the window chooses the model and says what to do; an object is a click
    with the brush, one more a button and a click."""
    coins = data.coins()
    smooth = ndimage.binary_fill_holes(ndimage.gaussian_filter(coins.astype(float), 1) > 110)
    areas, _ = ndimage.label(ndimage.binary_opening(smooth, iterations=3))
    hand = open_hand(coins, stepwise=False)
    hand.viewer.window.resize(1280, 720)
    ready(hand)
    assert hand.widget.models.chosen == "universal"
    assert len(controls(hand)) == 9
    assert not out_of_sight(hand)
    hand.says("Next: paint a stroke inside the object", "next")
    before, clicks = places(hand), ["paint"]
    row = hand.control("class_1").pos()
    for label, at in enumerate([(119, 270), (124, 44), (125, 102)], 1):
        if label > 1:
            clicks.append("new_object")
            hand.click("new_object")
        point(hand, *at, 7)
        truth = (areas == areas[at]).astype(np.uint8)
        assert dice(of(hand, label), truth) > 0.85, f"object {label}"
        assert hand.control("class_1").pos() == row
    assert places(hand) == before
    path = tmp_path / "coins.png"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    hand.click("export")
    clicks.append("export")
    assert len(clicks) <= 4
    np.testing.assert_array_equal(read_mask(path), hand.mask.data)
    assert sorted(np.unique(hand.mask.data)) == [0, 1, 2, 3]
