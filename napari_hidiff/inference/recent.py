"""A bounded memory: what was computed last, up to so many bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A value that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=Sized)


class Recent(Generic[Value]):
    """Values by key, the ones used last; safe among threads.

    limit : bytes that all values may hold together; a value larger than that is not kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of a key, computed if it is not there (by two threads at once, perhaps)."""
        value = self.find(key)
        if value is None:
            value = compute()
            self.keep(key, value)
        return value

    def find(self, key: Hashable) -> Value | None:
        """The value of a key, or None where it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def keep(self, key: Hashable, value: Value) -> None:
        """Remember a value, in place of an older one of its key."""
        with self._lock:
            if value.nbytes <= self.limit:
                self._values[key] = value
                self._values.move_to_end(key)
        self.trim(self.limit)

    def trim(self, limit: int) -> None:
        """Forget what was used longest ago, until the values hold so many bytes at most."""
        with self._lock:
            while self.nbytes > limit:
                self._values.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    @property
    def nbytes(self) -> int:
        """What the values hold together."""
        return sum(value.nbytes for value in self._values.values())
