"""One step of the history of a mask."""

from dataclasses import dataclass, field
from itertools import count

import numpy as np

from napari_hidiff.masks import Runs

_NO_PIXELS = np.empty(0, np.int64)
_numbers = count()


@dataclass(frozen=True)
class Change:
    """One step of the history.

    pixels : whose value changed, with their values before and after.
    by_user : a stroke, or else a model's write.
    confirmed : pixels that the user painted with the value they already had, with that value.
    number : rises with every change of any timeline: which of two is older.
    """

    pixels: Runs
    by_user: bool
    confirmed: Runs
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def moves(self) -> bool:
        """Whether any pixel changed its value: then it is a step of the layer's history, too."""
        return bool(self.pixels.starts.size)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.pixels.nbytes + self.confirmed.nbytes


def changed(by_user: bool, index: np.ndarray, before: np.ndarray, after: np.ndarray) -> Change:
    """Pixels (flat positions, rising) got other values; all arrays [n]."""
    return Change(Runs.of(index, before, after), by_user, Runs.of(_NO_PIXELS, _NO_PIXELS))


def unchanged(
    by_user: bool, index: np.ndarray = _NO_PIXELS, labels: np.ndarray = _NO_PIXELS
) -> Change:
    """No pixel got another value; ``index`` were painted with the ``labels`` they had, [n]."""
    nothing = Runs.of(_NO_PIXELS, _NO_PIXELS, _NO_PIXELS)
    return Change(nothing, by_user, Runs.of(index, labels))


def stamp(change: Change, fixed: np.ndarray) -> None:
    """Put what a stroke fixed into a fixed map [H, W]."""
    flat = fixed.reshape(-1)
    flat[change.pixels.index] = change.pixels.column(1)
    flat[change.confirmed.index] = change.confirmed.column(0)


def joined(change: Change, index: np.ndarray, before: np.ndarray, after: np.ndarray) -> Change:
    """A stroke that went on over the pixels ``index`` [n]."""
    known = change.pixels.index
    merged = np.union1d(known, index)
    old, new = np.searchsorted(merged, known), np.searchsorted(merged, index)
    first, last = np.empty((2, merged.size), after.dtype)
    first[new], last[old] = before, change.pixels.column(1)
    first[old], last[new] = change.pixels.column(0), after
    where = change.confirmed.index
    kept = ~np.isin(where, index)
    confirmed = Runs.of(where[kept], change.confirmed.column(0)[kept])
    return Change(Runs.of(merged, first, last), True, confirmed, change.number)
