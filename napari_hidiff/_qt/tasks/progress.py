"""How far the work under way is, and how long it will take."""

import time
from collections.abc import Callable

from qtpy.QtCore import QTimer

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.annotate_page import AnnotatePage

TICK = 500
"""Milliseconds between two looks at the clock."""


class WorkProgress:
    """Moves the bar: by the share that is done, and where nobody knows it by the expected time.

    page : has the bar. expected : gives the seconds that a run was found to take here, or None.
    """

    def __init__(self, page: AnnotatePage, expected: Callable[[], float | None]) -> None:
        self._page, self._expected = page, expected
        self._text, self._began, self._share = "", 0.0, 0.0
        self._timer = QTimer(page)
        self._timer.setInterval(TICK)
        self._timer.timeout.connect(self._show)

    def begin(self, text: str) -> None:
        """Work begins; text : what it is, in a word or two."""
        self._text, self._began, self._share = text, time.monotonic(), 0.0
        self._timer.start()
        self._show()

    def advance(self, share: float, text: str | None = None) -> None:
        """So much is done, 0..1."""
        self._share = share
        if text is not None:
            self._text = text
        self._show()

    def end(self) -> None:
        """Nothing is under way."""
        self._timer.stop()
        self._page.show_progress(None)

    def _show(self) -> None:
        elapsed, expected = time.monotonic() - self._began, self._expected()
        if self._share > 0:
            left: float | None = elapsed / self._share - elapsed
        elif expected is not None and expected > elapsed:
            left = expected - elapsed
        else:
            left = None
        share = self._share or (-1.0 if left is None else elapsed / (elapsed + left))
        self._page.show_progress(share, messages.under_way(self._text, left))
