"""A Labels layer and its annotation, kept in step.

The layer's events are taken as hints that something changed; what changed is found by comparison
(:mod:`napari_hidiff.annotation.undo`). A result is written as one undo step, around fixed pixels,
and never into the middle of a stroke: napari would file it under the stroke's own undo step.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer

from napari_hidiff._qt.layers.similar_brush import SimilarBrush
from napari_hidiff._qt.layers.strokes import Path, StrokeRecorder, brushed, enclosed
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.journal import Result
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.masks import Index, slicer


class MaskLink:
    """Follows what happens to a mask and writes results into it.

    layer : the mask, of the annotation's shape. annotation : what is kept about it.
    shown : says which slice the viewer shows (None: no slice of this mask). image : the pixels of
    a slice, [H, W, C], for the brush that paints similar pixels only.
    changed : called after every change of strokes or content.
    """

    def __init__(
        self,
        layer: Labels,
        annotation: Annotation,
        shown: Callable[[], Index | None],
        changed: Callable[[], None],
        image: Callable[[Index], Any],
    ) -> None:
        self.layer, self.annotation = layer, annotation
        self._shown, self._changed = shown, changed
        self._stroke_open = False  # pixels changed, but the stroke is not in napari's history yet
        self._announced = False  # a stroke made by a call: its history entry comes first
        self._writing = False
        self._last: Index | None = None
        self._waiting: list[Callable[[], None]] = []
        self._closed = False
        self.refused: Callable[[frozenset[int]], None] = lambda labels: None
        """Called with the frozen classes that a stroke wanted to change, and did not."""
        self.stroke_ended: Callable[[], None] = lambda: None
        """Called after every finished stroke, once napari has filed it under its history."""
        self._ending = False
        self._recorder = StrokeRecorder(layer, self._on_stroke)
        self.brush = SimilarBrush(layer, shown, image)
        layer.events.labels_update.connect(self._on_update)
        layer.events.paint.connect(self._on_paint)
        layer.events.set_data.connect(self._on_set_data)

    def close(self) -> None:
        """Let go of the layer; it stays as it is."""
        self._closed = True
        self._recorder.close()
        self.brush.close()
        self.layer.events.labels_update.disconnect(self._on_update)
        self.layer.events.paint.disconnect(self._on_paint)
        self.layer.events.set_data.disconnect(self._on_set_data)
        self._waiting.clear()
        self.stroke_ended = lambda: None

    def session(self, index: Index) -> Session:
        """The session of a slice of the mask.

        Raises
        ------
        InputError : the layer's data were replaced by an array of another shape.
        """
        if self.layer.data.shape != self.annotation.shape:
            raise InputError(
                f"Press Find for a new mask: {self.layer.name} now has shape "
                f"{self.layer.data.shape}, the image needs {self.annotation.shape}. It stays."
            )
        return self.annotation.session(index, self.layer.data[slicer(index)])

    @property
    def rejectable(self) -> Index | None:
        """The slice of the result whose writing is the last thing that happened to the mask."""
        return self._last

    def reject(self) -> None:
        """Take that result back, as one step of the layer's own undo.

        Raises
        ------
        InputError : something else happened since.
        """
        index = self._last
        if index is not None:
            self.session(index)
            self._compare(painted=False)  # what was written into the array without an event
        if index is None or self._last is None or self._stroke_open:
            raise InputError("There is no result to reject: the mask was changed since.")
        self._last = None
        self.layer.undo()

    def keep(self) -> None:
        """The last result is not to be rejected any more."""
        if self._last is not None:
            self._last = None
            self._changed()

    def write(
        self,
        index: Index,
        mask: np.ndarray,
        step: int | None = None,
        then: Callable[[np.ndarray, np.ndarray], None] | None = None,
        rejectable: bool = False,
        what: Result | None = None,
    ) -> None:
        """Write a model's mask [H, W] into a slice, around fixed pixels, as one undo step.

        A stroke in progress is waited for. Nothing is written, and a warning says why, if the
        layer's data were replaced by another shape. step : the entry of the run it comes from.
        then : called with the slice's mask before and after, once it is written.
        rejectable : whether :meth:`reject` may take it back, if it changes anything.
        what : ``prior`` or ``walker``, for the log, as :meth:`Annotation.wrote` has it.
        """

        def put() -> None:
            ((before, after),) = self._put({index: mask}, step, what)
            self._last = index if rejectable and (before != after).any() else None
            self._changed()
            if then is not None:
                then(before, after)

        self._waiting.append(put)
        self._settle()

    def write_many(self, masks: Mapping[Index, np.ndarray]) -> None:
        """Write masks [H, W] into slices, around fixed pixels, all as one undo step; like
        :meth:`write`."""

        def put() -> None:
            self._put(masks)
            self._last = None
            self._changed()

        self._waiting.append(put)
        self._settle()

    def _put(
        self,
        masks: Mapping[Index, np.ndarray],
        step: int | None = None,
        what: Result | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Write now; the masks of the slices before and after."""
        written, places, values = [], [], []
        for index, mask in masks.items():
            before = self.session(index).timeline.content.copy()
            after = self.annotation.around_fixed(index, mask)
            written.append((before, after))
            where = np.nonzero(before != after)
            places.append(_place(index, where))
            values.append(after[where])
        self._writing = True
        try:
            if sum(map(len, values)):
                place = tuple(map(np.concatenate, zip(*places, strict=True)))
                self.layer.data_setitem(place, np.concatenate(values))
        finally:
            self._writing = False
        for index in masks:
            self.annotation.locks.breach(self.layer.data, slicer(index))  # follows; breaks none
            self.annotation.wrote(index, self.layer.data, step, what)
        return written

    def _settle(self) -> None:
        while self._waiting and not self._stroke_open:
            try:
                self._waiting.pop(0)()
            except InputError as error:
                show_warning(str(error))

    def _on_update(self, event: Any = None) -> None:
        if self._writing:
            return
        more, by_call = self._stroke_open, self._announced
        self._stroke_open = not by_call
        self._announced = False
        self.keep()
        self._mend(stroke=True)
        self._compare(painted=True, more=more, anywhere=by_call)

    def _on_paint(self, event: Any = None) -> None:
        if self._writing:
            return
        self._announced = not self._stroke_open
        self.keep()
        self._close_stroke()
        self._end_stroke()

    def _on_set_data(self, event: Any = None) -> None:
        if self._writing:
            return
        self._mend(stroke=False)
        if self._compare(painted=False):
            self._close_stroke()  # undone, or given up half-way

    def _mend(self, stroke: bool) -> None:
        """Put back what frozen classes lost or gained.

        Within a stroke of the mouse that belongs to the stroke's own undo step. Everywhere else it
        is done behind the history's back: the step that is there holds the old pixels already.
        """
        if self.layer.data.shape != self.annotation.shape:
            return
        index = self._shown() if stroke and self.layer.n_edit_dimensions == 2 else None
        breach = self.annotation.locks.breach(
            self.layer.data, slicer(index) if index is not None else ...
        )
        if breach is None:
            return
        place = breach.where if index is None else _place(index, breach.where)
        staged = stroke and self._stroke_open
        self._writing = True
        try:
            if staged:
                self.layer.data_setitem(place, breach.values)
            else:
                self.layer.data[place] = breach.values
        finally:
            self._writing = False
        if not staged or self.layer.contour:
            QTimer.singleShot(0, self._redraw)  # napari is still drawing what was there
        if stroke:
            self.refused(breach.labels)

    def _redraw(self) -> None:
        if not self._closed:
            self.layer.refresh()

    def _end_stroke(self) -> None:
        """Tell of the stroke once, when napari is done with it."""
        if not self._ending:
            self._ending = True
            QTimer.singleShot(0, self._stroke_is_over)

    def _stroke_is_over(self) -> None:
        self._ending = False
        self.stroke_ended()

    def _close_stroke(self) -> None:
        self._stroke_open = False
        # Not before the event loop is back: napari is still filing the stroke under its history.
        QTimer.singleShot(0, self._settle)

    def _compare(self, painted: bool, more: bool = False, anywhere: bool = False) -> int:
        """Tell the annotation what changed; ``more``: by the same stroke as last time;
        ``anywhere``: perhaps in slices that are not shown. Returns how many pixels changed."""
        if self.layer.data.shape != self.annotation.shape:
            return 0
        index = self._shown() if painted else None
        if index is not None:
            before = self.annotation.fixed_count
            self.session(index)
            if anywhere or self.layer.n_edit_dimensions > 2:
                self.annotation.discover(self.layer.data, index)
            count = self.annotation.fixed_count - before
        else:
            count = 0
        count += self.annotation.changed(self.layer.data, painted, more)
        if count:
            self._last = None
            self._changed()
        return count

    def _on_stroke(self, path: Path, label: int, area: bool) -> None:
        self.keep()
        index = self._shown()
        if index is None or self.layer.data.shape != self.annotation.shape:
            return
        axes = [axis for axis, at in enumerate(index) if at < 0]
        points = np.array(path)[:, axes]
        session = self.session(index)
        shape = session.timeline.content.shape
        touched = self.brush.touched()
        if touched is None or area:
            touched = brushed(points, self.layer.brush_size, self.layer.scale[axes], shape)
        if area:
            inside = enclosed(points, shape)
            touched = inside if self.layer.mode == "polygon" else np.union1d(touched, inside)
        same = session.timeline.content.ravel()[touched] == label
        if self.annotation.confirm(index, touched[same]):
            self._end_stroke()
            self._changed()


def _place(index: Index, where: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Positions in a slice [H, W] as positions in the whole mask."""
    shown = iter(where)
    return tuple(next(shown) if at < 0 else np.full(where[0].size, at) for at in index)
