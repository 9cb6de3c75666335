"""Many slices in a row, from the panel: segment, refine, carry a correction on, take it back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from napari.utils.notifications import show_info

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.sections import VolumeBox
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff._qt.tasks.run_view import Target
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.journal import model_facts
from napari_hidiff.annotation.refinement import (
    Settings,
    SliceResult,
    propagate,
    refine_slices,
    segment_slices,
    slices_along,
    slices_from_labels,
)
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Sampling
from napari_hidiff.masks import FREE, Index, check_labels, slicer

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


class Change(NamedTuple):
    """What a sweep changed in a slice: flat positions, the labels there before and after."""

    where: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray) -> "Change":
        """What changed from one mask [H, W] to another."""
        where = np.flatnonzero(before != after)
        return cls(where, before.ravel()[where], after.ravel()[where])

    def stands(self, mask: np.ndarray, fixed: np.ndarray) -> bool:
        """Whether it is still to be seen in ``mask``, but for pixels fixed bool [H, W] since."""
        same = mask.ravel()[self.where] == self.after
        return bool((same | fixed.ravel()[self.where]).all())

    def undone(self, mask: np.ndarray) -> np.ndarray:
        """``mask`` without it."""
        undone = np.array(mask)
        undone.ravel()[self.where] = self.before
        return undone


class Sweeps:
    """What the volume box does; every slice is written as one undo step.

    box : its controls. work : runs one thing at a time.
    """

    def __init__(self, box: VolumeBox, work: Refinement) -> None:
        self._box, self._work = box, work
        self._bench: Bench | None = None
        self._last: dict[Index, Change] = {}
        self._refined: WeakKeyDictionary[Bench, set[Index]] = WeakKeyDictionary()
        self._news: set[Index] = set()  # of these, what the last sweep was the first to refine

    def segment(
        self, target: Target, model: "HiDiff", axis: int, labels: np.ndarray | None
    ) -> None:
        """The segmentor's mask in every slice of the range, or that of the user's ``labels`` (of
        the whole mask's shape); raises InputError."""
        where = self._range(target, axis)
        args: tuple[Any, ...] = (model, target.stack, where)
        if labels is None:
            self._start("segment", target, model, where, segment_slices, *args)
        else:
            check_labels(labels, model.labels, "The mask to start from")
            self._start("segment", target, model, where, slices_from_labels, *args, labels)

    def refine(
        self,
        target: Target,
        model: "HiDiff",
        axis: int,
        settings: Settings,
        guards: Guards,
        labels: np.ndarray | None,
    ) -> None:
        """Every slice of the range refined from what it starts from, ``labels`` of the user where
        it was not begun yet; raises InputError.

        guards : what may change in slices that were refined before, as in a re-refinement.
        ``certain`` is not heeded: the probability behind the mask of every slice would have to be
        kept.
        """
        where = self._range(target, axis)
        if labels is not None:
            check_labels(labels, model.labels, "The mask to start from")
        sessions, given = target.bench().annotation.sessions, {}
        for index in where:
            mine = sessions.get(index)
            begun = mine is not None and mine.begun
            if mine is not None and begun and mine.given is not None:
                given[index] = mine.given
            elif labels is not None and not begun:
                given[index] = labels[slicer(index)].copy()
        fixed = self._fixed(target, model)
        how = settings.sampling
        args = (model, target.stack, where, given, fixed, how)
        again = replace(guards, certain=False)
        self._start("refine", target, model, where, refine_slices, *args, how=how, guards=again)

    def carry(
        self, target: Target, model: "HiDiff", axis: int, settings: Settings, on: bool
    ) -> None:
        """Carry the correction of the shown slice on (or back) within the range; InputError."""
        bench, index = target.bench(), target.index
        session = bench.session(index)
        at, reach = index[axis], range(self._box.first.value(), self._box.last.value() + 1)
        end = reach[-1] if on else reach[0]
        if at not in reach or at == end:
            raise InputError("There is no slice to carry to: the range ends at this one.")
        mask = session.timeline.content.copy()
        before = session.propagated_mask
        if np.array_equal(before, mask):
            raise InputError("Nothing to carry: correct this slice first.")
        step = 1 if on else -1
        where = slices_along(index, axis, at + step, end)
        whole, how = bench.mask.data, settings.sampling

        def standing(there: Index) -> np.ndarray:
            return whole[slicer(there)].copy()

        fixed = self._fixed(target, model)
        args = (model, target.stack, where, before, mask, standing, fixed, how)
        self._start("carry", target, model, where, propagate, *args, how=how)

    def take_back(self) -> None:
        """Put every slice of the last sweep back, as one undo step, but for later changes."""
        bench, last = self._bench, self._last
        if bench is None or not last:
            raise InputError("There is nothing to take back.")
        standing = {}
        for index, change in last.items():
            mask = bench.mask.data[slicer(index)]
            if change.stands(mask, bench.session(index).timeline.fixed != FREE):
                standing[index] = change.undone(mask)
        bench.link.write_many(standing)
        for index in standing:
            bench.session(index).mark_propagated()
        bench.annotation.note("take_back", slices=len(standing))
        self._refined.get(bench, set()).difference_update(self._news & set(standing))
        self._last = {}
        self._box.line.setText(messages.TAKEN_BACK)
        show_info(messages.taken_back(len(standing), len(last) - len(standing)))

    def can_take_back(self, bench: Bench | None) -> bool:
        """Whether the last sweep was on this bench and stands."""
        return bench is not None and bench is self._bench and bool(self._last)

    def _start(
        self,
        what: str,
        target: Target,
        model: "HiDiff",
        where: list[Index],
        slices: Callable[..., Iterator[SliceResult]],
        *args: Any,
        how: Sampling | None = None,
        guards: Guards | None = None,
    ) -> None:
        bench, began, done = target.bench(), time.monotonic(), 0
        self._bench, self._last, self._news = bench, {}, set()
        refined = self._refined.setdefault(bench, set())

        def each(swept: SliceResult) -> None:
            nonlocal done
            done += 1
            session, mask = bench.session(swept.at), swept.mask
            facts = model_facts(model) | {"kind": what, **(asdict(how) if how else {})}
            before_it = _refined(session, swept.at in refined)
            if guards is not None and before_it:
                stands, shown = session.timeline, swept.probability
                mask = guards(stands.content, mask, stands.fresh, shown, shown)
                facts |= vars(guards)
            bench.annotation.note("sweep", slice=swept.at, **facts)

            def written(before: np.ndarray, after: np.ndarray) -> None:
                session.begin(swept.given)
                session.mark_propagated()
                self._last[swept.at] = Change.between(before, after)
                if what == "segment":
                    refined.discard(swept.at)
                elif not before_it:
                    refined.add(swept.at)
                    self._news.add(swept.at)

            bench.show_probability(swept.at, swept.probability)
            bench.link.write(swept.at, mask.astype(swept.mask.dtype), then=written)
            seconds = (time.monotonic() - began) / done * (len(where) - done)
            self._box.line.setText(messages.slices(done, len(where), seconds))
            self._work.progressed(done / len(where))

        def ended() -> None:
            self._box.line.setText(messages.swept(what, done, len(where)))

        self._box.line.setText(messages.slices(0, len(where)))
        self._work.sweep(bench, slices, *args, each=each, ended=ended)

    def _range(self, target: Target, axis: int) -> list[Index]:
        first, last = self._box.first.value(), self._box.last.value()
        if first > last:
            raise InputError(f"The range runs from slice {first} to {last}: swap them.")
        return slices_along(target.index, axis, first, last)

    def _fixed(self, target: Target, model: "HiDiff") -> dict[Index, np.ndarray]:
        found = {}
        for index, session in target.bench().annotation.sessions.items():
            fixed = session.timeline.fixed
            check_labels(fixed[fixed != FREE], model.labels, "A stroke")
            known = session.known(model.labels)
            if (known != FREE).any():
                found[index] = known
        return found


def _refined(session: Session, swept: bool) -> bool:
    """Whether what stands in a slice is a refinement: by a run, or ``swept`` by a sweep."""
    if session.run is not None:
        return session.run.written is not None
    return swept and session.begun and session.prior is None
