"""One layer per channel: which layer is which channel of the model."""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary, ref

from napari.layers import Image
from qtpy.QtWidgets import QComboBox, QFormLayout, QPushButton, QVBoxLayout, QWidget

from napari_hidiff._qt.remembered import ARROWS, HEADING
from napari_hidiff.inference.channels import guess

NOTHING = "choose a layer …"


class ChannelBox(QWidget):
    """A row for every channel of a model; hidden where one layer has them all.

    The rows fold into one line as soon as every channel has its layer: there is work below them.

    changed : called when the user chose another layer.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self.setObjectName("channels")
        self._changed = changed
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
        self._changed()
