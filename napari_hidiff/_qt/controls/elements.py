"""The parts that the sections of the widget are put together from.

Small signs for buttons, drawn in the colour that the theme gives to text.

The first-run hint: the loop in four lines, until it is dismissed.
"""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import (
    QAbstractButton,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_hidiff._qt import preferences

KEYS = {
    "segment": "G",
    "step": "N",
    "run": "U",
    "stop": "Q",
    "rerefine": "H",
    "changes": "W",
    "alternatives": "Shift+H",
    "reject": "Shift+K",
    "next_place": "J",
    "accept": "K",
    "back": ",",
    "forth": ".",
}
"""Shortcuts, printed on the controls; free in napari and in its layers."""


def button(name: str, text: str, tip: str) -> QPushButton:
    """A button with its objectName and tooltip."""
    made = QPushButton(text)
    made.setObjectName(name)
    made.setToolTip(tip)
    return made


def text(name: str, words: str = "") -> QLabel:
    """A line that wraps and can be copied."""
    label = QLabel(words)
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def heading(words: str) -> QLabel:
    """The heading of a section."""
    label = QLabel(f"<b>{words}</b>")
    label.setWordWrap(True)
    label.setContentsMargins(0, 5, 0, 0)
    return label


def row(*widgets: QWidget) -> QWidget:
    """Widgets side by side."""
    box = QWidget()
    line = QHBoxLayout(box)
    line.setContentsMargins(0, 0, 0, 0)
    line.setSpacing(4)
    for widget in widgets:
        line.addWidget(widget)
    return box


def group(*widgets: QWidget) -> QFrame:
    """Widgets below each other in a frame."""
    box = QFrame()
    box.setFrameShape(QFrame.Shape.StyledPanel)
    column = QVBoxLayout(box)
    column.setContentsMargins(6, 4, 6, 4)
    column.setSpacing(3)
    for widget in widgets:
        column.addWidget(widget)
    return box


SIDE = 20
"""Pixels of a side of the button; a sign is drawn on a grid of 16 within."""


class Sign(QAbstractButton):
    """A button that can be down, and draws itself.

    draw : paints the sign on a grid of 16 x 16 with the pen that is set; told whether it is down.
    """

    def __init__(self, draw: Callable[[QPainter, bool], None], parent: QWidget | None = None):
        super().__init__(parent)
        self._draw = draw
        self.setCheckable(True)
        self.setFixedSize(self.sizeHint())
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)

    def sizeHint(self) -> QSize:  # Qt's name
        """As large as its sign."""
        return QSize(SIDE, SIDE)

    def paintEvent(self, event: Any) -> None:  # Qt's name
        """Draw the sign; paler where it is off, framed where the keyboard is."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        colour = QColor(self.palette().color(self.foregroundRole()))
        colour.setAlphaF(1.0 if self.isEnabled() else 0.35)
        if self.hasFocus() or (self.underMouse() and self.isEnabled()):
            frame = QColor(colour)
            frame.setAlphaF(0.4)
            painter.setPen(QPen(frame, 1))
            painter.drawRoundedRect(QRectF(0.5, 0.5, SIDE - 1, SIDE - 1), 3, 3)
        painter.translate((SIDE - 16) / 2, (SIDE - 16) / 2)
        painter.setPen(QPen(colour, 1.4))
        self._draw(painter, self.isChecked())
        painter.end()


def eye(painter: QPainter, down: bool) -> None:
    """An open eye where down; a closed one, struck out, where not."""
    lid = QPainterPath(QPointF(1, 8))
    lid.quadTo(QPointF(8, 0.5), QPointF(15, 8))
    lid.quadTo(QPointF(8, 15.5), QPointF(1, 8))
    if down:
        painter.drawPath(lid)
        painter.setBrush(painter.pen().color())
        painter.drawEllipse(QPointF(8, 8), 2.2, 2.2)
    else:
        painter.setOpacity(0.6)
        painter.drawPath(lid)
        painter.drawLine(QPointF(2.5, 14), QPointF(13.5, 2))


def padlock(painter: QPainter, down: bool) -> None:
    """A filled, closed padlock where down; an open outline where not."""
    shackle = QPainterPath(QPointF(5, 7.5))
    shackle.lineTo(5, 5)
    if down:
        shackle.arcTo(QRectF(5, 2, 6, 6), 180, -180)
        shackle.lineTo(11, 7.5)
        painter.setBrush(painter.pen().color())
    else:
        painter.setOpacity(0.6)
        shackle.arcTo(QRectF(5, 2, 6, 6), 180, -150)
    body = QRectF(3, 7.5, 10, 7)
    brush = painter.brush()
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawPath(shackle)
    painter.setBrush(brush)
    painter.drawRoundedRect(body, 1.2, 1.2)


STEPS = (
    f"<b>Segment</b> [{KEYS['segment']}]: a first mask",
    f"<b>Run</b> [{KEYS['run']}]: refine it",
    "<b>Paint</b> [2], <b>erase</b> [1] mistakes",
    f"<b>Re-refine</b> [{KEYS['rerefine']}], <b>Accept</b> [{KEYS['accept']}]",
)


class Hint(QFrame):
    """Shown until *Got it* is pressed, now and after every later start."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("hint")
        self.setStyleSheet("#hint { background: rgba(128, 128, 128, 50); border-radius: 4px; }")
        text = QLabel("<br>".join(f"{i}. {step}" for i, step in enumerate(STEPS, start=1)))
        text.setToolTip("What you paint is never changed. Preferences > HiDiff shows this again.")
        got_it = QPushButton("Got it")
        got_it.setObjectName("got_it")
        got_it.setToolTip("Do not show this again.")
        got_it.clicked.connect(self._dismiss)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 2, 4, 2)
        row.setSpacing(4)
        row.addWidget(text, stretch=1)
        row.addWidget(got_it, alignment=Qt.AlignmentFlag.AlignBottom)
        self.setVisible(preferences.hint())

    def _dismiss(self) -> None:
        self.hide()
        preferences.dismiss_hint()
