"""Memory that nobody uses any more, back to the system."""

import ctypes
import sys
from collections.abc import Callable


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
        seen.forget(0)
    give_back()
