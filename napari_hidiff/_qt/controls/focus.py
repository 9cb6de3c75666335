"""Who gets wheel and keys: no control changes under a passing wheel, and keys stay the canvas's."""

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import QFocusEvent, QKeyEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractScrollArea,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QMainWindow,
    QScrollBar,
    QTabBar,
    QTextEdit,
    QWidget,
)

CLICKED = (QAbstractButton, QAbstractSlider, QTabBar)
"""Controls that are done with a click: the Tab key alone gives them the focus."""
TYPED = (QComboBox, QAbstractSpinBox)
"""Controls that keep the focus while something is chosen or typed."""
READ = (QLabel, QAbstractScrollArea)
"""Parts that need no focus at all."""


CONFIRMING = (Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter)


class FocusGuard(QObject):
    """Watches controls: the wheel changes the focused one alone, and after each click the keys
    (Space, arrows, letters) go to napari's canvas again.

    A control that is disabled while it works would else hand the focus to its neighbour, which
    the next press of Space then operates.

    panel : the guard's owner.
    """

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        self._panel = panel
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._focus_canvas)

    def watch(self, part: QWidget) -> None:
        """Watch a widget and all that is in it now."""
        for widget in (part, *part.findChildren(QWidget)):
            if isinstance(widget, READ) and not isinstance(widget, (QTextEdit, QScrollBar)):
                widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            elif isinstance(widget, TYPED):
                widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
                widget.installEventFilter(self)
            elif isinstance(widget, CLICKED) and not isinstance(widget, QScrollBar):
                widget.setFocusPolicy(Qt.FocusPolicy.TabFocus)
                widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # Qt's name
        """Let a passing wheel scroll the panel; give the focus back after a click or a choice."""
        kind, choice = event.type(), isinstance(watched, QComboBox)
        if kind == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()  # it goes on to the panel, which scrolls
            return True
        if isinstance(event, QFocusEvent):
            chosen = event.gotFocus() and event.reason() == Qt.FocusReason.PopupFocusReason
            done = choice and chosen
        elif isinstance(event, QKeyEvent):
            done = kind == QEvent.Type.KeyRelease and event.key() in CONFIRMING and not choice
        else:
            done = kind == QEvent.Type.MouseButtonRelease and not choice
        if done:
            self._timer.start()  # not before the control has done what it was clicked for
        return False

    def _focus_canvas(self) -> None:
        """Focus napari's window, which hands keys to its canvas; a floating dock is another one."""
        parent = self._panel.parentWidget()
        while parent is not None and not isinstance(parent, QMainWindow):
            parent = parent.parentWidget()
        if parent is not None:
            parent.setFocus()
