"""Box: a rectangle drawn around an object, with napari's own tool for it."""

import math
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Shapes
from qtpy.QtCore import QTimer

from napari_hidiff._qt.controls.annotate_page import AnnotatePage
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.tasks.selection import Selection
from napari_hidiff._qt.threads import attempt
from napari_hidiff.masks import Box, Index


class BoxTool:
    """Takes a layer to draw a rectangle on in hand, and the mask again once there is one.

    drawn : called with the box, in pixels of the shown slice; it may raise InputError.
    """

    def __init__(
        self, page: AnnotatePage, selection: Selection, drawn: Callable[[Box], None]
    ) -> None:
        self._page, self._selection, self._drawn = page, selection, drawn
        self._layers: WeakKeyDictionary[Shapes, AnnotatedImage] = WeakKeyDictionary()

    def take(self) -> None:
        """Draw a box; pressed again: move the view. Raises InputError without an image."""
        annotated = self._selection.target().annotated()
        if annotated.drawing:
            self._give_back(annotated, "pan_zoom")
            return
        layer = annotated.draw()
        if layer not in self._layers:
            self._layers[layer] = annotated
            layer.mouse_drag_callbacks.append(self._dragged)
            layer.bind_key("Control-Z", lambda _: annotated.mask.undo())  # shapes have no undo
            layer.bind_key("Control-Shift-Z", lambda _: annotated.mask.redo())
        self.show()

    def show(self) -> None:
        """Bring the button up to date."""
        annotated = self._selection.annotated
        self._page.box.setChecked(annotated is not None and annotated.drawing)

    def close(self) -> None:
        """Let go of the layers."""
        for layer in list(self._layers):
            layer.mouse_drag_callbacks.remove(self._dragged)
        self._layers.clear()

    def _dragged(self, layer: Shapes, event: Any) -> Iterator[None]:
        yield
        while event.type == "mouse_move":
            yield
        QTimer.singleShot(0, lambda: self._released(layer))  # napari finishes its drawing first

    def _released(self, layer: Shapes) -> None:
        annotated = self._layers.get(layer)
        if annotated is None or not layer.data:
            return
        corners = np.array(layer.data[-1])
        layer.data = []
        attempt(self._ask, annotated, corners)

    def _ask(self, annotated: AnnotatedImage, corners: np.ndarray) -> None:
        box = box_around(corners, annotated.shown(), annotated.annotation.shape)
        if box is not None:  # a click draws none
            self._give_back(annotated, "paint")
            self._drawn(box)

    def _give_back(self, annotated: AnnotatedImage, mode: str) -> None:
        annotated.select()
        annotated.mask.mode = mode
        self.show()


def box_around(corners: np.ndarray, index: Index, shape: tuple[int, ...]) -> Box | None:
    """The pixels of a slice that a rectangle covers, as far as they are inside; None where these
    are less than two in a row.

    corners : float [4, n], positions in a mask of ``shape``, whose pixels have their middle on
    whole numbers. index : of the slice.
    """
    sides = []
    for axis in (axis for axis, at in enumerate(index) if at < 0):
        first = max(0, math.floor(corners[:, axis].min() + 0.5))
        last = min(shape[axis], math.ceil(corners[:, axis].max() + 0.5))
        sides.append((first, last))
    (y0, y1), (x0, x1) = sides
    return Box(y0, x0, y1, x1) if min(y1 - y0, x1 - x0) >= 2 else None
