"""Small signs for buttons, drawn in the colour that the theme gives to text."""

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QAbstractButton, QWidget

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
