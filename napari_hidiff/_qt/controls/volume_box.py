"""The controls for many slices at once; hidden where an image has only one."""

from collections.abc import Callable, Sequence

from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QSpinBox, QWidget

from napari_hidiff._qt.controls import elements

KEYS = {
    "segment_slices": "Shift+G",
    "refine_slices": "Shift+U",
    "carry_back": "Shift+B",
    "carry_on": "Shift+F",
    "take_back": "Shift+Q",
}


class VolumeBox(QWidget):
    """Which slices, and what to do with them.

    turned : called with the axis that the user wants slices along.
    """

    def __init__(self, turned: Callable[[int], None]) -> None:
        super().__init__()
        self.setObjectName("volume")
        self.axis = QComboBox()
        self.axis.setObjectName("axis")
        self.axis.setToolTip("The axis that slices follow each other along; the view turns.")
        self.axis.activated.connect(turned)
        self.first, self.last = _spin("first_slice", "from "), _spin("last_slice", "to ")
        self.segment = _button("segment_slices", "Segment", "The model's first mask of each slice.")
        self.refine = _button(
            "refine_slices",
            "Refine",
            "Refine each slice as set below, strokes fixed; slices without a mask are segmented.",
        )
        self.carry_back = _button(
            "carry_back",
            "◀ Carry",
            "Carry what you corrected in the shown slice to the slices before it, one by one, "
            "until one hardly changes.",
        )
        self.carry_on = _button(
            "carry_on",
            "Carry ▶",
            "Carry what you corrected in the shown slice to the slices behind it, one by one, "
            "until one hardly changes.",
        )
        self.take_back = _button(
            "take_back", "Take back", "Take back what was done to many slices last, strokes stay."
        )
        self.line = QLabel()
        self.line.setObjectName("slices")
        self.line.setWordWrap(True)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        rows: tuple[tuple[QWidget, QWidget], ...] = (
            (QLabel("<b>Slices</b>"), self.axis),
            (self.first, self.last),
            (self.segment, self.refine),
            (self.carry_back, self.carry_on),
            (self.take_back, self.line),
        )
        for row, pair in enumerate(rows):
            for column, part in enumerate(pair):
                grid.addWidget(part, row, column)
        for column in (0, 1):
            grid.setColumnStretch(column, 1)
        self.setVisible(False)

    @property
    def buttons(self) -> tuple[QPushButton, ...]:
        """All of them, each with the objectName of what it does."""
        return (self.segment, self.refine, self.carry_back, self.carry_on, self.take_back)

    def offer(self, names: Sequence[str], axis: int, count: int) -> None:
        """Offer the axes of an image, of which ``axis`` has ``count`` slices one can go through.

        The range becomes all slices where it was another axis, or another number of slices.
        """
        texts = [f"along {name}" for name in names]
        if [self.axis.itemText(at) for at in range(self.axis.count())] != texts:
            self.axis.clear()
            self.axis.addItems(texts)
        if self.axis.currentIndex() != axis or self.last.maximum() != count - 1:
            for spin, value in ((self.first, 0), (self.last, count - 1)):
                spin.setMaximum(count - 1)
                spin.setValue(value)
        self.axis.setCurrentIndex(axis)
        self.setVisible(True)


def _spin(name: str, prefix: str) -> QSpinBox:
    spin = QSpinBox()
    spin.setPrefix(prefix)
    spin.setMinimumWidth(60)
    spin.setObjectName(name)
    spin.setToolTip("The slices to work on, first and last, both included.")
    return spin


def _button(name: str, text: str, tip: str) -> QPushButton:
    return elements.button(name, f"{text} [{KEYS[name]}]", tip)
