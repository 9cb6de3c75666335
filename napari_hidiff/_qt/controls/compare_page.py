"""What the widget *HiDiff compare* looks like: two masks, a table, the next disagreement."""

from collections.abc import Sequence

from napari.layers import Labels
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_hidiff._qt.controls import elements
from napari_hidiff._qt.controls.focus import FocusGuard
from napari_hidiff.agreement import Agreement, Comparison, cells
from napari_hidiff.io.record import RATER
from napari_hidiff.masks import ADDED, RELABELLED, REMOVED
from napari_hidiff.surfaces import TOLERANCE

COLOURS: dict[int | None, str] = {
    None: "transparent",
    0: "transparent",
    REMOVED: "#00c8ff",
    ADDED: "#ff2bd6",
    RELABELLED: "#ffe000",
}
"""Of the layer that shows where two masks disagree; seen on grey, red and brown images."""
SHOWN = ("class", "Dice", "NSD", "distance", "HD95")
TIPS = {
    "Dice": "Overlap, 0 to 1: twice the shared pixels, by those of both masks.",
    "NSD": "Share of both outlines that lies within the tolerance of the other, 0 to 1.",
    "distance": "Mean distance of each outline from the other.",
    "HD95": "95 of 100 pixels of each outline are no farther from the other.",
}
MOST = 200.0


class ComparePage(QWidget):
    """It knows no viewer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _box("first_mask", "The mask of one rater.")
        self.second = _box("second_mask", "The mask of the other rater.")
        self.tolerance = QDoubleSpinBox()
        self.tolerance.setObjectName("tolerance")
        self.tolerance.setRange(0, MOST)
        self.tolerance.setSingleStep(0.5)
        self.tolerance.setValue(TOLERANCE)
        self.tolerance.setToolTip(
            "Distance at which two outlines still agree: mm, or pixels where the image says no "
            "pixel size."
        )
        self.compare = elements.button("compare_masks", "Compare", "Count, and show where.")
        self.table = QTableWidget(0, len(SHOWN))
        self.table.setObjectName("agreement")
        for column, name in enumerate(SHOWN):
            title = QTableWidgetItem(name)
            title.setToolTip(TIPS.get(name, ""))
            self.table.setHorizontalHeaderItem(column, title)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        for corner in self.table.findChildren(QAbstractButton):
            corner.setToolTip("Select all rows.")
        self.units = elements.text("agreement_units")
        self.colours = elements.text("agreement_colours")
        self.next = elements.button(
            "next_disagreement",
            "Next disagreement",
            "Go to the next place where the masks differ by more than the tolerance, the largest "
            "first.",
        )
        self.place = elements.Line("disagreement", 2)
        self.save = elements.button("agreement_save", "Save as CSV …", "Write the table.")
        form = QWidget()
        rows = QFormLayout(form)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.addRow("First", self.first)
        rows.addRow("Second", self.second)
        rows.addRow("Tolerance", self.tolerance)
        column_ = QVBoxLayout(self)
        column_.setContentsMargins(6, 6, 6, 4)
        for part in (form, self.compare):
            column_.addWidget(part)
        column_.addWidget(self.table, 1)
        for part in (self.units, self.colours, self.next, self.place, self.save):
            column_.addWidget(part)
        FocusGuard(self).watch(self)
        self.show_nothing("Choose two masks of one image.")

    def offer(self, layers: Sequence[Labels], chosen: tuple[Labels | None, Labels | None]) -> None:
        """List Labels layers to choose from, and choose two."""
        for box, layer in zip((self.first, self.second), chosen, strict=True):
            blocker = QSignalBlocker(box)
            box.clear()
            for one in layers:
                box.addItem(called(one), one)
            box.setCurrentIndex(-1 if layer is None else list(layers).index(layer))
            blocker.unblock()
        self.compare.setEnabled(len(layers) > 1)

    @property
    def chosen(self) -> tuple[Labels | None, Labels | None]:
        """The two layers."""
        return self.first.currentData(), self.second.currentData()

    def show_nothing(self, why: str) -> None:
        """There is no result: it is being counted, or nothing was compared."""
        self.table.setRowCount(0)
        self.units.setText(why)
        self.colours.setText("")
        self.place.setText("")
        for button in (self.next, self.save):
            button.setEnabled(False)

    def show_result(self, found: Comparison, names: tuple[str, str]) -> None:
        """Show the table of two masks of these names, and what the colours say."""
        self._fill(found.rows)
        at = f"Distances in {found.unit}, NSD at {found.tolerance:g} {found.unit}."
        self.units.setText(" ".join([at, *found.notes]))
        said = {REMOVED: f"only {names[0]}", ADDED: f"only {names[1]}", RELABELLED: "another class"}
        here = [kind for kind in said if (found.kinds == kind).any()]
        self.colours.setText(
            "<br>".join(f"<font color='{COLOURS[kind]}'>■</font> {said[kind]}" for kind in here)
            or "No pixel differs."
        )
        self.save.setEnabled(bool(found.rows))
        self.next.setEnabled(bool(found.places))
        count = len(found.places)
        beyond = f"differ by more than {found.tolerance:g} {found.unit}."
        self.place.setText(f"{count:,} {'places' if count != 1 else 'place'} {beyond}")

    def _fill(self, rows: Sequence[Agreement]) -> None:
        self.table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            _, name, _, _, *scores, _ = cells(row)
            for column, text in enumerate((name, *scores)):
                item = QTableWidgetItem(text)
                item.setToolTip(f"Label {row.label}: {row.first:,} and {row.second:,} pixels")
                self.table.setItem(number, column, item)
        self.table.resizeColumnsToContents()


def called(layer: Labels) -> str:
    """A mask by its name, and by who annotated it where that is known."""
    rater = layer.metadata.get(RATER)
    return f"{layer.name} ({rater})" if rater else str(layer.name)


def _box(name: str, tip: str) -> QComboBox:
    made = QComboBox()
    made.setObjectName(name)
    made.setToolTip(tip)
    made.setMinimumContentsLength(8)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return made
