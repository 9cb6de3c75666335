"""A small thread pool that deals out rows to kernels, which release Python's lock.

Safe with several Python threads entering at once, after a fork, and while the interpreter ends: the
thread that starts a job works on it itself until no rows are left, and waits only for rows that
another thread has begun. A dead pool only slows down.
"""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

STRIPES = 4
"""Stripes per thread: others take the stripes of a slow thread."""
WORTH = 2**21
"""Work (see :func:`rows`) below which waking another thread costs more than it saves."""

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_size = 0


def rows(kernel: Callable[..., Any], count: int, work: int, *arguments: Any) -> None:
    """``kernel(begin, end, *arguments)`` for ranges that together are 0 .. count.

    work : register operations of all rows, approximately; decides whether threads pay.
    """
    threads = min(torch.get_num_threads(), count, 1 + work // WORTH)
    if threads == 1:
        kernel(0, count, *arguments)
        return
    stripes = min(count, threads * STRIPES)
    taken = itertools.count()  # its next() is atomic

    def share() -> None:
        while (stripe := next(taken)) < stripes:
            kernel(count * stripe // stripes, count * (stripe + 1) // stripes, *arguments)

    helpers = _helpers(share, threads - 1)
    try:
        share()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _helpers(work: Callable[[], None], wanted: int) -> list[Future[None]]:
    global _pool, _size
    try:
        with _lock:
            if _pool is None or _size < wanted:
                _pool, _size = ThreadPoolExecutor(wanted, "napari-hidiff-packed"), wanted
            return [_pool.submit(work) for _ in range(wanted)]
    except RuntimeError:  # the interpreter ends, or no thread can start
        return []


def _forget() -> None:
    """Reset in a forked child: threads, and the holder of the lock, exist only in the parent."""
    global _lock, _pool, _size
    _lock, _pool, _size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
