"""Keeps the sidecar of an annotation up to date, soon after each change, off the main thread.

The main thread hands a snapshot over at once, so that a busy event loop delays nothing; a thread
writes the latest one, a few times a second at most.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple

from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer

from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.journal import SliceRecord
from napari_hidiff.annotation.sidecar import SidecarWriter
from napari_hidiff.errors import first_line
from napari_hidiff.masks import Index

PAUSE = 0.3
"""Seconds between two savings, at least."""
SHARE = 10
"""A snapshot may take one part in so many of the main thread's time; it is milliseconds."""
AGAIN = 3000
"""Milliseconds from a saving that failed to the next try."""


class Snapshot(NamedTuple):
    """What :meth:`SidecarWriter.write` takes."""

    shape: tuple[int, ...]
    news: dict[Index, SliceRecord]
    kept: list[Index]
    log: list[dict[str, Any]]


class Autosave:
    """Saves one annotation; a thread of its own, so that no run in Qt's thread pool delays it.

    annotation : what to save; enabled : asked before each saving.
    """

    def __init__(self, annotation: Annotation, enabled: Callable[[], bool]) -> None:
        self._annotation, self._enabled = annotation, enabled
        self._store: SidecarWriter | None = None
        self._dirty = False
        self._complained = False
        self._known: dict[Index, int] = {}  # what the store has of each slice
        self._free_from = 0.0  # when the next snapshot may be taken
        self._thread = ThreadPoolExecutor(1, "hidiff-autosave")
        self._saving: Future[None] | None = None
        self._lock, self._hurry = Lock(), Event()
        # Shared with the thread:
        self._pending: Snapshot | None = None
        self._running = False
        self._error: Exception | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._look)

    def into(self, path: Path, replace: bool, key: str = "") -> None:
        """Save into ``path`` from now on. Without ``replace`` a file there is moved aside first;
        where another window saves into it, a file beside it is taken. key : of the image."""
        self._store = SidecarWriter(path, key or path.stem, replace)
        self._known = {}
        if self._dirty:
            self.touch()

    def touch(self) -> None:
        """Something changed."""
        self._dirty = True
        if self._store is not None and time.monotonic() >= self._free_from:
            self._snapshot()
        if self._store is not None and not self._timer.isActive():
            self._timer.start(round(1000 * PAUSE))  # for what came too soon, and to see how it went

    @property
    def failing(self) -> bool:
        """Whether the last saving failed and nothing was saved since."""
        return self._complained and self._dirty

    def flush(self) -> None:
        """Save what is not saved yet, and wait for it."""
        self._hurry.set()
        self._wait()
        self._snapshot()
        self._wait()
        self._hurry.clear()

    def close(self) -> None:
        """Flush and stop; needs no event loop and no timer, which may be gone by now."""
        self.flush()
        self._thread.shutdown()
        if self._store is not None:
            self._store.close()
        self._store = None

    def _look(self) -> None:
        if self._report():
            self._timer.start(AGAIN)
            return
        self._snapshot()
        with self._lock:
            running = self._running
        if running:
            self._timer.start(round(1000 * PAUSE))

    def _snapshot(self) -> None:
        """Hand what is not saved yet over to the thread."""
        if not self._dirty or self._store is None or not self._enabled():
            return
        began, annotation = time.monotonic(), self._annotation
        self._dirty = False
        news, kept = annotation.records(self._known), annotation.kept()
        self._known |= {index: annotation.sessions[index].revision for index in news}
        log = [dict(entry) for entry in annotation.log]  # an entry may get facts meanwhile
        with self._lock:
            if self._pending is not None:
                news = self._pending.news | news
            self._pending = Snapshot(annotation.shape, news, kept, log)
            if not self._running:
                self._running = True
                self._saving = self._thread.submit(self._write, self._store)
        now = time.monotonic()
        self._free_from = now + SHARE * (now - began)

    def _write(self, store: SidecarWriter) -> None:
        """In the thread: write snapshots until there is none left."""
        while True:
            with self._lock:
                snapshot, self._pending = self._pending, None
                if snapshot is None:
                    self._running = False
                    return
            try:
                store.write(*snapshot)
            except Exception as error:
                with self._lock:
                    self._error, self._running = error, False
                return
            self._hurry.wait(PAUSE)

    def _wait(self) -> None:
        wait([self._saving] if self._saving else [])
        self._report()

    def _report(self) -> bool:
        """Whether a saving failed; the first time says why."""
        with self._lock:
            error, self._error = self._error, None
        if error is None:
            return False
        self._dirty = True
        if not self._complained:
            self._complained = True
            reason = first_line(error)
            show_warning(f"Your strokes cannot be kept on disk ({reason}): export the mask often.")
        return True
