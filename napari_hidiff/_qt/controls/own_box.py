"""What the page *Queue* says about a segmentor of one's own."""

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_hidiff._qt.controls import elements


class OwnBox(QWidget):
    """An offer to train, and how far a training is. It knows no model."""

    def __init__(self) -> None:
        super().__init__()
        self.line = elements.text("own_line")
        self.train = elements.button(
            "own_train",
            "Train on done images",
            "Teach a small network on the masks that are done, beside your work, with low "
            "priority. It is used only where it is better than none.",
        )
        self.stop = elements.button("own_stop", "Stop", "End the training; nothing is changed.")
        self.bar = QProgressBar()
        self.bar.setObjectName("own_progress")
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.bar.setRange(0, 1000)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        for part in (self.line, self.bar, elements.row(self.train, self.stop)):
            column.addWidget(part)
        self.show_state("", offered=False, share=None)

    def show_state(self, line: str, offered: bool, share: float | None) -> None:
        """A line, whether a training is offered, and how far one is, 0..1; None = none is."""
        self.line.setText(line)
        self.train.setVisible(offered and share is None)
        self.stop.setVisible(share is not None)
        self.bar.setVisible(share is not None)
        self.bar.setValue(int(1000 * (share or 0)))
        self.setVisible(bool(line))
