"""Floats on a GPU: in full precision while a model runs, as on the CPU.

Torch rounds the factors of float32 convolutions to 10 bits (tf32) unless it is told otherwise;
one sign then changes here and there, and with it pixels of the mask. ``NAPARI_HIDIFF_TF32=1`` in
the environment leaves torch as it is set.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TF32 = "NAPARI_HIDIFF_TF32"

_lock = threading.Lock()
_running = 0
_before = (True, "highest")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No tf32 inside, if the device is CUDA; the last thread that leaves puts back what was set.

    The switches are the whole program's: float32 arithmetic of another thread is exact meanwhile,
    too.
    """
    if device.type != "cuda" or os.environ.get(TF32) == "1":
        yield
        return
    global _running, _before
    with _lock:
        if not _running:
            _before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
            _set(False, "highest")
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if not _running:
                _set(*_before)


def _set(convolutions: bool, products: str) -> None:
    torch.backends.cudnn.allow_tf32 = convolutions
    torch.set_float32_matmul_precision(products)
