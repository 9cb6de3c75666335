"""The class list: painting, hiding, freezing, in the real window on models of several classes."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton

from napari_hidiff._qt.controls.class_list import ROWS, ClassesBox
from napari_hidiff._qt.controls.elements import Sign
from napari_hidiff._qt.layers.mask_link import MaskLink
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.masks import FREE, Label

CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
WHOLE = (-1, -1)


@pytest.fixture
def three(open_hand, picture, tiny, tmp_path):
    """The picture with a model of three foreground classes: vessel, disc and lesion."""
    path = tmp_path / "three.safetensors"
    tiny(labels=4).save(path)
    hand = open_hand(picture, rgb=True, model=path)
    return hand


def drag(hand, label: int, row: int, mode: str = "paint") -> None:
    hand.stroke((row, 20), (row, 70), mode=mode, label=label)


def where(hand, label: int) -> np.ndarray:
    return hand.mask.data == label


def test_one_class_needs_no_list_and_several_have_a_row_each(hand, tiny, tmp_path) -> None:
    assert hand.control("classes").isHidden()
    path = tmp_path / "three.safetensors"
    tiny(labels=4).save(path)
    hand.use(path)
    assert hand.control("classes").isVisible()
    names = [hand.control(f"class_{label}") for label in (1, 2, 3)]
    assert [name.text() for name in names] == ["vessel", "disc", "lesion"]
    hand.offers("lock_1", False)  # there is no mask yet
    hand.click("segment")
    for button in hand.control("classes").findChildren(QAbstractButton):
        assert button.toolTip(), button.objectName()
        hand.wait(button.isEnabled, button.objectName())
    shown = [np.sum(where(hand, label)) for label in (1, 2, 3)]
    counts = [hand.control(f"count_{label}") for label in (1, 2, 3)]
    hand.wait(lambda: [one.text() for one in counts] == [f"{n:,}" for n in shown], "the counts")


def test_a_row_chooses_the_class_to_paint_with_and_its_eye_changes_colours_alone(three) -> None:
    three.click("segment")
    three.mask.mode = "pan_zoom"
    three.click("class_3")
    assert (three.mask.selected_label, str(three.mask.mode)) == (3, "paint")
    assert three.viewer.layers.selection.active == three.mask
    assert three.control("class_3").isChecked()
    three.key(Qt.Key.Key_Minus)  # napari's own key for the label before
    assert three.control("class_2").isChecked()
    assert not three.control("class_3").isChecked()

    drag(three, 2, 30)
    before = three.mask.data.copy()
    strokes = three.fixed
    seen = three.mask.colormap.map(np.uint8(2))
    three.click("eye_2")
    assert three.mask.colormap.map(np.uint8(2))[3] == 0
    assert three.mask.colormap.map(np.uint8(1))[3] == 1
    np.testing.assert_array_equal(three.mask.data, before)
    np.testing.assert_array_equal(three.fixed, strokes)
    three.click("eye_2")
    np.testing.assert_array_equal(three.mask.colormap.map(np.uint8(2)), seen)
    three.key(Qt.Key.Key_Z, CONTROL)
    assert (three.mask.data != before).any(), "the history is gone"


def test_a_frozen_class_never_changes_over_a_whole_session(three) -> None:
    three.show_maps()
    three.click("segment")
    drag(three, 2, 30)
    drag(three, 1, 50)
    three.click("lock_2")
    frozen = where(three, 2)
    assert frozen.sum() > 100
    lost = []

    def check(what: str) -> None:
        if (where(three, 2) != frozen).any():
            lost.append((what, int((where(three, 2) != frozen).sum())))
        fixed = three.fixed
        assert ((fixed == FREE) | (fixed == three.mask.data)).all(), what

    steps = {
        "another label over it": lambda: drag(three, 1, 30),
        "undo": lambda: three.key(Qt.Key.Key_Z, CONTROL),
        "redo": lambda: three.key(Qt.Key.Key_Z, CONTROL | SHIFT),
        "erase": lambda: drag(three, 0, 30, mode="erase"),
        "fill": lambda: three.stroke((30, 40), (30, 40), mode="fill", label=3),
        "itself": lambda: drag(three, 2, 60),
        "run": lambda: three.click("run"),
        "re-refine": lambda: three.click("rerefine"),
        "reject": lambda: three.control("reject").isEnabled() and three.click("reject"),
        "re-refine again": lambda: three.click("rerefine"),
        "alternatives": lambda: three.click("alternatives"),
        "accept": lambda: three.click("accept"),
        "segment": lambda: three.click("segment"),
    }
    for what, act in steps.items():
        act()
        check(what)
    run = three.widget.session.run
    assert run is None or (run.fixed[frozen] == 2).all(), "the model is not told"
    for _ in range(25):  # beyond the moment of the lock, to the beginning
        three.key(Qt.Key.Key_Z, CONTROL)
        check("all the way back")
    for _ in range(25):
        three.key(Qt.Key.Key_Z, CONTROL | SHIFT)
        check("all the way forth")
    assert lost == []
    assert "Disc is frozen: unlock it to paint." in three.said()
    assert three.said().count("Disc is frozen") == 1, "once is enough"
    log = three.widget.bench.annotation.log
    locks = [(entry["label"], entry["on"]) for entry in log if entry["action"] == "lock"]
    assert (2, True) in locks
    three.click("lock_2")
    drag(three, 1, 30)
    assert (where(three, 2) != frozen).any(), "it is not frozen any more"


def test_the_model_a_polygon_and_a_call_leave_frozen_classes_alone(three) -> None:
    three.click("segment")
    three.click("lock_1")
    three.click("lock_3")
    frozen = where(three, 1) | where(three, 3)
    assert frozen.any()
    before = three.mask.data.copy()
    three.click("run")
    run = three.widget.session.run
    np.testing.assert_array_equal(run.fixed[frozen], before[frozen])
    assert (run.fixed[~frozen] == FREE).all()
    assert run.written == run.steps
    assert three.widget.session.standing == run.steps

    for label in (1, 3):
        three.click(f"lock_{label}")
    three.click("segment")
    drag(three, 2, 30)
    three.click("lock_2")
    before = three.mask.data.copy()
    for paint in (
        lambda: three.mask.paint_polygon([(25, 30), (25, 60), (40, 60), (40, 30)], 1),
        lambda: three.mask.paint((30, 40), 3),
        lambda: three.mask.fill((30, 40), 0),
        lambda: three.mask.data_setitem((np.array([30]), np.array([45])), 1),
        lambda: three.mask.data_setitem((np.array([2]), np.array([2])), 2),
    ):
        paint()
        np.testing.assert_array_equal(three.mask.data == 2, before == 2)
    while three.mask._undo_history:
        three.mask.undo()
        np.testing.assert_array_equal(three.mask.data == 2, before == 2)


def test_one_undo_takes_back_a_stroke_over_a_frozen_class_and_only_that(three) -> None:
    three.click("segment")
    drag(three, 3, 20)
    drag(three, 2, 30)
    three.click("lock_2")
    before, strokes = three.mask.data.copy(), three.fixed
    three.stroke((10, 45), (60, 45), label=1)  # down, over both
    over = three.mask.data.copy()
    assert (over != before).any()
    three.key(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(three.mask.data, before)
    np.testing.assert_array_equal(three.fixed, strokes)
    three.key(Qt.Key.Key_Z, CONTROL | SHIFT)
    np.testing.assert_array_equal(three.mask.data, over)
    three.key(Qt.Key.Key_Z, CONTROL)
    three.key(Qt.Key.Key_Z, CONTROL)  # the stroke of the frozen class stays
    np.testing.assert_array_equal(three.mask.data, before)
    three.key(Qt.Key.Key_Z, CONTROL)  # the one before it goes
    assert not (where(three, 3) & (strokes == 3)).all()


def test_many_classes_scroll_within_the_list(qtbot) -> None:
    box = ClassesBox()
    qtbot.addWidget(box)
    heights = {}
    for count in (2, ROWS, 14):
        box.offer([Label(f"organ {i}", "#ff0000") for i in range(count + 1)])
        heights[count] = box.sizeHint().height()
        assert len(box.findChildren(Sign)) == 2 * count
    assert heights[2] < heights[ROWS] == heights[14]
    box.fit(600)
    assert heights[2] < box.sizeHint().height() < heights[14], "a small screen"
    box.fit(1000)
    assert box.sizeHint().height() == heights[14]


ACT = st.one_of(
    st.tuples(st.just("stroke"), st.integers(0, 9), st.integers(0, 3)),
    st.tuples(st.just("polygon"), st.integers(0, 6), st.integers(0, 3)),
    st.tuples(st.just("fill"), st.integers(0, 9), st.integers(0, 3)),
    st.tuples(st.just("write"), st.integers(0, 99), st.just(0)),
    st.tuples(st.just("foreign"), st.integers(0, 99), st.just(0)),
    st.tuples(st.just("undo"), st.just(0), st.just(0)),
    st.tuples(st.just("redo"), st.just(0), st.just(0)),
    st.tuples(st.just("reject"), st.just(0), st.just(0)),
    st.tuples(st.just("lock"), st.integers(1, 3), st.booleans()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ACT, min_size=1, max_size=8), st.lists(ACT, min_size=1, max_size=20))
def test_with_naparis_own_history_no_frozen_pixel_changes(qapp, before, after) -> None:
    """Random strokes, results, undos and rejects on a real Labels layer without a window."""
    layer = Labels(np.zeros((10, 12), np.uint8))
    annotation = Annotation((10, 12))
    link = MaskLink(layer, annotation, lambda: WHOLE, lambda: None, lambda index: layer.data)
    link.session(WHOLE)
    frozen: dict[int, np.ndarray] = {}

    def stroke(row: int, label: int) -> None:
        with layer.block_history():  # as napari's own mouse binding does it
            for column in range(2, 10, 3):
                layer.paint((row, column), label, refresh=False)
                layer._partial_labels_refresh()

    def result(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 4, (10, 12)).astype(np.uint8)

    def foreign(seed: int) -> None:
        layer.data[3:5] = result(seed)[3:5]
        layer.refresh()

    link.write(WHOLE, result(0))
    for action, a, b in [*before, ("lock", 2, True), *after]:
        if action == "stroke":
            stroke(a, b)
        elif action == "polygon":
            layer.paint_polygon([(a, a), (a, a + 4), (a + 3, a + 4), (a + 3, a)], b)
        elif action == "fill":
            layer.fill((a, a), b)
        elif action == "write":
            link.write(WHOLE, result(a), rejectable=True)
        elif action == "foreign":
            foreign(a)
        elif action == "lock":
            annotation.freeze(a, layer.data, b)
            frozen.pop(a, None)
            if b:
                frozen[a] = layer.data == a
        elif action != "reject":
            getattr(layer, action)()
        elif link.rejectable is not None:
            link.reject()
        for label, at in frozen.items():
            np.testing.assert_array_equal(layer.data == label, at, err_msg=action)
        timeline = annotation.sessions[WHOLE].timeline
        np.testing.assert_array_equal(timeline.content, layer.data)
        fixed = timeline.fixed
        assert ((fixed == FREE) | (fixed == layer.data)).all(), action
    link.close()
