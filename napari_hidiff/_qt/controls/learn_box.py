"""The section "Learn from corrections" of the panel. It shows and asks; it starts nothing."""

from collections.abc import Sequence

from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_hidiff._qt.controls import elements

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
            "tune_stop", "Stop", "Stop with a checkpoint; Go on goes on from it."
        )
        self.go_on = elements.button(
            "tune_go_on", "Go on", "Go on with the fine-tuning that was stopped."
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
