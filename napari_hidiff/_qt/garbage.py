"""Garbage, collected in the main thread alone while a widget is open.

Python looks for garbage cycles in whichever thread happens to allocate. Such a cycle may hold Qt
objects: a closed window is one. A worker thread that deletes them waits for a lock of Qt, which the
main thread may hold while it waits for the interpreter (the GIL), which the worker thread holds:
neither goes on. So Python's own collections are off while a widget is open or a thread of Qt's pool
works, and a timer of the main thread collects instead, as often as Python's thresholds ask for it.

To look through all that napari and torch import takes half a second, in which the window stands
still. So what stands when a widget opens, and when its model is ready, is spared (frozen) until a
layer was removed, which may have left an image behind, or the last widget is closed.
"""

import gc
import sys
from weakref import WeakSet

from qtpy.QtCore import QCoreApplication, QObject, QThreadPool, QTimer

PAUSE = 100
"""Milliseconds between two looks at how much was allocated."""
GROWTH = 1.25
"""How much more memory blocks make a collection of all worth its time. CPython asks for as much
growth of the oldest generation, whose size Python code learns only by listing it, in a tenth of a
second."""


class Collector(QObject):
    """Collects garbage in the thread of ``app`` from the first :meth:`start` on.

    It ends when everybody who started it has stopped it or is gone, and Qt's threads are idle, or
    when the event loop of ``app`` ends: nobody in the main thread would collect then. Where
    Python's collections are off already, they are somebody else's, and it does nothing; where
    objects are frozen already, it freezes none.
    """

    def __init__(self, app: QCoreApplication) -> None:
        super().__init__(app)
        self._users: WeakSet[object] = WeakSet()
        self._blocks = sys.getallocatedblocks()  # after the last collection of all
        self._freezes = False
        self._timer = QTimer(self)
        self._timer.setInterval(PAUSE)
        self._timer.timeout.connect(self._look)
        self._all = QTimer(self)
        self._all.setSingleShot(True)
        self._all.timeout.connect(self._collect_all)
        app.aboutToQuit.connect(self._end)

    def start(self, user: object) -> None:
        """Collect here and nowhere else as long as ``user`` needs it."""
        self._users.add(user)
        if gc.isenabled():
            gc.disable()
            self._timer.start()
            self._freezes = not gc.get_freeze_count()
            self.spare()

    def stop(self, user: object) -> None:
        """``user`` needs it no more."""
        self._users.discard(user)
        self._look()

    def spare(self) -> None:
        """Look no more through what stands now."""
        if self._freezes:
            gc.freeze()
            self._blocks = sys.getallocatedblocks()

    def collect_all_soon(self) -> None:
        """Look through what was spared, too, when the event loop is back: something large may have
        become garbage."""
        if self._freezes:
            self._all.start()

    def _collect_all(self) -> None:
        gc.unfreeze()
        gc.collect()
        self.spare()

    def _look(self) -> None:
        if self._users or QThreadPool.globalInstance().activeThreadCount():
            self._collect()
        else:
            self._end()

    def _end(self) -> None:
        if self._timer.isActive():
            self._timer.stop()
            gc.enable()
            self._all.stop()
            if self._freezes:
                self._freezes = False
                gc.unfreeze()

    def _collect(self) -> None:
        """Collect what CPython would collect now."""
        counts = zip(gc.get_count(), gc.get_threshold(), strict=True)
        young, middle, old = (count > threshold for count, threshold in counts)
        if not young:
            return
        if old and sys.getallocatedblocks() > GROWTH * self._blocks:
            gc.collect()
            self._blocks = sys.getallocatedblocks()
        else:
            gc.collect(1 if middle else 0)


def collector() -> Collector:
    """The one of this process, made at first; there must be a QApplication."""
    app = QCoreApplication.instance()
    assert app is not None, "no QApplication yet"
    return app.findChild(Collector) or Collector(app)
