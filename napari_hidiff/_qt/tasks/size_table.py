"""The table of sizes: how large every class and object of a mask is, to look at and to save."""

from pathlib import Path

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls import elements
from napari_hidiff._qt.files import suggestion
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.layers.layer_data import spacing_of
from napari_hidiff._qt.threads import Job, attempt
from napari_hidiff.io.record import CLASSES, labels_of
from napari_hidiff.sizes import COLUMNS, Size, cells, sizes_of, write_sizes

MOST = 500
"""Rows that are shown; the file has all."""


class SizeTable(QDialog):
    """Counts in a thread and shows what it found."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("size_table")
        self.setWindowTitle("Sizes")
        self.resize(420, 360)
        self.line = elements.text("sizes_line")
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setObjectName("sizes_rows")
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        for corner in self.table.findChildren(QAbstractButton):
            corner.setToolTip("Select all rows.")
        self.save = elements.button("sizes_save", "Save as CSV …", "Write all rows into a table.")
        self.save.clicked.connect(lambda: attempt(self.write))
        column = QVBoxLayout(self)
        for part in (self.line, self.table, self.save):
            column.addWidget(part)
        self._found: list[Size] = []
        self._proposed, self._name = Path("sizes.csv"), ""
        self._job: Job | None = None

    def count(self, annotated: AnnotatedImage) -> None:
        """Show the sizes in the whole mask of an image, as it is now."""
        mask = annotated.mask
        self._name = annotated.image.name
        beside = suggestion(annotated.image, mask)
        self._proposed = beside.with_name(f"{beside.name.split('.')[0]}_sizes.csv")
        self._fill([])
        self.line.setText("Counting …")
        self.save.setEnabled(False)
        self.show()
        self.raise_()
        self.close_job()
        spacing = spacing_of(annotated.image, annotated.leading)
        classes = labels_of(mask.metadata.get(CLASSES))
        self._job = Job(sizes_of, np.array(mask.data), classes, spacing, done=self._counted)

    def write(self, path: Path | str | None = None) -> None:
        """Save all rows; without ``path`` a dialog asks for it. InputError if it cannot be."""
        if path is None:
            path, _ = QFileDialog.getSaveFileName(
                self, "Save the sizes", str(self._proposed), "Tables (*.csv)"
            )
        if path:
            write_sizes(Path(path), ((self._name, size) for size in self._found))
            show_info(f"Saved: {Path(path).name} in {Path(path).parent}")

    def close_job(self) -> None:
        """Wait for no count any more."""
        if self._job is not None:
            self._job.cancel()
            self._job = None

    def _counted(self, found: list[Size]) -> None:
        self._job = None
        self._found = found
        self.line.setText(messages.sizes(self._name, found, MOST))
        self.save.setEnabled(bool(found))
        self._fill(found[:MOST])

    def _fill(self, found: list[Size]) -> None:
        self.table.setRowCount(len(found))
        for row, size in enumerate(found):
            for column, text in enumerate(cells(size)):
                self.table.setItem(row, column, QTableWidgetItem(text))
        self.table.resizeColumnsToContents()
