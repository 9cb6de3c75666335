"""Compiled kernels on disk: found again only if every source is the same, and never in the way."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

SOURCES = ("layout", "simd", "microkernels", "kernels")


def _digest() -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in SOURCES:
        digest.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """Numba's cache, which looks at the file of the function alone; ours looks at what it calls.

    A folder that cannot be written or read costs the time of compiling and nothing else.
    """

    stamp = _digest()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), self.stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # whatever is wrong with a file there, compiling is the remedy
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError:  # a full disk, or a folder that was taken away
            return


def compiled(function: Callable[..., Any]) -> Any:
    """The function as a kernel, kept on disk where numba finds a folder it may write to."""
    kernel: Any = njit(nogil=True)(function)
    with suppress(RuntimeError):  # no folder to write to, neither beside us nor at home
        kernel._cache = _Cache(function)
    return kernel
