"""The shape of the window: few controls, none out of sight, none that jumps, few clicks."""

import time

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QFileDialog,
    QScrollBar,
    QWidget,
)

from napari_hidiff.io.images import read_mask

STALL = 0.3
"""Seconds of the main thread's own time that mouse and keys may have to wait: the aim is a quarter,
and on a busy machine the same work takes somewhat longer."""

KINDS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox)


class Heartbeat:
    """Notes the longest stall of the event loop, in seconds that its thread itself worked: what
    other programs do meanwhile does not count."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.thread_time()
        self._timer = QTimer()
        self._timer.setInterval(2)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now = time.thread_time()
        self.longest, self._last = max(self.longest, now - self._last), now


def controls(hand) -> list[QWidget]:
    """What can be operated on Annotate now; the rows of the class list are the mask's classes."""
    page, classes = hand.widget.panel.annotate, hand.widget.panel.annotate.classes
    found = [one for kind in KINDS for one in page.findChildren(kind)]
    return [
        one
        for one in found
        if one.isVisible() and not isinstance(one, QScrollBar) and not classes.isAncestorOf(one)
    ]


def out_of_sight(hand) -> list[str]:
    viewport = hand.widget.panel.annotate.area.viewport()
    corners = {one.objectName(): one.rect().bottomRight() for one in controls(hand)}
    lines = ("next", "message", "counts")
    parts = [*controls(hand), *map(hand.control, lines)]
    corners = {one.objectName(): one.mapTo(viewport, one.rect().bottomRight()) for one in parts}
    size = viewport.size()
    return [n for n, at in corners.items() if at.y() > size.height() or at.x() > size.width()]


def places(hand) -> dict[str, tuple[int, int]]:
    page = hand.widget.panel.annotate
    return {
        one.objectName(): (at.x(), at.y())
        for one in controls(hand)
        for at in [one.mapTo(page, one.rect().topLeft())]
    }


def test_nine_controls_for_a_picture_all_in_sight_and_none_jumps(
    open_hand, sample_pair, monkeypatch, tmp_path
) -> None:
    """A fundus photograph at 1280 x 720: from nothing to a saved mask in three clicks
    beside the stroke."""
    hand = open_hand(sample_pair[0][::2, ::2], rgb=True, stepwise=False)
    hand.viewer.window.resize(1280, 720)
    hand.wait(lambda: hand.widget.fit.problem is None, "the model that fits")
    assert hand.widget.models.chosen == "chase-vessels"
    assert len(controls(hand)) == 9
    hand.wait(lambda: not out_of_sight(hand), "every control to be seen")
    before = places(hand)
    path = tmp_path / "mask.png"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    clicks, heart = ["segment", "paint", "export"], Heartbeat()
    hand.click(clicks[0])
    assert hand.widget.session.run.written == 1, "found is refined already"
    hand.click(clicks[1])
    assert hand.mask.mode == "paint"
    assert 1 <= hand.mask.brush_size <= 4, "as thin as vessels are"
    painted = hand.stroke((200, 150), (230, 190))
    assert painted.any()
    hand.idle()
    hand.click(clicks[2])
    hand.click("next_place")
    assert heart.longest < STALL
    np.testing.assert_array_equal(read_mask(path), hand.mask.data)
    assert len(clicks) <= 4
    assert places(hand) == before
    assert not out_of_sight(hand)
    names = [layer.name for layer in hand.viewer.layers]
    assert names == ["image", "image mask", "image changes", "image doubtful place"]


def test_eleven_controls_for_a_volume(open_hand) -> None:
    """The hippocampus: found, updated in every slice, a correction carried on, nothing hidden."""
    hand = open_hand(stepwise=False)
    hand.viewer.window.resize(1280, 720)
    hand.viewer.open_sample("napari-hidiff", "hippocampus")
    hand.wait(lambda: hand.widget.fit.problem is None, "the model that fits")
    assert hand.widget.models.chosen == "hippocampus"
    assert len(controls(hand)) == 11
    hand.says("Finds anterior and posterior hippocampus.")
    hand.wait(lambda: not out_of_sight(hand), "every control to be seen")
    heart = Heartbeat()
    hand.click("segment")
    before = places(hand)
    hand.click("refine_slices")
    hand.says("Updated 24 slices", "slices")
    hand.click("next_place")
    assert heart.longest < STALL
    assert places(hand) == before
    assert hand.mask.data.any((1, 2)).sum() > 15


def test_an_update_follows_every_stroke_where_it_is_quick(open_hand, picture, tiny_file) -> None:
    hand = open_hand(picture, tiny_file, stepwise=False, rgb=True)
    box = hand.control("after_stroke")
    hand.wait(box.isChecked, "the estimate: an update takes milliseconds")
    hand.click("segment")
    first = hand.widget.session.run
    hand.stroke((20, 30), (26, 60))
    hand.wait(lambda: hand.widget.session.run is not first, "the update")
    hand.idle()
    run = hand.widget.session.run
    assert (run.fixed >= 0).sum() == hand.widget.session.timeline.fixed_count
    hand.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    hand.idle()
    assert hand.widget.session.run is run, "an undo asks for no update"
    hand.click("after_stroke")
    assert not box.isChecked()
    hand.stroke((50, 30), (50, 60))
    hand.idle()
    assert hand.widget.session.run is run
    hand.says("press Update", "next")


def test_the_last_line_says_what_is_next(open_hand, picture, tiny_file) -> None:
    hand = open_hand()
    hand.says("open an image", "next")
    hand.click("open_sample")
    assert [layer.name for layer in hand.viewer.layers] == ["fundus", "fundus truth"]
    assert not hand.control("open_sample").isVisible()
    hand.viewer.layers.clear()
    hand.viewer.add_image(picture, rgb=True, name="image")
    draft = hand.viewer.add_image(np.zeros((72, 96), np.uint8), name="draft")
    hand.widget.choose.image.value = hand.viewer.layers["image"]
    hand.says("draft is an image: right-click it, Convert to Labels", "no_mask")
    hand.viewer.layers.remove(draft)
    hand.says("", "no_mask")
    hand.use(tiny_file)
    hand.says("press Find", "next")
    hand.click("segment")
    hand.says("paint what is missing", "next")
    hand.stroke((20, 30), (26, 60))
    hand.says("press Update", "next")
    hand.click("accept")
    hand.click("rerefine")
    hand.click("accept")
    hand.says("Save mask", "next")


def test_paint_and_erase_show_what_is_in_hand(hand) -> None:
    hand.click("segment")
    for theme in ("light", "dark"):
        hand.viewer.theme = theme
        for tool, other in (("paint", "erase"), ("erase", "paint")):
            hand.click(tool)
            assert (hand.mask.mode, hand.control(tool).isChecked()) == (tool, True)
            assert not hand.control(other).isChecked()
        hand.mask.mode = "paint"  # in napari's own bar
        assert hand.control("paint").isChecked()
        hand.click("paint")
        assert hand.mask.mode == "pan_zoom"
        assert not hand.control("paint").isChecked()
