"""Sections of the panel: channels, many slices, learning from corrections; they start nothing."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary, ref

from napari.layers import Image
from qtpy.QtCore import QPointF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QProgressBar,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_hidiff._qt.controls import elements
from napari_hidiff._qt.preferences import ARROWS, HEADING
from napari_hidiff.inference.stack import guess

NOTHING = "choose a layer …"


class ChannelBox(QWidget):
    """A row for every channel of a model; hidden where one layer has them all.

    The rows fold into one line as soon as every channel has its layer: there is work below them.
    """

    changed = Signal()
    """The user chose another layer."""
    rebuilt = Signal()
    """There are other rows."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("channels")
        self._rows: list[QComboBox] = []
        self._channels: tuple[str, ...] = ()
        self._layers: list[Image] = []
        # What the user chose, per image and channel; a layer that was removed must not stay.
        self._chosen: WeakKeyDictionary[Image, dict[str, ref[Image]]] = WeakKeyDictionary()
        self._image: Image | None = None
        self._title = QPushButton()
        self._title.setObjectName("channels_title")
        self._title.setToolTip("Which layer is which channel of the model; open to change it.")
        self._title.setStyleSheet(HEADING)
        self._title.setCheckable(True)
        self._title.toggled.connect(self._show_rows)
        self._inside = QWidget()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._title)
        column.addWidget(self._inside)
        self._folded_for: tuple[Image, bool] | None = None  # an image, and whether it was complete
        self._form = QFormLayout(self._inside)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.setVerticalSpacing(4)
        self._form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.setVisible(False)

    def ask(self, image: Image, channels: Sequence[str], layers: Sequence[Image]) -> None:
        """Ask for the channels of ``image``; ``layers`` are those that lie over it, it included."""
        names = [layer.name for layer in layers]
        texts = [NOTHING, *names]
        if tuple(channels) != self._channels:
            self._channels = tuple(channels)
            while self._form.rowCount():
                self._form.removeRow(0)
            self._rows = [self._row(channel) for channel in channels]
            self.rebuilt.emit()
        self._image, self._layers = image, list(layers)
        guessed = guess(channels, names)
        for row, channel, at in zip(self._rows, channels, guessed, strict=True):
            mine = self._chosen.get(image, {}).get(channel)
            if mine is not None:
                chosen = mine()
                at = self._layers.index(chosen) if chosen in self._layers else None
            row.blockSignals(True)
            if [row.itemText(item) for item in range(row.count())] != texts:
                row.clear()
                row.addItems(texts)
            row.setCurrentIndex(0 if at is None else at + 1)
            row.blockSignals(False)
        if self._folded_for != (image, self.complete):  # otherwise as the user left it
            self._folded_for = image, self.complete
            self._title.setChecked(not self.complete)
        self._show_rows(self._title.isChecked())
        self.setVisible(True)

    def hide_rows(self) -> None:
        """One layer has every channel."""
        self._image, self._layers = None, []
        self.setVisible(False)

    @property
    def complete(self) -> bool:
        """Whether every channel has a layer."""
        return bool(self._rows) and self._image is not None and not self.missing

    @property
    def missing(self) -> list[str]:
        """Channels without a layer."""
        return [
            channel
            for row, channel in zip(self._rows, self._channels, strict=True)
            if not row.currentIndex()
        ]

    @property
    def chosen(self) -> list[Image]:
        """The layers of the channels, in the model's order; of those that have one."""
        return [self._layers[row.currentIndex() - 1] for row in self._rows if row.currentIndex()]

    def _show_rows(self, shown: bool) -> None:
        self._inside.setVisible(shown)
        named = (
            f"Channels: {', '.join(self._channels)}" if self.complete else "One layer per channel"
        )
        self._title.setText(f"{ARROWS[shown]} {named}")

    def _row(self, channel: str) -> QComboBox:
        row = QComboBox()
        row.setObjectName(f"channel_{channel}")
        row.setToolTip(f"The layer that is {channel}; guessed from the names of the layers.")
        row.setMinimumContentsLength(8)
        row.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        row.currentIndexChanged.connect(lambda at, name=channel: self._choose(name, at))
        self._form.addRow(channel, row)
        return row

    def _choose(self, channel: str, at: int) -> None:
        if self._image is None:
            return
        mine = self._chosen.setdefault(self._image, {})
        if at:
            mine[channel] = ref(self._layers[at - 1])
        else:
            mine.pop(channel, None)
        self.changed.emit()


class SliceRange(QWidget):
    """Which slices, along which axis, and what is seldom done to them."""

    turned = Signal(int)
    """The axis that the user wants slices along."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("volume")
        self.axis = QComboBox()
        self.axis.setObjectName("axis")
        self.axis.setToolTip("The axis that slices follow each other along; the view turns.")
        self.axis.activated.connect(self.turned)
        self.first, self.last = _spin("first_slice", "from "), _spin("last_slice", "to ")
        self.segment = elements.button(
            "segment_slices", "First masks", "The model's first mask of each slice, not refined."
        )
        self.fill = elements.button(
            "fill_slices",
            "Fill between",
            "Fill the slices between those that have strokes of yours or are done: from the shapes "
            "on both sides, refined.",
        )
        self.carry_back = elements.button(
            "carry_back", "◀ Carry", "Carry the correction to the slices before this one alone."
        )
        self.carry_on = elements.button(
            "carry_on", "Carry ▶", "Carry the correction to the slices behind this one alone."
        )
        self.take_back = elements.button(
            "take_back", "Undo all slices", "Undo the last change of many slices; strokes stay."
        )
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        grid.addWidget(elements.heading("All slices"), 0, 0)
        grid.addWidget(self.axis, 0, 1)
        grid.addWidget(self.first, 1, 0)
        grid.addWidget(self.last, 1, 1)
        grid.addWidget(self.segment, 2, 0)
        grid.addWidget(self.fill, 2, 1)
        grid.addWidget(self.carry_back, 3, 0)
        grid.addWidget(self.carry_on, 3, 1)
        grid.addWidget(self.take_back, 4, 0, 1, 2)
        for column in (0, 1):
            grid.setColumnStretch(column, 1)
        self.setVisible(False)

    @property
    def range(self) -> tuple[int, int]:
        """The first and the last slice, both included."""
        return self.first.value(), self.last.value()

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


LOSS, DICE = "#909090", "#35d05b"
Points = Sequence[tuple[float, float]]


class Curve(QWidget):
    """The loss (grey, scaled to its own range) and the held-out Dice (green) over the run."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("tune_curve")
        self.setFixedHeight(72)
        self.setToolTip("Grey: the loss. Green: Dice of held-out images, which decides nothing.")
        self.losses: Points = ()
        self.dice: Points = ()

    def draw(self, losses: Points, dice: Points) -> None:
        """Show these points, (0..1 of the run, value)."""
        self.losses, self.dice = list(losses), list(dice)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Two lines, and the last value of each."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        painter.setPen(QPen(QColor(text.red(), text.green(), text.blue(), 60)))
        painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        for points, color, name in ((self.losses, LOSS, "loss"), (self.dice, DICE, "Dice")):
            self._line(painter, points, QColor(color))
            if points:
                side = Qt.AlignmentFlag.AlignLeft if name == "loss" else Qt.AlignmentFlag.AlignRight
                where = self.rect().adjusted(4, 2, -4, -2)
                painter.drawText(
                    where, side | Qt.AlignmentFlag.AlignTop, f"{name} {points[-1][1]:.3f}"
                )
        painter.end()

    def _line(self, painter: QPainter, points: Points, color: QColor) -> None:
        painter.setPen(QPen(color, 1.6))
        if not points:
            return
        values = [value for _, value in points]
        low, span = min(values), max(max(values) - min(values), 1e-6)
        width, height, top = self.width() - 8, self.height() - 28, 22
        line = [
            QPointF(4 + x * width, top + height * (1 - (value - low) / span)) for x, value in points
        ]
        if len(line) == 1:
            painter.drawEllipse(line[0], 2, 2)
        painter.drawPolyline(QPolygonF(line))


class LearnBox(QCollapsible):
    """What is in the training set, and the fine-tuning under way."""

    def __init__(self) -> None:
        super().__init__("Learn from corrections")
        self.setObjectName("learn")
        self.contents = elements.text("learn_set")
        self.add = elements.button(
            "add_example",
            "Add to training set",
            "Store this image with its accepted mask; again for the same image: replace it.",
        )
        self.tune = elements.button(
            "fine_tune",
            "Fine-tune",
            "Train a copy of the model on the set, beside your work, with low priority.",
        )
        self.stop = elements.button(
            "tune_stop", "Stop", "Stop with a checkpoint; Resume goes on from it."
        )
        self.go_on = elements.button(
            "tune_go_on", "Resume", "Go on with the fine-tuning that was stopped."
        )
        self.bar = QProgressBar()
        self.bar.setObjectName("tune_progress")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.bar.setRange(0, 1000)
        self.line = elements.text("tune_line")
        self.curve = Curve()
        self.table = elements.text("tune_table")
        self.use = elements.button(
            "use_tuned", "Use new model", "Choose the tuned model; the old one stays as it is."
        )
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for part in (
            self.contents,
            self.add,
            elements.row(self.tune, self.go_on, self.stop),
            self.bar,
            self.line,
            self.curve,
            self.table,
            self.use,
        ):
            column.addWidget(part)
        self.addWidget(inside)
        self.show_run(None, "")
        self.show_scores("")

    def show_run(self, share: float | None, line: str) -> None:
        """The bar at 0..1, or no bar, and a line about the run."""
        self.bar.setVisible(share is not None)
        self.bar.setValue(int(1000 * (share or 0)))
        self.line.setText(line)
        self.line.setVisible(bool(line))
        self.curve.setVisible(bool(self.curve.losses))

    def show_scores(self, html: str) -> None:
        """The table of scores before and after, with the button that takes the new model."""
        self.table.setText(html)
        self.table.setVisible(bool(html))
        self.use.setVisible(bool(html))
