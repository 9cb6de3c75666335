"""The class list: one row per class with its colour, its pixels, an eye and a padlock."""

from collections.abc import Callable, Mapping, Sequence

from qtpy.QtCore import Qt, Signal, SignalInstance
from qtpy.QtWidgets import (
    QFrame,
    QGridLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_hidiff._qt.controls.elements import SIDE, Sign, eye, padlock
from napari_hidiff.masks import Label

ROWS, FEWEST = 6, 4
"""Rows that are shown at once, on a large and on a small screen; more scroll."""

TALL = 720
"""Pixels of a panel from which on the screen is large."""

NAME = (
    "QPushButton { text-align: left; border: none; padding: 0 4px; background: transparent; }"
    "QPushButton:hover { background: rgba(128, 128, 128, 60); }"
    "QPushButton:checked { background: rgba(128, 128, 128, 110); font-weight: bold; }"
)
"""The look of a class's name; the one that is painted with stands out in either theme."""


class ClassesBox(QWidget):
    """Shows classes and asks; it knows no layer."""

    chosen = Signal(int)
    """The label of a row that was clicked."""
    shown = Signal(int, bool)
    """A label, and whether its eye is open now."""
    frozen = Signal(int, bool)
    """A label, and whether its padlock is closed now."""
    rebuilt = Signal()
    """There are other rows."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("classes")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._most = ROWS
        self._names: dict[int, QPushButton] = {}
        self._counts: dict[int, QLabel] = {}
        self._eyes: dict[int, Sign] = {}
        self._locks: dict[int, Sign] = {}
        self._shown: tuple[Label, ...] = ()
        self._more = False
        self._area = QScrollArea()
        self._area.setFrameShape(QFrame.Shape.NoFrame)
        self._area.setWidgetResizable(True)
        self._area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._area)
        self.offer(())

    def offer(self, classes: Sequence[Label], more: bool = False) -> None:
        """Show these classes, background first, where there are several to choose from.

        more : objects are added to them one by one; they have their place from the first on, so
        that no control moves.
        """
        classes = tuple(classes)
        self.setVisible(more or len(classes) > 2)
        if (classes, more) == (self._shown, self._more):
            return
        self._shown, self._more = classes, more
        for known in (self._names, self._counts, self._eyes, self._locks):
            known.clear()
        inside = QWidget()
        rows = QGridLayout(inside)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setHorizontalSpacing(4)
        rows.setVerticalSpacing(0)
        rows.setColumnStretch(1, 1)
        for label, kind in enumerate(classes):
            if label:
                for column, part in enumerate(self._row(label, kind)):
                    rows.addWidget(part, label, column)
        rows.setRowStretch(len(classes), 1)  # the first one stays on top
        self._area.setWidget(inside)
        self.rebuilt.emit()
        self._set_height()

    def fit(self, height: int) -> None:
        """Leave the other controls their place in a panel of so many pixels."""
        self._most = ROWS if height >= TALL else FEWEST
        self._set_height()

    def _set_height(self) -> None:
        rows = FEWEST if self._more else min(max(len(self._shown) - 1, 1), self._most)
        self._area.setFixedHeight(rows * (SIDE + 2))

    def update_state(
        self,
        ready: bool,
        selected: int | None,
        hidden: set[int],
        frozen: set[int],
        counts: Mapping[int, int],
    ) -> None:
        """Say what stands.

        ready : whether there is a mask to act on. selected : the label that is painted with.
        hidden, frozen : labels. counts : pixels per label in the shown slice.
        """
        for label, name in self._names.items():
            before = name.isChecked()
            name.setEnabled(ready)
            name.setChecked(ready and label == selected)
            if name.isChecked() and not before:
                self._area.ensureWidgetVisible(name, 0, 0)
            for sign, down in (
                (self._eyes[label], label not in hidden),
                (self._locks[label], label in frozen),
            ):
                sign.setEnabled(ready)
                sign.setChecked(down)
            count = counts.get(label, 0)
            self._counts[label].setText(f"{count:,}" if ready else "")

    def _row(self, label: int, kind: Label) -> tuple[QWidget, ...]:
        swatch = QLabel()
        swatch.setFixedSize(12, 12)
        swatch.setStyleSheet(f"background: {kind.color}; border-radius: 2px;")
        swatch.setToolTip(f"The colour of {kind.name} in the mask.")
        name = QPushButton()
        name.setObjectName(f"class_{label}")
        name.setText(kind.name)
        name.setCheckable(True)
        name.setStyleSheet(NAME)
        name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        name.setFixedHeight(SIDE)
        name.setToolTip(f"Paint with {kind.name}, label {label} (napari's - and = go through all).")
        name.clicked.connect(lambda _=False: self.chosen.emit(label))
        count = QLabel()
        count.setObjectName(f"count_{label}")
        count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        count.setToolTip(f"Pixels of {kind.name} in the shown slice.")
        looks = self._sign("eye", label, eye, self.shown)
        looks.setToolTip(f"Show or hide {kind.name}; the mask stays as it is.")
        lock = self._sign("lock", label, padlock, self.frozen)
        lock.setToolTip(
            f"Freeze {kind.name}: no stroke, result or undo changes where it is, "
            "and results are told of it."
        )
        self._names[label], self._counts[label] = name, count
        self._eyes[label], self._locks[label] = looks, lock
        return swatch, name, count, looks, lock

    def _sign(
        self, kind: str, label: int, draw: Callable[..., None], asked: SignalInstance
    ) -> Sign:
        sign = Sign(draw)
        sign.setObjectName(f"{kind}_{label}")
        sign.setAccessibleName(f"{kind} {label}")
        sign.clicked.connect(lambda down: asked.emit(label, down))
        return sign
