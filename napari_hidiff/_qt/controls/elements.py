"""The parts that the pages are put together from: buttons, lines, headings, signs, keys."""

from collections.abc import Callable
from typing import Any

from magicgui.widgets import CheckBox
from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_hidiff._qt import preferences


def button(name: str, text: str, tip: str) -> QPushButton:
    """A button with its objectName, its key and its tooltip."""
    key = preferences.key(name)
    made = QPushButton(f"{text}  [{key}]" if key else text)
    made.setObjectName(name)
    made.setToolTip(tip)
    return made


def check_box(name: str, text: str, tip: str, checked: bool = False) -> QCheckBox:
    """A check box with its objectName, its key and its tooltip."""
    key = preferences.key(name)
    made = QCheckBox(f"{text}  [{key}]" if key else text)
    made.setObjectName(name)
    made.setToolTip(tip)
    made.setChecked(checked)
    return made


def text(name: str, words: str = "") -> QLabel:
    """A text as long as it needs to be, that wraps and can be copied."""
    label = QLabel(words)
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


class Line(QLabel):
    """A text of a fixed height: nothing below it jumps when it changes.

    What does not fit into ``lines`` lines ends with an ellipsis and is in the tooltip.
    """

    def __init__(self, name: str, lines: int = 1, words: str = "") -> None:
        self._lines, self._words = lines, words
        super().__init__()
        self.setObjectName(name)
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setStyleSheet("padding: 0")
        self.setText(words)

    def text(self) -> str:
        """All of it, also where less is shown."""
        return self._words

    def setText(self, words: str) -> None:  # Qt's name
        """Say this."""
        self._words = words
        self._show()

    def event(self, event: QEvent) -> bool:  # Qt's name
        """As high as its lines in the font of the theme, as many words as its width takes."""
        if event.type() in (QEvent.Type.Polish, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.setFixedHeight(self._lines * self.fontMetrics().lineSpacing() + 2)
        if event.type() in (QEvent.Type.Resize, QEvent.Type.Show):
            self._show()
        return bool(super().event(event))

    def _show(self) -> None:
        words, shown = self._words.split(" "), self._words
        while len(words) > 1 and not self._fits(shown):
            words.pop()
            shown = f"{' '.join(words)} …"
        super().setText(shown)
        self.setToolTip("" if shown == self._words else self._words)

    def _fits(self, words: str) -> bool:
        metrics, width = self.fontMetrics(), max(self.width(), 1)
        flags = Qt.TextFlag.TextWordWrap | Qt.AlignmentFlag.AlignLeft
        needed = metrics.boundingRect(0, 0, width, 10_000, int(flags), words).height()
        return needed <= self._lines * metrics.lineSpacing() + 2


def heading(words: str, hint: str = "") -> QLabel:
    """The heading of a section, with a hint in small print beside it."""
    label = QLabel(heading_text(words, hint))
    label.setContentsMargins(0, 4, 0, 0)
    return label


def heading_text(words: str, hint: str = "") -> str:
    """A heading and its hint as rich text."""
    return f"<b>{words}</b> <span style='font-size: small'>&nbsp; {hint}</span>"


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


def form(*boxes: Any) -> QWidget:
    """Widgets of magicgui as rows whose labels line up."""
    rows = QWidget()
    lines = QFormLayout(rows)
    lines.setContentsMargins(0, 0, 0, 0)
    lines.setVerticalSpacing(4)
    lines.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for widget in boxes:
        named = isinstance(widget, CheckBox)  # a box that says itself what it is
        lines.addRow("" if named else widget.label, widget.native)
    return rows


def page(*sections: QWidget) -> QScrollArea:
    """Sections below each other; they scroll where there is no room for all."""
    area, inside = QScrollArea(), QWidget()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    column = QVBoxLayout(inside)
    column.setContentsMargins(6, 6, 6, 4)
    column.setSpacing(5)
    for section in sections:
        if isinstance(section, QCheckBox):  # no wider than what can be clicked
            column.addWidget(section, alignment=Qt.AlignmentFlag.AlignLeft)
        else:
            column.addWidget(section)
    column.addStretch()
    area.setWidget(inside)
    return area


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
