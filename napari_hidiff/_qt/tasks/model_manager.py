"""The dialog "Models": which models there are, what their cards say, and which one to use."""

from html import escape
from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_hidiff._qt.threads import Job, attempt
from napari_hidiff.inference import catalog
from napari_hidiff.inference.card import card_rows, card_scores, file_size

SIZE = (860, 560)
KINDS = {"bundled": "bundled", "yours": "yours", "file": "file"}


class ModelManager(QDialog):
    """List on the left, card on the right; it reads cards only, never weights.

    parent : the window.
    """

    chosen = Signal(str)
    """The name of the model to use."""
    changed = Signal()
    """A model was added."""
    removed = Signal(str)
    """The name of a model that was deleted."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("model_manager")
        self.setWindowTitle("HiDiff models")
        self.resize(*SIZE)
        self._entries: dict[str, catalog.Entry] = {}
        self._job: Job | None = None
        self.list = QListWidget()
        self.list.setObjectName("model_list")
        self.list.setMaximumWidth(240)
        self.card = QTextBrowser()
        self.card.setObjectName("model_card")
        self.card.setOpenExternalLinks(False)
        self.card.setOpenLinks(False)
        self.where = QLabel()
        self.where.setObjectName("model_folder")
        self.where.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.use = _button("model_use", "Use", "Choose this model for the image.")
        self.add = _button(
            "model_add", "Add file …", "Copy a .safetensors model into your folder; it is checked."
        )
        self.remove = _button("model_remove", "Remove", "Delete a model of yours; click twice.")
        self.folder = _button("model_open_folder", "Open folder", "Show the folder of your models.")
        self.shut = _button("model_close", "Close", "Back to the image.")
        self._lay_out()
        self.list.currentItemChanged.connect(lambda *_: self._show())
        self.list.itemDoubleClicked.connect(lambda _: self._use())
        self.use.clicked.connect(lambda: self._use())
        self.add.clicked.connect(lambda: attempt(self.add_file))
        self.remove.clicked.connect(lambda: attempt(self._remove))
        self.folder.clicked.connect(lambda: self._open_folder())
        self.shut.clicked.connect(lambda: self.close())

    def open_at(self, name: str | None) -> None:
        """Show the dialog with a model selected."""
        self.refresh(name)
        self.show()
        self.raise_()

    def refresh(self, name: str | None = None) -> None:
        """Read the cards again and select a model, a file included."""
        found = list(catalog.entries())
        if name is not None and name not in {one.name for one in found}:
            found += [catalog.entry(name)] if Path(name).is_file() else []
        self._entries = {one.name: one for one in found}
        self.list.clear()
        for one in found:
            shown = Path(one.name).name if one.kind == "file" else one.name
            item = QListWidgetItem(f"{shown}  ({KINDS[one.kind]})")
            item.setData(Qt.ItemDataRole.UserRole, one.name)
            item.setToolTip(str(one.path))
            self.list.addItem(item)
            if one.name == name:
                self.list.setCurrentItem(item)
        if self.list.currentItem() is None and found:
            self.list.setCurrentRow(0)
        self.where.setText(f"Yours: {catalog.folder()}")
        self._show()

    def selected(self) -> catalog.Entry | None:
        """The selected model."""
        item = self.list.currentItem()
        return None if item is None else self._entries[item.data(Qt.ItemDataRole.UserRole)]

    def add_file(self, path: str | Path | None = None) -> None:
        """Copy a file into the user's folder, checked in a thread; a dialog asks which."""
        if path is None:
            chosen, _ = QFileDialog.getOpenFileName(
                self, "Add a model", "", "Models (*.safetensors)"
            )
            path = chosen or None
        if path is None:
            return

        def done(added: catalog.Entry) -> None:
            show_info(f"{added.name} is among your models now.")
            self.changed.emit()
            self.refresh(added.name)

        self.add.setEnabled(False)
        self._job = Job(catalog.add, Path(path), done=done, ended=lambda: self.add.setEnabled(True))

    def _use(self) -> None:
        one = self.selected()
        if one is not None and one.card is not None:
            self.chosen.emit(one.name)
            self.close()

    def _remove(self) -> None:
        one = self.selected()
        if one is None or one.kind != "yours":
            return
        if self.remove.text() != "Really?":
            self.remove.setText("Really?")
            return
        catalog.remove(one.name)
        self.removed.emit(one.name)
        self.refresh()

    def _open_folder(self) -> None:
        catalog.folder().mkdir(parents=True, exist_ok=True)
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(catalog.folder())))

    def _show(self) -> None:
        one = self.selected()
        self.remove.setText("Remove")
        self.use.setEnabled(one is not None and one.card is not None)
        self.remove.setEnabled(one is not None and one.kind == "yours")
        self.card.setHtml("" if one is None else page(one))

    def _lay_out(self) -> None:
        panes = QHBoxLayout()
        panes.addWidget(self.list)
        panes.addWidget(self.card, 1)
        row = QHBoxLayout()
        for button in (self.use, self.add, self.remove, self.folder):
            row.addWidget(button)
        row.addStretch()
        row.addWidget(self.shut)
        column = QVBoxLayout(self)
        column.addLayout(panes, 1)
        column.addWidget(self.where)
        column.addLayout(row)


def page(entry: catalog.Entry) -> str:
    """A card as HTML, in the colours of the theme but for the swatches of the classes."""
    title = f"<h3>{escape(Path(entry.name).name)}</h3>"
    if entry.card is None:
        return f"{title}<p>It cannot be used: {escape(entry.problem or '')}</p>"
    rows = [("Classes", "<br>".join(_swatch(k.name, k.color) for k in entry.card.classes[1:]))]
    rows += [(name, escape(text)) for name, text in card_rows(entry.card)]
    rows.insert(-1, ("File", f"{file_size(entry.size)}, {escape(str(entry.path))}"))
    about, table = card_scores(entry.card)
    cells = "".join(
        f"<tr><td><b>{escape(name)}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>" for name, text in rows
    )
    scores = "<p>No scores were measured.</p>"
    if table:
        head = "".join(f"<th align='right'>&nbsp;&nbsp;{escape(cell)}</th>" for cell in table[0])
        body = "".join(
            "<tr>"
            + "".join(f"<td align='right'>&nbsp;&nbsp;{escape(c)}</td>" for c in row)
            + "</tr>"
            for row in table[1:]
        )
        scores = f"<p><b>Scores</b>: {escape(about)}</p><table><tr>{head}</tr>{body}</table>"
    first = f"<table cellpadding='2'>{cells[: cells.find('<tr><td><b>Recommends')]}</table>"
    rest = f"<table cellpadding='2'>{cells[cells.find('<tr><td><b>Recommends') :]}</table>"
    return f"{title}{first}{scores}<p></p>{rest}"


def _swatch(name: str, color: str) -> str:
    block = "&nbsp;" * 5
    return f"<span style='background-color:{escape(color)}'>{block}</span>&nbsp; {escape(name)}"


def _button(name: str, text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setObjectName(name)
    button.setToolTip(tip)
    button.setAutoDefault(False)
    return button
