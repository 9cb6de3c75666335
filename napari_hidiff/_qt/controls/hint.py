"""The first-run hint: the loop in four lines, until it is dismissed."""

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton

from napari_hidiff._qt import preferences
from napari_hidiff._qt.controls.panel import KEYS

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
