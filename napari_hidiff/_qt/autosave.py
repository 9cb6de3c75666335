"""Keeps the sidecar of an annotation up to date, soon after each change, off the main thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer

from napari_hidiff import sidecar
from napari_hidiff.session import Annotation, Index, SliceRecord

DELAY = 600
"""Milliseconds from the first change that is not saved to the saving, however many follow."""


class Autosave:
    """Saves one annotation; a thread of its own, so that no run in Qt's thread pool delays it.

    annotation : what to save; enabled : asked before each saving.
    """

    def __init__(self, annotation: Annotation, enabled: Callable[[], bool]) -> None:
        self._annotation, self._enabled = annotation, enabled
        self._path: Path | None = None
        self._aside = False
        self._dirty = False
        self._complained = False
        self._thread = ThreadPoolExecutor(1, "hidiff-autosave")
        self._saving: Future[None] | None = None
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(DELAY)
        self._timer.timeout.connect(self._save)

    def into(self, path: Path, replace: bool) -> None:
        """Save into ``path`` from now on. Without ``replace`` a file there is moved aside first."""
        self._path, self._aside = path, not replace
        if self._dirty:
            self._timer.start()

    def touch(self) -> None:
        """Something changed."""
        self._dirty = True
        if self._path is not None and not self._timer.isActive():
            self._timer.start()

    def flush(self) -> None:
        """Save what is not saved yet, and wait for it."""
        self._submit()
        wait([self._saving] if self._saving else [])
        self._report()

    def close(self) -> None:
        """Flush and stop; needs no event loop and no timer, which may be gone by now."""
        self.flush()
        self._thread.shutdown()
        self._path = None

    def _save(self) -> None:
        if self._saving is not None and not self._saving.done():
            self._timer.start()
            return
        self._report()
        if self._submit():
            self._timer.start()  # to see how it went

    def _submit(self) -> bool:
        if not self._dirty or self._path is None or not self._enabled():
            return False
        self._dirty = False
        records, log = self._annotation.records(), list(self._annotation.log)
        # An older file is not moved aside before there is something to take its place.
        if records or (self._path.exists() and not self._aside):
            aside, self._aside = self._aside, False
            shape = self._annotation.shape
            self._saving = self._thread.submit(_write, self._path, aside, shape, records, log)
        return self._saving is not None

    def _report(self) -> None:
        error = None if self._saving is None else self._saving.exception()
        self._saving = None
        if error is not None and not self._complained:
            self._complained = True
            show_warning(f"Your strokes cannot be kept on disk ({error}): export the mask often.")


def _write(
    path: Path,
    aside: bool,
    shape: tuple[int, ...],
    records: dict[Index, SliceRecord],
    log: list[dict[str, Any]],
) -> None:
    if aside:
        sidecar.set_aside(path)
    sidecar.save(path, shape, records, log)
