"""Wheel and keys: nothing changes unasked, and after a click the keys are the canvas's."""

import numpy as np
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractSlider, QAbstractSpinBox, QApplication, QComboBox, QScrollBar

ALL = Qt.KeyboardModifier.NoModifier


def turn(control, notches: int) -> None:
    """Turn the wheel over a control, as a mouse does."""
    middle = control.rect().center()
    event = QWheelEvent(
        QPointF(middle),
        QPointF(control.mapToGlobal(middle)),
        QPoint(0, 0),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        ALL,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(control, event)


def value(control) -> object:
    return control.currentIndex() if isinstance(control, QComboBox) else control.value()


def test_the_wheel_changes_nothing_it_passes_over_and_keys_go_to_the_canvas(
    open_hand, tiny, tmp_path
) -> None:
    path = tmp_path / "grey.safetensors"
    tiny(labels=2, channels=1).save(path)
    stack = np.random.default_rng(0).normal(size=(4, 64, 64)).astype(np.float32)
    hand = open_hand(stack, model=path)
    hand.widget.settings.sampler.value = "ddim"
    hand.widget.settings.steps.value = 2
    kinds = (QComboBox, QAbstractSpinBox, QAbstractSlider)
    controls = [one for kind in kinds for one in hand.widget.findChildren(kind)]
    controls = [one for one in controls if not isinstance(one, QScrollBar)]
    assert len(controls) >= 10
    before = [value(one) for one in controls]
    for one in controls:
        for notches in (-1, 1, 1):
            turn(one, notches)
    assert [value(one) for one in controls] == before
    steps = hand.widget.settings.steps.native
    hand.open_page_of(steps)
    hand.viewer.window.activate()
    steps.setFocus()
    hand.wait(steps.hasFocus, "the focus")
    turn(steps, -1)
    assert hand.widget.settings.steps.value == 1, "what has the focus follows the wheel"

    def press(key: Qt.Key) -> None:
        QTest.keyClick(QApplication.focusWidget(), key)

    for name in ("segment", "rerefine", "carry_on", "near"):
        hand.click(name)
        hand.wait(lambda: QApplication.focusWidget() is not None, "a focus")
        hand.wait(lambda: not hand.widget.isAncestorOf(QApplication.focusWidget()), name)
        at, ticked = hand.viewer.dims.current_step[0], hand.control("near").isChecked()
        press(Qt.Key.Key_Space)
        press(Qt.Key.Key_Left)
        assert hand.viewer.dims.current_step[0] == at - 1, f"after {name}"
        press(Qt.Key.Key_Right)
        assert hand.viewer.dims.current_step[0] == at
        assert hand.control("near").isChecked() == ticked
        hand.idle()
