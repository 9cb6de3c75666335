"""Keeps the sidecar of an annotation up to date, soon after each change, off the main thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer

from napari_hidiff.claims import Store
from napari_hidiff.session import Annotation, Index

DELAY = 600
"""Milliseconds from the first change that is not saved to the saving, however many follow."""
AGAIN = 3000
"""Milliseconds from a saving that failed to the next try."""


class Autosave:
    """Saves one annotation; a thread of its own, so that no run in Qt's thread pool delays it.

    annotation : what to save; enabled : asked before each saving.
    """

    def __init__(self, annotation: Annotation, enabled: Callable[[], bool]) -> None:
        self._annotation, self._enabled = annotation, enabled
        self._store: Store | None = None
        self._dirty = False
        self._complained = False
        self._known: dict[Index, int] = {}  # what the store has of each slice
        self._thread = ThreadPoolExecutor(1, "hidiff-autosave")
        self._saving: Future[None] | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._save)

    def into(self, path: Path, replace: bool, key: str = "") -> None:
        """Save into ``path`` from now on. Without ``replace`` a file there is moved aside first;
        where another window saves into it, a file beside it is taken. key : of the image."""
        self._store = Store(path, key or path.stem, replace)
        self._known = {}
        if self._dirty:
            self._timer.start(DELAY)

    def touch(self) -> None:
        """Something changed."""
        self._dirty = True
        if self._store is not None and not self._timer.isActive():
            self._timer.start(DELAY)

    def flush(self) -> None:
        """Save what is not saved yet, and wait for it."""
        self._wait()
        self._submit()
        self._wait()

    def close(self) -> None:
        """Flush and stop; needs no event loop and no timer, which may be gone by now."""
        self.flush()
        self._thread.shutdown()
        if self._store is not None:
            self._store.close()
        self._store = None

    def _save(self) -> None:
        if self._saving is not None and not self._saving.done():
            self._timer.start(DELAY)
            return
        failed = self._report()
        if failed:
            self._timer.start(AGAIN)
        elif self._submit():
            self._timer.start(DELAY)  # to see how it went

    def _submit(self) -> bool:
        if not self._dirty or self._store is None or not self._enabled():
            return False
        self._dirty = False
        annotation = self._annotation
        news, kept = annotation.records(self._known), annotation.kept()
        self._known |= {index: annotation.sessions[index].revision for index in news}
        log = [dict(entry) for entry in annotation.log]  # an entry may get facts meanwhile
        self._saving = self._thread.submit(self._store.write, annotation.shape, news, kept, log)
        return True

    def _wait(self) -> None:
        wait([self._saving] if self._saving else [])
        self._report()

    def _report(self) -> bool:
        """Whether the last saving failed; the first time says why."""
        error = None if self._saving is None else self._saving.exception()
        self._saving = None
        if error is None:
            return False
        self._dirty = True
        if not self._complained:
            self._complained = True
            show_warning(f"Your strokes cannot be kept on disk ({error}): export the mask often.")
        return True
