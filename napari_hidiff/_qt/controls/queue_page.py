"""The page *Queue*: the images of a folder, and what state each is in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QHeaderView, QTreeView, QVBoxLayout, QWidget

from napari_hidiff._qt import preferences
from napari_hidiff._qt.controls import elements
from napari_hidiff._qt.controls.elements import Line
from napari_hidiff._qt.controls.own_box import OwnBox
from napari_hidiff.annotation.folder.queue import Item

NAMES = "Image", "State"
TOLD = {
    "to do": "No mask yet.",
    "drafted": "A first mask waits; nobody has looked at it.",
    "begun": "A mask was saved; it is not done.",
    "done": "The mask was saved and is final.",
}
"""What the states mean."""
UNREADABLE = "not readable"
NONE = "No folder is open. Press Open folder, or drop a folder, or its images, here."


class QueuePage(QWidget):
    """It knows no layer and no model."""

    chosen = Signal(str)
    """The name of an image that was clicked."""

    def __init__(self) -> None:
        super().__init__()
        self.open_folder = elements.button(
            "open_folder", "Open folder …", "List the images of a folder, to annotate one by one."
        )
        self.masks_to = elements.button(
            "masks_to", "Masks to …", "Choose where masks are written; else beside the images."
        )
        self.drafts = elements.check_box(
            "drafts",
            "Drafts for the waiting images",
            "While you work, the chosen model makes first masks for the images that wait, in a "
            "process of its own with low priority. Images that it does not fit are left.",
            preferences.drafts(),
        )
        self.useful = elements.check_box(
            "useful",
            "Most useful image first",
            "Next image opens the draft of which the model is least sure for its size; images "
            "without a draft come last. Else the images come in order.",
            preferences.useful_first(),
        )
        self.drafts_line = Line("drafts_line", 1)
        self.none = elements.text("no_queue", NONE)
        self.folder_line = Line("folder", 1)
        self.masks_line = Line("masks", 1)
        self.state_line = Line("queue_state", 2)
        self.state_line.setStyleSheet("padding: 0; font-style: italic")
        self.model = ItemsModel()
        self.table = _table(self.model)
        self.own = OwnBox()
        self.table.clicked.connect(self._clicked)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 4)
        column.setSpacing(5)
        for part in (
            elements.row(self.open_folder, self.masks_to),
            self.none,
            self.folder_line,
            self.masks_line,
            self.drafts,
            self.drafts_line,
            self.useful,
        ):
            column.addWidget(part)
        column.addWidget(self.table, 1)
        column.addWidget(self.state_line)
        column.addWidget(self.own)
        column.addStretch()
        self.show_queue(None)

    def show_queue(self, about: tuple[Path, Path] | None, items: Sequence[Item] = ()) -> None:
        """Show the images of a queue. about : its folder, and that of the masks; None = no queue is
        open."""
        lines = self.folder_line, self.masks_line, self.drafts_line, self.state_line
        for part in (*lines, self.drafts, self.useful, self.table):
            part.setVisible(about is not None)
        self.none.setVisible(about is None)
        self.masks_to.setEnabled(about is not None)
        if about is not None:
            images, masks = about
            self.folder_line.setText(f"Images: {images.name or images}")
            self.folder_line.setToolTip(str(images))
            where = "beside the images" if masks == images else masks.name or str(masks)
            self.masks_line.setText(f"Masks: {where}")
            self.masks_line.setToolTip(str(masks))
        self.model.show(items)

    def update_state(self, item: Item | None, said: str) -> None:
        """Say which image is shown, what it is about, and show the states as they are now."""
        self.state_line.setText(said)
        self.model.shown = item
        self.model.refresh()
        if item is not None:
            at = self.model.index(self.model.row(item), 0)
            self.table.setCurrentIndex(at)
            self.table.scrollTo(at)

    def _clicked(self, at: QModelIndex) -> None:
        self.chosen.emit(self.model.items[at.row()].name)


class ItemsModel(QAbstractTableModel):
    """The images as rows of name and state; a row is looked at when it is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.items: Sequence[Item] = ()
        self.shown: Item | None = None
        """The image that is shown."""
        self._rows: dict[str, int] = {}

    def show(self, items: Sequence[Item]) -> None:
        """Have these images as rows."""
        self.beginResetModel()
        self.items, self.shown = items, None
        self._rows = {item.name: row for row, item in enumerate(items)}
        self.endResetModel()

    def row(self, item: Item) -> int:
        """The row of an image."""
        return self._rows[item.name]

    def refresh(self) -> None:
        """States have changed."""
        if self.items:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self.items) - 1, 1))

    def rowCount(self, parent: Any = None) -> int:  # Qt's name
        """One row for each image; rows have none below them."""
        return 0 if parent is not None and parent.isValid() else len(self.items)

    def columnCount(self, parent: Any = None) -> int:  # Qt's name
        """Name and state."""
        return len(NAMES)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:  # Qt's name
        """The headings of the columns."""
        shown = orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole
        return NAMES[section] if shown else None

    def data(self, index: Any, role: int = 0) -> Any:
        """What a cell shows; its tooltip says what the state means."""
        item = self.items[index.row()]
        state = UNREADABLE if item.problem else item.state
        if role == Qt.ItemDataRole.DisplayRole:
            return (item.name, state)[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return item.problem or f"{item.name}: {TOLD[item.state]}{_benefit(item)}"
        if role == Qt.ItemDataRole.FontRole and item is self.shown:
            font = QFont()
            font.setBold(True)
            return font
        return None


def _benefit(item: Item) -> str:
    known = item.state == "drafted" and item.benefit is not None
    return f" Benefit of correcting it: {item.benefit:.2f}." if known else ""


def _table(model: ItemsModel) -> QTreeView:
    table = QTreeView()
    table.setObjectName("queue")
    table.setToolTip("Click an image to open it; the mask of the shown one is saved before.")
    table.setModel(model)
    table.setRootIsDecorated(False)
    table.setUniformRowHeights(True)
    table.setStyleSheet("QTreeView::item { height: 20px; }")
    table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
    across = table.header()
    across.setStretchLastSection(False)
    across.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    across.setSectionResizeMode(1, QHeaderView.ResizeMode.Fixed)
    across.resizeSection(1, 92)
    return table
