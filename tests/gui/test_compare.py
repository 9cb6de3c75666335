"""Two raters in a real window: the table, the colours, and the key that visits disagreements."""

import csv

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_hidiff._qt.commands import add_comparison
from napari_hidiff._qt.comparison import CompareWidget, dock_comparison
from napari_hidiff._qt.controls.compare_page import COLOURS
from napari_hidiff.io import registry
from napari_hidiff.io.record import RATER
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import ADDED, RELABELLED, REMOVED

SHIFT = Qt.KeyboardModifier.ShiftModifier


def raters(shape=(72, 96)) -> tuple[np.ndarray, np.ndarray]:
    """Both have a square; only the first has 5 x 6 pixels, only the second 4 x 4; 2 x 2 differ."""
    first, second = np.zeros((2, *shape), np.uint8)
    first[..., 20:40, 20:40] = second[..., 20:40, 20:40] = 1
    first[..., 50:55, 70:76] = 1
    second[..., 60:64, 10:14] = 1
    second[..., 30:32, 30:32] = 2
    return first, second


def compared(hand, widget: CompareWidget) -> None:
    widget.page.compare.click()
    hand.wait(lambda: widget._found is not None, "the table")
    hand.quiet()


def rows(widget: CompareWidget) -> list[list[str]]:
    table = widget.page.table
    return [
        [table.item(row, column).text() for column in range(table.columnCount())]
        for row in range(table.rowCount())
    ]


@pytest.fixture
def pair(open_hand, picture):
    hand = open_hand(picture, rgb=True, stepwise=False)
    layers = [
        hand.viewer.add_labels(mask, name=name, metadata={RATER: rater})
        for mask, name, rater in zip(raters(), ("one", "other"), ("Anna", ""), strict=True)
    ]
    hand.click("compare")
    widget = dock_comparison(hand.viewer)
    return hand, widget, layers


def test_two_masks_are_compared_and_their_disagreements_visited(pair, monkeypatch, tmp_path):
    hand, widget, layers = pair
    assert [widget.page.first.currentText(), widget.page.second.currentText()] == [
        "one (Anna)",
        "other",
    ]
    compared(hand, widget)
    first, second = raters()
    dice = 2 * 396 / (430 + 412)
    assert rows(widget)[0][:2] == ["label 1", f"{dice:.3f}"]
    assert rows(widget)[1] == ["label 2", "0.000", "0.000", "", ""]
    assert "Distances in px, NSD at 1 px." in widget.page.units.text()
    for kind, said in ((REMOVED, "only one (Anna)"), (ADDED, "only other")):
        assert f"<font color='{COLOURS[kind]}'>■</font> {said}" in widget.page.colours.text()
    shown = hand.viewer.layers["one disagreement"]
    kinds = np.select([first == second, first == 0, second == 0], [0, ADDED, REMOVED], RELABELLED)
    np.testing.assert_array_equal(shown.data, kinds)
    assert not layers[0].visible
    assert not layers[1].visible

    where = []
    for _ in range(4):
        hand.key(Qt.Key.Key_D, SHIFT)
        where.append(np.round(hand.viewer.scene.camera.center[-2:]).astype(int).tolist())
    assert where == [[52, 72], [61, 11], [30, 30], [52, 72]]
    assert widget.page.place.text() == "1 of 3: 30 pixels"
    ring = widget._ring.data
    assert np.linalg.norm(ring[:, 0] - where[-1], axis=1).max() < 10

    path = tmp_path / "agreement.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    widget.page.save.click()
    with path.open(newline="", encoding="utf-8-sig") as file:
        kept = list(csv.DictReader(file))
    assert [row["first rater"] for row in kept] == ["Anna", "Anna"]

    hand.viewer.window.remove_dock_widget(widget.parentWidget())
    assert [layer.name for layer in hand.viewer.layers] == ["image", "one", "other"]
    assert layers[0].visible
    assert "D" not in " ".join(map(str, hand.viewer.keymap))


def test_what_cannot_be_compared_is_said_and_a_correction_counts_at_the_next_comparison(pair):
    hand, widget, layers = pair
    layers[1].translate = (5, 0)
    widget.page.compare.click()
    assert "Wrong place: other" in hand.said()
    layers[1].data = np.zeros((72, 97), np.uint8)
    widget.page.compare.click()
    assert "one shape" in hand.said()
    assert widget._found is None
    assert not widget.page.next.isEnabled()

    layers[1].data, layers[1].translate = raters()[1], (0, 0)
    compared(hand, widget)
    layers[1].data[50:55, 70:76] = 1
    layers[0].data[60:64, 10:14] = 1
    widget.page.tolerance.setValue(0.5)
    compared(hand, widget)
    assert len(widget._found.places) == 1
    assert rows(widget)[0][1] == f"{2 * 442 / 888:.3f}"
    names = [layer.name for layer in hand.viewer.layers]
    assert names.count("one disagreement") == 1

    hand.viewer.layers.remove(layers[1])
    assert not widget.page.compare.isEnabled()


def test_a_volume_jumps_to_the_slice(open_hand):
    grey = np.random.default_rng(0).integers(0, 99, (9, 40, 50)).astype(np.uint8)
    hand = open_hand(grey, stepwise=False, scale=(3, 1, 1))
    masks = np.zeros((2, *grey.shape), np.uint8)
    masks[:, 2:7, 5:20, 5:20] = 1
    masks[0, 7, 30:34, 40:44] = 1
    masks[1, 1, 8:10, 8:10] = 1
    for mask, name in zip(masks, "ab", strict=True):
        hand.viewer.add_labels(mask, name=name, scale=(3, 1, 1), units=("mm",) * 3)
    widget = dock_comparison(hand.viewer)
    compared(hand, widget)
    assert "Distances in mm" in widget.page.units.text()
    hand.key(Qt.Key.Key_D, SHIFT)
    assert hand.viewer.dims.current_step[0] == 7
    hand.viewer.dims.order = (1, 0, 2)
    hand.key(Qt.Key.Key_D, SHIFT)
    assert hand.viewer.dims.current_step[1] in (8, 9)
    assert widget.page.place.text() == "2 of 2: 4 voxels"


def test_the_command_opens_image_and_masks(open_hand, picture, tmp_path):
    from PIL import Image

    hand = open_hand(stepwise=False)
    Image.fromarray(picture).save(tmp_path / "eye.png")
    paths = [tmp_path / rater / "eye.png" for rater in ("anna", "ben")]
    for path, mask in zip(paths, raters(), strict=True):
        path.parent.mkdir()
        write_labels(path, mask, rater=path.parent.name)
        assert registry.read_labelled(path).rater == path.parent.name
    add_comparison(hand.viewer, tmp_path / "eye.png", tuple(paths), 2.0)
    widget = dock_comparison(hand.viewer)
    hand.wait(lambda: widget._found is not None, "the table")
    assert widget.page.first.currentText() == "anna eye (anna)"
    assert widget._found.tolerance == 2
    hand.quiet()
