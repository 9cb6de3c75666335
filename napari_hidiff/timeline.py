"""What happened to a mask, in order: the user's strokes, the model's writes, how far undo went.

A napari Labels layer tells that its data changed, but not who changed them nor which way its
history moved. A :class:`Timeline` keeps its own copy of the data and finds out by comparison. Two
kinds of news reach it: *painted* (new history: what was undone is forgotten, as in the layer) and
*moved* (undo, redo, or someone wrote into the array). A stroke fixes the pixels that it touched
and undoing it frees them; a model's write fixes nothing, so undoing one never makes an edit. What
cannot be explained counts as the user's work: no stroke is ever lost to a guess.
"""

from dataclasses import dataclass

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.locks import Locks

FREE = -1
"""The value of a pixel in a fixed map that the user has not fixed."""

_NO_PIXELS = np.empty(0, np.int64)


@dataclass(frozen=True)
class Change:
    """One step of the history; pixels are flat positions, int64.

    index : [n] pixels whose value changed; before, after : [n] their values on both sides.
    by_user : a stroke, or else a model's write.
    confirmed : [m] pixels that the user painted with the value they already had;
    confirmed_as : [m] that value.
    """

    index: np.ndarray
    before: np.ndarray
    after: np.ndarray
    by_user: bool
    confirmed: np.ndarray
    confirmed_as: np.ndarray


class Timeline:
    """The history of one mask [H, W] and the map of pixels that the user has fixed.

    content : integer [H, W], the mask as it is now.
    fixed : integer [H, W], pixels fixed before this history began (``FREE`` elsewhere), or None.
    locks : the classes that are frozen, if any can be.

    Raises
    ------
    ValueError : content is not [H, W], or fixed has another shape.
    """

    def __init__(
        self, content: np.ndarray, fixed: np.ndarray | None = None, locks: Locks | None = None
    ) -> None:
        self.locks = Locks() if locks is None else locks
        self._content = np.array(content)
        if self._content.ndim != 2:
            raise ValueError(f"a timeline follows a mask [H, W], got {self._content.shape}")
        self._base = np.full(self._content.shape, FREE, np.int32)
        if fixed is not None:
            if np.shape(fixed) != self._content.shape:
                raise ValueError(f"fixed is {np.shape(fixed)}, the mask {self._content.shape}")
            self._base[:] = fixed
        self._fixed = self._base.copy()
        self._changes: list[Change] = []
        self._done = 0

    @property
    def content(self) -> np.ndarray:
        """The mask as last seen, integer [H, W]: our copy of the layer's data; do not write."""
        return self._content

    @property
    def fixed(self) -> np.ndarray:
        """A copy of the fixed map, int32 [H, W]: the user's label of a pixel, else ``FREE``."""
        return self._fixed.copy()

    @property
    def fresh(self) -> np.ndarray:
        """Pixels bool [H, W] that the user painted since a model's mask was last written; all
        fixed ones where there was no stroke since."""
        last = [change.by_user for change in self._changes[: self._done]]
        since = last[::-1].index(False) if False in last else len(last)
        found = np.zeros(self._content.shape, bool)
        for change in self._changes[self._done - since : self._done]:
            found.ravel()[change.index] = True
            found.ravel()[change.confirmed] = True
        return found if found.any() else self._fixed != FREE

    @property
    def fixed_count(self) -> int:
        """How many pixels are fixed."""
        return int(np.count_nonzero(self._fixed != FREE))

    def painted(self, now: np.ndarray) -> int:
        """The user painted, erased or filled; the mask is ``now``. Returns the changed pixels."""
        return self._append(now, by_user=True)

    def wrote(self, now: np.ndarray) -> int:
        """A model's result was written; the mask is ``now``. Returns the changed pixels.

        Raises
        ------
        ValueError : the write changed a fixed pixel (a mistake in the calling program).
        """
        if np.any((self._fixed != FREE) & (self._fixed != now)):
            raise ValueError("a model's write must not change a pixel that the user has fixed")
        changed = self._append(now, by_user=False)
        if not changed and self._done == len(self._changes):  # an answer all the same
            self._push(Change(_NO_PIXELS, _NO_PIXELS, _NO_PIXELS, False, _NO_PIXELS, _NO_PIXELS))
        return changed

    def confirm(self, index: np.ndarray) -> int:
        """The user painted pixels (flat positions) with the value they have: fix them too.

        Returns how many of them were not fixed before. A layer keeps no history of such a
        stroke, so it is undone together with the stroke before it.
        """
        index = index[self._fixed.ravel()[index] == FREE]
        if index.size:
            self._forget_undone()
            values = self._content.ravel()[index]
            self._push(Change(_NO_PIXELS, values[:0], values[:0], True, index, values))
        return int(index.size)

    def moved(self, now: np.ndarray) -> int:
        """The mask became ``now`` without anyone painting: undo, redo or a foreign write.

        The nearest moment of the history that looks like ``now`` is taken. Where going on and
        going back would look the same, going on is assumed, for it keeps more of the user's
        strokes. Returns the changed pixels.
        """
        index = np.flatnonzero(self._content != now)
        if not index.size:
            return 0
        back, forth = self._distance(now, -1), self._distance(now, +1)
        if not back and not forth:
            return self._append(now, by_user=True)
        self._done += forth if forth and (not back or forth <= back) else -back
        self._content = np.array(now)
        self._restamp()
        return int(index.size)

    def around_fixed(self, mask: np.ndarray) -> np.ndarray:
        """``mask`` [H, W] with fixed pixels at their fixed value and frozen classes as they are,
        in the dtype of the content."""
        merged = self.locks.around(self._content, np.array(mask, self._content.dtype))
        where = self._fixed != FREE
        merged[where] = self._fixed[where]
        return merged

    def _append(self, now: np.ndarray, by_user: bool) -> int:
        index = np.flatnonzero(self._content != now)
        if not index.size:
            return 0
        self._forget_undone()
        before, after = self._content.ravel()[index], np.ravel(now)[index]
        self._push(Change(index, before, after, by_user, _NO_PIXELS, before[:0]))
        self._content = np.array(now)
        return int(index.size)

    def _push(self, change: Change) -> None:
        self._changes.append(change)
        self._done += 1
        self._stamp(change)

    def _forget_undone(self) -> None:
        del self._changes[self._done :]

    def _distance(self, now: np.ndarray, direction: int) -> int:
        """How many changes back (-1) or forth (+1) the mask looked like now; 0 if never."""
        seen = self._content.ravel().copy()
        stands, wanted = self._content.ravel(), np.ravel(now)
        back = direction < 0
        path = self._changes[: self._done][::-1] if back else self._changes[self._done :]
        for count, change in enumerate(path, start=1):
            seen[change.index] = change.before if back else change.after
            # What a frozen class kept from undo or redo tells no moment from another.
            if change.index.size and np.array_equal(self.locks.around(stands, seen), wanted):
                # Confirmations have no history of their own: they return with their stroke.
                while not back and count < len(path) and not path[count].index.size:
                    count += 1
                return count
        return 0

    def _stamp(self, change: Change) -> None:
        if change.by_user:
            flat = self._fixed.reshape(-1)
            flat[change.index] = change.after
            flat[change.confirmed] = change.confirmed_as

    def _restamp(self) -> None:
        self._fixed = self._base.copy()
        for change in self._changes[: self._done]:
            self._stamp(change)
        stale = (self._fixed != FREE) & (self._fixed != self._content)  # frozen since that stroke
        self._fixed[stale] = self._content[stale]


def check_labels(values: np.ndarray, labels: int, what: str) -> None:
    """Make sure that labels, an integer array of any shape, lie in 0..labels - 1.

    Raises
    ------
    InputError : naming ``what`` holds another label, which one, and in how many pixels.
    """
    outside = values[(values >= labels) | (values < 0)]
    if outside.size:
        label = int(outside[0])
        count = int(np.count_nonzero(values == label))
        raise InputError(
            f"{what} holds label {label} in {count} pixel{'s' * (count > 1)}, but the model knows "
            f"0 to {labels - 1}: give them one of its labels."
        )
