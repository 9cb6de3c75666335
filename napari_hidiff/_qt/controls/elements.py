"""The parts that the sections of the widget are put together from."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget


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
