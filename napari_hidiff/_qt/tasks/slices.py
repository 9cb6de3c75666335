"""Many slices in a row, from the panel: segment, refine, carry a correction on, take it back."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.annotate_page import AnnotatePage
from napari_hidiff._qt.controls.sections import SliceRange
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff._qt.tasks.run_view import Target
from napari_hidiff.annotation.between import fill_slices
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.objects import with_object
from napari_hidiff.annotation.refinement import (
    Settings,
    SliceChange,
    SliceResult,
    fixed_maps,
    guarded,
    object_maps,
    prompts,
    propagate,
    refine_slices,
    segment_slices,
    slices_along,
    slices_from_labels,
    starting_masks,
)
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Sampling
from napari_hidiff.masks import Index, check_labels, slicer

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


class ManySlices:
    """What the volume box does; every slice is written as one undo step.

    box : which slices; page : has the line about them; work : runs one thing at a time.
    """

    def __init__(self, box: SliceRange, page: AnnotatePage, work: Refinement) -> None:
        self._box, self._line, self._work = box, page.slices_line, work
        self._annotated: AnnotatedImage | None = None
        self._last: dict[Index, SliceChange] = {}
        self._newly_refined: set[Index] = set()

    def segment(
        self,
        target: Target,
        model: "HiDiff",
        axis: int,
        scale: float | None,
        labels: np.ndarray | None,
    ) -> None:
        """The segmentor's mask in every slice of the range, or that of the user's ``labels`` (of
        the whole mask's shape); raises InputError.

        scale : by which slices are resampled for the segmentor.
        """
        where = self._range(target, axis)
        args: tuple[Any, ...] = (model, target.stack, where)
        if model.card.needs_prompt and labels is None:
            raise InputError(
                "This model finds what it is pointed at: paint in a slice, then Carry."
            )
        if labels is None:
            self._start("segment", target, model, where, segment_slices, *args, scale)
        else:
            if not model.card.prompted:  # to which every label is an object
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
        label: int | None = None,
    ) -> None:
        """Every slice of the range refined from what it starts from, ``labels`` of the user where
        it was not begun yet; slices that are done stay as they are. Raises InputError.

        guards : what may change in slices that were refined before, as in a re-refinement
            (:func:`guarded`). label : the object that a prompted model is asked for, in the slices
            where it is pointed at.
        """
        where = self._range(target, axis)
        if labels is not None and label is None:
            check_labels(labels, model.labels, "The mask to start from")
        annotated, how = target.annotated(), settings.sampling
        annotated.annotation.meet_strokes(where, annotated.mask.data)
        sessions = annotated.annotation.sessions
        where = [index for index in where if index not in sessions or not sessions[index].done]
        if not where:
            raise InputError("Nothing to update: every slice of the range is done.")
        if label is None:
            priors = starting_masks(sessions, where, labels)
            fixed = fixed_maps(sessions, model.labels)
        else:
            pointed = prompts(sessions, where, labels, label)
            where = list(pointed)
            if not where:
                raise InputError("No slice of the range has a stroke inside the object, or a mask.")
            priors = {index: mask for index, mask in pointed.items() if mask is not None}
            fixed = object_maps(sessions, where, target.annotated().mask.data, label)
        args = (model, target.stack, where, priors, fixed, how)
        work = ("refine", target, model, where, refine_slices, *args)
        self._start(*work, how=how, guards=guards, label=label)

    def carry(
        self,
        target: Target,
        model: "HiDiff",
        axis: int,
        settings: Settings,
        directions: Sequence[int],
        label: int | None = None,
    ) -> None:
        """Carry the correction of the shown slice through the range; raises InputError.

        directions : 1 to the slices behind it, -1 to those before it. label : the object that a
        prompted model is asked for, the only one that is carried.
        """
        annotated, index = target.annotated(), target.index
        session = annotated.session(index)
        at, (first, last) = index[axis], self._box.range
        ends = [last if step > 0 else first for step in directions]
        ways = [(step, end) for step, end in zip(directions, ends, strict=True) if at != end]
        if not first <= at <= last or not ways:
            raise InputError("There is no slice to carry to: the range ends at this one.")
        paths = [slices_along(index, axis, at + step, end) for step, end in ways]
        whole, how = annotated.mask.data, settings.sampling
        annotated.annotation.meet_strokes([*chain(*paths)], whole)
        sessions = annotated.annotation.sessions

        def of_object(labels: np.ndarray) -> np.ndarray:
            array = labels.copy() if label is None else (labels == label).astype(np.uint8)
            return array

        mask = of_object(session.timeline.content)
        before = of_object(session.propagated_mask)
        if np.array_equal(before, mask):
            raise InputError("Nothing to carry: correct this slice first.")

        def standing(there: Index) -> np.ndarray:
            return of_object(whole[slicer(there)])

        if label is None:
            fixed = fixed_maps(sessions, model.labels)
        else:
            fixed = object_maps(sessions, [*chain(*paths)], whole, label)

        def both_ways() -> Iterator[SliceResult]:
            for path in paths:
                yield from propagate(model, target.stack, path, before, mask, standing, fixed, how)

        self._start("carry", target, model, [*chain(*paths)], both_ways, how=how, label=label)

    def fill(
        self,
        target: Target,
        model: "HiDiff",
        axis: int,
        settings: Settings,
        label: int | None = None,
    ) -> None:
        """Fill the slices of the range between those that have strokes or are done; raises
        InputError.

        label : the object that a prompted model is asked for, the only one that is filled: between
        slices that have strokes inside it, or a box around it, or are done.
        """
        where, how = self._range(target, axis), settings.sampling
        annotated = target.annotated()
        sessions, whole = annotated.annotation.sessions, annotated.mask.data
        annotated.annotation.meet_strokes(where, whole)

        def worked_on(index: Index) -> bool:
            session = sessions.get(index)
            if session is None or session.done or label is None:
                return session is not None and bool(session.done or session.timeline.fixed_count)
            return session.painted_in(label) or session.pointed(label) is not None

        known = [
            (index, whole[slicer(index)].copy() if label is None else whole[slicer(index)] == label)
            for index in where
            if worked_on(index)
        ]
        between = [one for one in where if known and known[0][0] < one < known[-1][0]]
        between = [one for one in between if not worked_on(one)]
        if not between:
            raise InputError("Paint in two slices first, with some between them: those are filled.")
        if label is None:
            fixed = fixed_maps(sessions, model.labels)
            for _, mask in known:
                check_labels(mask, model.labels, "A mask to fill from")
        else:
            fixed = object_maps(sessions, between, whole, label)
        args = (model, target.stack, axis, known, fixed, how)
        self._start("fill", target, model, between, fill_slices, *args, how=how, label=label)

    def take_back(self) -> None:
        """Put every slice of the last sweep back, as one undo step, but for later changes."""
        annotated, last = self._annotated, self._last
        if annotated is None or not last:
            raise InputError("There is nothing to take back.")
        standing = {}
        for index, change in last.items():
            undone = change.undone(annotated.session(index))
            if undone is not None:
                standing[index] = undone
        annotated.link.write_many(standing)
        for index in standing:
            annotated.session(index).mark_propagated()
        annotated.annotation.journal.take_back(len(standing))
        for index in self._newly_refined & set(standing):
            annotated.session(index).refined_by_pass = False
        self._last = {}
        self._line.setText(messages.UNDONE)
        show_info(messages.taken_back(len(standing), len(last) - len(standing)))

    def can_take_back(self, annotated: AnnotatedImage | None) -> bool:
        """Whether the last pass was over this image and can be undone."""
        return annotated is not None and annotated is self._annotated and bool(self._last)

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
        label: int | None = None,
    ) -> None:
        """Begin a pass."""
        annotated, began, done = target.annotated(), time.monotonic(), 0
        self._annotated, self._last, self._newly_refined = annotated, {}, set()

        def each(swept: SliceResult) -> None:
            nonlocal done
            done += 1
            session = annotated.session(swept.at)
            if label is not None:
                mask = with_object(session.timeline.content, label, swept.mask)
                swept = swept._replace(mask=mask)
            mask = swept.mask
            used, again = None, session.refined
            if guards is not None and again:
                mask, used = guarded(session, swept, guards), replace(guards, certain=False)
            annotated.annotation.journal.sweep(swept.at, model, what, how, used)

            def written(before: np.ndarray, after: np.ndarray) -> None:
                session.begin(swept.given, label=label)
                session.mark_propagated()
                session.refined_by_pass = what != "segment"
                self._last[swept.at] = SliceChange.between(before, after)
                if session.refined_by_pass and not again:
                    self._newly_refined.add(swept.at)

            annotated.show_maps(swept.at, swept.probability)
            annotated.link.write(swept.at, mask, then=written)
            seconds = (time.monotonic() - began) / done * (len(where) - done)
            self._line.setText(messages.slices(done, len(where), seconds))
            self._work.progressed(done / len(where))

        def ended() -> None:
            self._line.setText(messages.swept(what, done, len(where)))

        self._line.setText(messages.slices(0, len(where)))
        self._work.sweep(annotated, slices, *args, each=each, ended=ended)

    def _range(self, target: Target, axis: int) -> list[Index]:
        first, last = self._box.range
        if first > last:
            raise InputError(f"Swap the range: it runs from slice {first} to {last}.")
        return slices_along(target.index, axis, first, last)
