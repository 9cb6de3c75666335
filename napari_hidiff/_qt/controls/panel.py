"""What the widget looks like: three pages. It knows no image, no model and no session."""

from typing import Any

from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QSizePolicy, QTabWidget

from napari_hidiff._qt.controls.annotate_page import AnnotatePage
from napari_hidiff._qt.controls.focus import FocusGuard
from napari_hidiff._qt.controls.queue_page import QueuePage
from napari_hidiff._qt.controls.settings_page import SettingsPage

WIDTH = 300
"""Pixels, at least."""


class Panel(QTabWidget):
    """The pages *Annotate*, *Queue* and *Settings*.

    choose, how : the two magicgui boxes of :mod:`napari_hidiff._qt.controls.settings`.
    near : whether updates stay near strokes to begin with.
    """

    def __init__(self, choose: Any, how: Any, near: bool) -> None:
        super().__init__()
        self.annotate, self.settings = AnnotatePage(choose.model), SettingsPage(choose, how, near)
        self.queue = QueuePage()
        self.addTab(self.annotate, "Annotate")
        self.addTab(self.queue, "Queue")
        self.addTab(self.settings, "Settings")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        bar = self.annotate.area.verticalScrollBar().sizeHint().width()
        inside = max(page.area.widget().minimumSizeHint().width() for page in self._pages)
        self.setMinimumWidth(max(WIDTH, inside + bar))
        guard = FocusGuard(self)
        guard.watch(self)
        for box in (self.settings.channels, self.annotate.classes):
            box.rebuilt.connect(lambda box=box: guard.watch(box))

    def resizeEvent(self, event: QResizeEvent) -> None:  # Qt's name
        """The class list gives way on a small screen."""
        self.annotate.classes.fit(self.height())
        super().resizeEvent(event)

    @property
    def _pages(self) -> tuple[AnnotatePage, SettingsPage]:
        return self.annotate, self.settings
