"""The bounded memory."""

from typing import NamedTuple

from napari_hidiff.inference.denoiser import LruCache


class Block(NamedTuple):
    nbytes: int


def test_the_values_used_last_are_kept_within_the_limit():
    recent, made = LruCache(10), []

    def make(key, size):
        def compute():
            made.append(key)
            return Block(size)

        return recent.get(key, compute)

    assert make("a", 4) is make("a", 4)
    make("b", 4)
    make("a", 4)
    make("c", 4)
    assert ("a" in recent, "b" in recent, "c" in recent) == (True, False, True)
    assert recent.nbytes == 8
    assert make("huge", 11).nbytes == 11
    assert recent.nbytes == 8, "a value beyond the limit is handed out and not kept"
    assert made == ["a", "b", "c", "huge"]
    make("a", 4)
    recent.trim(7)
    assert ("a" in recent, "c" in recent) == (True, False)
