"""The undo history of a mask: the user's strokes, the model's writes, and the current position.

A napari Labels layer reports that its data changed, but not what changed them, nor which way its
history moved. A :class:`MaskHistory` has its own copy of the data and finds out by comparison. Two
events reach it: *painted* (a new edit; undone edits are dropped, as in the layer) and *moved*
(undo, redo, or a program wrote into the array). A stroke fixes the pixels that it touched, and
undoing it frees them; a model's write fixes nothing, so undoing one never makes an edit. A change
without any other explanation counts as the user's: no stroke is ever lost to a guess.

The history is bounded. Edits dropped at its old end can no longer be undone, and their strokes stay
fixed.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_hidiff.annotation.constraints import Locks
from napari_hidiff.annotation.edits import Edit, FixedMap, changed, joined, touch, unchanged
from napari_hidiff.masks import FREE as FREE
from napari_hidiff.masks import Runs, weight

HISTORY = 100
"""Edits that can be undone: as many as in a napari layer."""


class MaskHistory:
    """The history of one mask [H, W] and the map of pixels that the user has fixed.

    content : integer [H, W], the mask as it is now.
    fixed : integer [H, W], pixels fixed before this history began (``FREE`` elsewhere), or None.
    locks : the frozen classes; None = no class can be frozen.

    Raises
    ------
    ValueError : content is not [H, W], or fixed has another shape.
    """

    def __init__(
        self, content: np.ndarray, fixed: np.ndarray | None = None, locks: Locks | None = None
    ) -> None:
        self.locks = Locks() if locks is None else locks
        self._content = np.array(content, order="C")
        if self._content.ndim != 2:
            raise ValueError(f"a timeline follows a mask [H, W], got {self._content.shape}")
        self._fixed = FixedMap(self._content, fixed)
        self._changes: list[Edit] = []
        self._done = 0
        where = np.flatnonzero(self._content)
        self._weight = weight(where, self._content.ravel()[where])
        self.nbytes = 0
        """Memory of the history in bytes."""
        self.revision = 0
        """Rises with every change of the fixed map or the content."""
        self.travelled = 0
        """Edits that the last :meth:`moved` undid (< 0) or redid (> 0); 0 = neither."""

    @property
    def content(self) -> np.ndarray:
        """The mask as last reported, integer [H, W]: our copy of the layer's data. Do not write to
        it; it is valid until the next change."""
        return self._content

    @property
    def digest(self) -> str:
        """A digest of the content: eight hexadecimal digits."""
        return f"{self._weight >> 32:08x}"

    @property
    def fixed(self) -> np.ndarray:
        """A copy of the fixed map, int32 [H, W]: the user's label of a pixel, else ``FREE``."""
        return self._fixed.labels

    @property
    def fresh(self) -> np.ndarray:
        """Pixels bool [H, W] that the user painted since a model's mask was last written; all
        fixed ones where there was no stroke since."""
        last = [change.by_user for change in self._changes[: self._done]]
        written = False in last
        since = last[::-1].index(False) if written else len(last)
        fresh = np.zeros(self._content.shape, bool) if written else self._fixed.unanswered()
        for change in self._changes[self._done - since : self._done]:
            touch(change, fresh)
        return fresh if fresh.any() else self._fixed.where

    @property
    def painted_since(self) -> bool:
        """Whether the user painted since a model's mask was last written."""
        return self.last is not None and self.last.by_user

    @property
    def fixed_count(self) -> int:
        """Number of fixed pixels."""
        return self._fixed.count

    @property
    def changes(self) -> int:
        """Number of edits in the history, undone ones included."""
        return len(self._changes)

    @property
    def oldest(self) -> int:
        """The number of the oldest edit; -1 without any."""
        return self._changes[0].number if self._changes else -1

    @property
    def last(self) -> Edit | None:
        """The last edit that is not undone, or None."""
        return self._changes[self._done - 1] if self._done else None

    def stands(self, number: int) -> bool:
        """Whether the edit of this number was not undone."""
        done = self._changes[: self._done]
        return number < self.oldest or any(change.number == number for change in done)

    def painted(self, now: np.ndarray, more: bool = False) -> int:
        """The user painted, erased or filled; the mask is ``now``. Returns the changed pixels.

        more : the last stroke continues; both are one edit.
        """
        return self._append(now, by_user=True, more=more)

    def wrote(self, now: np.ndarray) -> int:
        """A model's result was written; the mask is ``now``. Returns the changed pixels.

        Raises
        ------
        ValueError : the write changed a fixed pixel (a mistake in the calling program).
        """
        if self._fixed and self._fixed.differs(now).any():
            raise ValueError("a model's write must not change a pixel that the user has fixed")
        changed = self._append(now, by_user=False)
        if not changed and self._done == len(self._changes):  # an answer without a change
            last = self.last
            if last is None or last.by_user:  # successive answers are one edit
                self._push(unchanged(by_user=False))
        return changed

    def confirm(self, index: np.ndarray) -> int:
        """The user painted pixels (flat positions, rising) with the value they have: fix them too.

        Returns the number of pixels that were not fixed before. A layer has no history of such a
        stroke, so it is undone together with the stroke before it.
        """
        index = self._fixed.free(index)
        count = int(index.size)
        if count:
            self._forget_undone()
            last = self.last
            if last is not None and last.by_user:
                index = np.union1d(last.confirmed.index, index)
                confirmed = Runs.of(index, self._content.ravel()[index])
                self._replace_last(replace(last, confirmed=confirmed))
            else:
                self._push(unchanged(True, index, self._content.ravel()[index]))
        return count

    def moved(self, now: np.ndarray) -> int:
        """The mask became ``now`` without a stroke: undo, redo or a foreign write.

        The nearest state of the history that equals ``now`` is taken. Where undo and redo would
        give the same mask, redo is assumed, since it preserves more of the user's strokes. Returns
        the changed pixels; ``travelled`` is the result.
        """
        self.travelled = 0
        index = np.flatnonzero(self._content != now)
        if not index.size:
            return 0
        back, forth = self._distance(now, index, -1), self._distance(now, index, +1)
        if not back and not forth:
            return self._append(now, by_user=True)
        self.travelled = forth if forth and (not back or forth <= back) else -back
        self.travel(self.travelled)
        return int(index.size)

    def travel(self, by: int) -> None:
        """Undo (< 0) or redo (> 0) so many edits.

        Raises
        ------
        ValueError : the history has fewer edits.
        """
        if not 0 <= self._done + by <= len(self._changes):
            raise ValueError(f"the history has no moment {by:+d} from here")
        stood = self._content.copy() if self.locks else None
        for change in self._path(by):
            self._set(change.pixels.index, change.pixels.column(0 if by < 0 else 1))
        if stood is not None:  # a frozen class stays as it was
            where = np.flatnonzero(self.locks.breached(stood, self._content))
            self._set(where, stood.ravel()[where])
        self._done += by
        self.revision += 1
        self._fixed.rebuild(change for change in self._changes[: self._done] if change.by_user)
        if self.locks:  # frozen since that stroke
            self._fixed.sync(self._content)

    def drop_oldest(self) -> None:
        """Drop the oldest edit, which can then no longer be undone; its strokes stay fixed. If all
        edits are undone, the last redo is dropped instead."""
        if not self._done:
            self.nbytes -= self._changes.pop().nbytes
            return
        change = self._changes.pop(0)
        self._done -= 1
        self.nbytes -= change.nbytes
        if change.by_user:
            self._fixed.retain(change)
        else:
            self._fixed.mark_answered()

    def around_fixed(self, mask: np.ndarray) -> np.ndarray:
        """``mask`` [H, W] with fixed pixels at their label and frozen classes unchanged, in the
        dtype of the content."""
        merged = self.locks.around(self._content, np.array(mask, self._content.dtype))
        self._fixed.put_into(merged)
        return merged

    def _append(self, now: np.ndarray, by_user: bool, more: bool = False) -> int:
        index = np.flatnonzero(self._content != now)
        if not index.size:
            return 0
        self._forget_undone()
        if self._content.dtype != now.dtype:  # the layer has other data now
            self._content = self._content.astype(now.dtype)
            self._fixed.promote_dtype()
        before, after = self._content.ravel()[index], np.ravel(now)[index]
        last = self.last
        if more and last is not None and last.by_user and last.moves:
            self._replace_last(joined(last, index, before, after))
        else:
            self._push(changed(by_user, index, before, after))
        self._set(index, after)
        return int(index.size)

    def _push(self, change: Edit) -> None:
        self._changes.append(change)
        self._done += 1
        self._count_in(change)
        while sum(one.moves for one in self._changes) > HISTORY:
            self.drop_oldest()

    def _replace_last(self, change: Edit) -> None:
        self.nbytes -= self._changes[-1].nbytes
        self._changes[-1] = change
        self._count_in(change)

    def _count_in(self, change: Edit) -> None:
        self.nbytes += change.nbytes
        self.revision += 1
        if change.by_user:
            self._fixed.apply_edit(change)

    def _forget_undone(self) -> None:
        self.nbytes -= sum(change.nbytes for change in self._changes[self._done :])
        del self._changes[self._done :]

    def _path(self, by: int) -> Sequence[Edit]:
        """The next edits to undo or redo, in order."""
        if by < 0:
            return self._changes[self._done + by : self._done][::-1]
        return self._changes[self._done : self._done + by]

    def _distance(self, now: np.ndarray, differs: np.ndarray, direction: int) -> int:
        """Number of edits to undo (-1) or redo (+1) until the mask equals ``now``; 0 if never.

        differs : flat positions where the content differs from ``now``.
        """
        wanted, current = np.ravel(now), self._content.ravel()
        unlike = np.zeros(wanted.size, bool)
        unlike[differs] = True
        left, back = differs.size, direction < 0
        path = self._path(-self._done if back else len(self._changes) - self._done)
        for steps, change in enumerate(path, start=1):
            if not change.moves:
                continue
            index = change.pixels.index
            # Locked pixels are ignored when matching history states.
            then = self.locks.around(current[index], change.pixels.column(0 if back else 1))
            here = then != wanted[index]
            left += int(here.sum()) - int(unlike[index].sum())
            unlike[index] = here
            if not left:
                # Confirmations have no history of their own: they are redone with their stroke.
                while not back and steps < len(path) and not path[steps].moves:
                    steps += 1
                return steps
        return 0

    def _set(self, index: np.ndarray, values: np.ndarray) -> None:
        flat = self._content.reshape(-1)
        change = weight(index, values) - weight(index, flat[index])
        self._weight = (self._weight + change) % 2**64
        flat[index] = values
