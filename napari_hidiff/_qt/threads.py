"""Work that runs in napari's worker threads: arrays go in, arrays come out, no layer is touched.

Memory that nobody uses any more, back to the system.

The end of the program: widgets that are still open are shut down while everything works.
"""

import ctypes
import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import WeakSet

import numpy as np
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, QThreadPool, QTimer

from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.errors import InputError
from napari_hidiff.inference.ood import ood_reasons

if TYPE_CHECKING:
    from napari_hidiff.annotation.suggestions import Alternative
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.cost import Estimate
    from napari_hidiff.inference.model import HiDiff

log = logging.getLogger(__name__)


class Job(QObject):
    """One piece of work in a thread; its callbacks run in the main thread.

    function : called with ``args`` in the thread; with ``step`` it must return an iterator.
    done : called with the function's answer, unless it failed or the job was cancelled.
    step : called with every item of the iterator. ended : called last, whatever happened, and in
        a turn of its own of the event loop: mouse and keys are heard in between.

    A failure is shown as a notification: one line for an InputError, which is the user's to mend;
    anything else goes to the log with its traceback as well.

    Workers outlive their work, with what they were given (Qt owns them): so a worker is given a
    list that it empties, and a job that is over lets go of whom it called.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *args: Any,
        done: Callable[..., None] | None = None,
        step: Callable[[Any], None] | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._done, self._step, self._ended = done, step, ended
        self._cancelled = False
        self._worker = create_worker(
            _each if step else _once,
            [(function, args)],
            _connect={"returned": self._on_returned, "finished": self._on_finished},
            _start_thread=False,
        )
        if step:
            self._worker.yielded.connect(self._on_yielded)
        self._worker.start()

    def stop(self) -> None:
        """Ask the work to stop at its next step; ``ended`` is still called."""
        self._worker.quit()

    def cancel(self) -> None:
        """Stop, and call nobody any more."""
        self._cancelled = True
        self._worker.quit()
        self._let_go()

    def _on_yielded(self, item: Any) -> None:
        self._hand_over(item, self._step)

    def _on_returned(self, answer: Any) -> None:
        self._hand_over(answer, self._done)

    def _on_finished(self) -> None:
        QTimer.singleShot(0, self._end)

    def _end(self) -> None:
        ended = self._ended
        self._let_go()
        if ended is not None and not self._cancelled:
            attempt(ended)

    def _let_go(self) -> None:
        self._done = self._step = self._ended = None

    def _hand_over(self, item: Any, receive: Callable[[Any], None] | None) -> None:
        if self._cancelled:
            return
        if isinstance(item, _Failure):
            item.show()
        elif receive is not None:
            attempt(receive, item)


def attempt(action: Callable[..., Any], *args: Any) -> None:
    """Do something; what is wrong with it (an InputError) becomes one line on the screen."""
    try:
        action(*args)
    except InputError as error:
        show_warning(str(error))


class _Failure(NamedTuple):
    text: str
    by_user: bool

    def show(self) -> None:
        (show_warning if self.by_user else show_error)(self.text)


Given = list[tuple[Callable[..., Any], tuple[Any, ...]]]


def _once(given: Given) -> Any:
    function, args = given.pop()
    try:
        return function(*args)
    except Exception as error:
        return _failure(error)
    finally:
        give_back()


def _each(given: Given) -> Iterator[Any]:
    function, args = given.pop()
    # An exception must not leave the generator: superqt drops RuntimeErrors, PyTorch's included,
    # and the worker would never finish.
    try:
        for item in function(*args):
            give_back()
            yield item
    except Exception as error:
        yield _failure(error)
    finally:
        give_back()


def _failure(error: Exception) -> _Failure:
    if isinstance(error, InputError):
        return _Failure(str(error), True)
    log.exception("a job of the HiDiff widget failed")
    first = (str(error).splitlines() or [""])[0]
    memory = isinstance(error, MemoryError) or "memory" in first.lower()
    advice = " Choose fewer samples or the one-step sampler, or crop the image." if memory else ""
    return _Failure(f"{type(error).__name__}: {first}.{advice}", False)


def list_models() -> list[str]:
    """Names of the bundled models and the user's."""
    import napari_hidiff

    return napari_hidiff.available_models()


def load(name: str, device: str) -> "HiDiff":
    """A bundled model or a model file, on a device; torch refines until :func:`prepare` is done."""
    import napari_hidiff

    return napari_hidiff.load_model(name, device=device, prepare=False)


def prepare(model: "HiDiff") -> None:
    """Compile the packed kernels of a model, or read them from an earlier start."""
    model.backend.prepare()


def look_up(image: np.ndarray) -> tuple[str, sidecar.SavedSession | None, str | None]:
    """The key of an image, what its sidecar holds if there is one, and what is wrong with it."""
    key = sidecar.image_key(image)
    try:
        path = sidecar.find(key)
        return key, sidecar.load(path) if path else None, None
    except InputError as error:
        return key, None, str(error)


def describe(
    model: "HiDiff", image: np.ndarray, settings: Settings
) -> tuple[str | None, "Estimate | None", list[str]]:
    """Why the model does not fit an image [H, W] or [H, W, C], what a refinement will take, and
    in what the image does not look like those of the model."""
    try:
        model.check_image(image)
        windowed = model.intensity.rule == "window"
        doubted = ood_reasons(
            image, model.card.channels, model.card.looks, windowed, settings.scale or 1.0
        )
        how = settings.sampler, settings.steps, settings.samples, settings.scale
        cost = model.estimate(image.shape[:2], *how)
        return None, cost, doubted
    except InputError as error:
        return str(error), None, []


def alternatives(each: np.ndarray) -> "list[Alternative]":
    """A few clearly different masks among samples float32 [S, K, H, W]."""
    from napari_hidiff.annotation.suggestions import alternatives as clustered

    return clustered(each)


def advance(run: Iterator["Step"], single: bool) -> Iterator["Step"]:
    """One or all of the remaining steps of a run, which keeps its place for the next call."""
    for step in run:
        yield step
        if single:
            return


def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


_malloc_trim = _trim()


def give_back() -> None:
    """Give freed memory back where malloc keeps it for later (glibc), for every thread.

    The tensors of a slice are of the size that glibc keeps: after a dozen slices of a volume that
    was as much as the volume itself (``python -m benchmarks.window_memory``). It takes
    milliseconds.
    """
    if _malloc_trim is not None:
        _malloc_trim(0)


def forget_images() -> None:
    """Forget what models know of images, and give the memory back: an image was removed.

    Of those that are still open it is found again when they are refined next.
    """
    seen = sys.modules.get("napari_hidiff.inference.denoiser")  # without it no model was loaded yet
    if seen is not None:
        seen.trim_cache(0)
    give_back()


class Closable(Protocol):
    """A widget that saves and stops its work."""

    def shut_down(self, window_gone: bool = False) -> None:
        """Called when its window is closed, or is gone."""


_open: WeakSet[Closable] = WeakSet()


def watch(widget: Closable) -> None:
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
