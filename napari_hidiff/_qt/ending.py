"""The end of the program: widgets that are still open are shut down while everything works."""

import functools
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

from qtpy.QtCore import QThreadPool

if TYPE_CHECKING:
    from napari_hidiff._qt.widget import HiDiffWidget

_open: "WeakSet[HiDiffWidget]" = WeakSet()


def watch(widget: "HiDiffWidget") -> None:
    """Shut a widget down when the interpreter ends and its window was not closed."""
    _open.add(widget)
    _at_the_end()


@functools.cache
def _at_the_end() -> None:
    # Handlers of atexit come too late: no thread can be started any more that saves strokes, and a
    # library that a thread is still importing is never cleaned up (h5py then crashes the process).
    threading._register_atexit(_shut_down)  # type: ignore[attr-defined]


def _shut_down() -> None:
    if not _open:
        return
    for widget in list(_open):
        widget.shut_down(window_gone=True)
    # Qt waits for these threads anyway, but only when what they report to is deleted.
    QThreadPool.globalInstance().waitForDone()
