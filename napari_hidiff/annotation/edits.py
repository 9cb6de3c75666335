"""One step of the history of a mask.

The pixels of a mask that the user has fixed, each at a label of the user's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from napari_hidiff.masks import FREE, Runs

_NO_PIXELS = np.empty(0, np.int64)
_numbers = count()


@dataclass(frozen=True)
class Edit:
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


def changed(by_user: bool, index: np.ndarray, before: np.ndarray, after: np.ndarray) -> Edit:
    """Pixels (flat positions, rising) got other values; all arrays [n]."""
    return Edit(Runs.of(index, before, after), by_user, Runs.of(_NO_PIXELS, _NO_PIXELS))


def unchanged(
    by_user: bool, index: np.ndarray = _NO_PIXELS, labels: np.ndarray = _NO_PIXELS
) -> Edit:
    """No pixel got another value; ``index`` were painted with the ``labels`` they had, [n]."""
    nothing = Runs.of(_NO_PIXELS, _NO_PIXELS, _NO_PIXELS)
    return Edit(nothing, by_user, Runs.of(index, labels))


def apply_edit(change: Edit, fixed: np.ndarray) -> None:
    """Put what a stroke fixed into a fixed map [H, W]."""
    flat = fixed.reshape(-1)
    flat[change.pixels.index] = change.pixels.column(1)
    flat[change.confirmed.index] = change.confirmed.column(0)


def joined(change: Edit, index: np.ndarray, before: np.ndarray, after: np.ndarray) -> Edit:
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
    return Edit(Runs.of(merged, first, last), True, confirmed, change.number)


class FixedMap:
    """What is fixed by the strokes of a history, and by those before it.

    content : integer [H, W], the mask. before : integer [H, W], pixels fixed before the history
    began (``FREE`` elsewhere), or None.

    Raises
    ------
    ValueError : ``before`` has another shape.
    """

    def __init__(self, content: np.ndarray, before: np.ndarray | None) -> None:
        self._shape = content.shape
        small = content.dtype in (np.uint8, np.int8)  # their labels fit into two bytes
        self._dtype = np.dtype(np.int16 if small else np.int32)
        self._map: np.ndarray | None = None  # None: all free, as most slices of a volume are
        self._base: np.ndarray | None = None  # fixed by what can be undone no more
        self._dropped: np.ndarray | None = None  # bool, strokes of the base that no model has seen
        self._count: int | None = None
        if before is not None:
            if np.shape(before) != self._shape:
                raise ValueError(f"fixed is {np.shape(before)}, the mask {self._shape}")
            self._base = self._values()
            self._base[:] = before
            self._map = self._base.copy()

    def __bool__(self) -> bool:
        """Whether any pixel may be fixed."""
        return self._map is not None

    @property
    def count(self) -> int:
        """How many pixels are fixed."""
        if self._count is None:
            self._count = 0 if self._map is None else int(np.count_nonzero(self._map != FREE))
        return self._count

    @property
    def labels(self) -> np.ndarray:
        """A copy, int32 [H, W]: the user's label of a pixel, else ``FREE``."""
        if self._map is None:
            return np.full(self._shape, FREE, np.int32)
        return self._map.astype(np.int32)

    @property
    def where(self) -> np.ndarray:
        """Fixed pixels, bool [H, W]."""
        return np.zeros(self._shape, bool) if self._map is None else self._map != FREE

    def free(self, index: np.ndarray) -> np.ndarray:
        """Those of the pixels ``index`` (flat positions) that are not fixed."""
        return index if self._map is None else index[self._map.ravel()[index] == FREE]

    def differs(self, mask: np.ndarray) -> np.ndarray:
        """Fixed pixels, bool [H, W], that have another label in ``mask`` [H, W]."""
        return (
            np.zeros(self._shape, bool) if self._map is None else self.where & (self._map != mask)
        )

    def put_into(self, mask: np.ndarray) -> None:
        """Give fixed pixels their label in ``mask`` [H, W]."""
        if self._map is not None:
            where = self.where
            mask[where] = self._map[where]

    def apply_edit(self, change: Edit) -> None:
        """A stroke fixes what it touched."""
        if self._map is None:
            self._map = self._values()
        apply_edit(change, self._map)
        self._count = None

    def rebuild(self, strokes: Iterable[Edit]) -> None:
        """Only these strokes, and what can be undone no more, are done."""
        self._map = None if self._base is None else self._base.copy()
        self._count = None
        for change in strokes:
            self.apply_edit(change)

    def sync(self, content: np.ndarray) -> None:
        """Fixed pixels that are otherwise in ``content`` [H, W] are fixed as they are there."""
        if self._map is not None:
            stale = self.differs(content)
            self._map[stale] = content[stale]

    def retain(self, change: Edit) -> None:
        """A stroke can be undone no more."""
        if self._base is None:
            self._base = self._values()
        if self._dropped is None:
            self._dropped = np.zeros(self._shape, bool)
        apply_edit(change, self._base)
        touch(change, self._dropped)

    def mark_answered(self) -> None:
        """A model's mask was written after all strokes that can be undone no more."""
        self._dropped = None

    def unanswered(self) -> np.ndarray:
        """Pixels bool [H, W] of strokes that can be undone no more and were not :meth:`seen`."""
        return np.zeros(self._shape, bool) if self._dropped is None else self._dropped.copy()

    def promote_dtype(self) -> None:
        """The labels are of a larger dtype now."""
        self._dtype = np.dtype(np.int32)
        self._map = None if self._map is None else self._map.astype(np.int32)
        self._base = None if self._base is None else self._base.astype(np.int32)

    def _values(self) -> np.ndarray:
        return np.full(self._shape, FREE, self._dtype)


def touch(change: Edit, where: np.ndarray) -> None:
    """Mark what a stroke touched in ``where``, bool [H, W]."""
    flat = where.reshape(-1)
    flat[change.pixels.index] = True
    flat[change.confirmed.index] = True
