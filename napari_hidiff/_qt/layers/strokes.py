"""Which pixels a stroke touched, also where it changed nothing.

A Labels layer reports painted pixels only where their value changed. A user who paints over a
pixel that is already right says "this one stays", so the path of the mouse is recorded too.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from napari.layers import Labels
from PIL import Image, ImageDraw

Path = list[tuple[float, ...]]
"""Positions of the mouse in data coordinates of the layer."""


class StrokeRecorder:
    """Watches the mouse on a Labels layer and reports finished strokes.

    layer : the layer; report : called with (path, label, area) after each stroke, where ``area``
        says that the inside of the path was painted as well.
    """

    def __init__(self, layer: Labels, report: Callable[[Path, int, bool], None]) -> None:
        self._layer, self._report = layer, report
        self._dragging = False
        self._outline: Path | None = None  # of a polygon or of an encircling stroke, while it lasts
        layer.mouse_drag_callbacks.append(self._on_drag)
        layer.mouse_move_callbacks.append(self._on_move)
        layer.events.paint.connect(self._on_paint)
        layer.events.mode.connect(self._on_mode)

    def close(self) -> None:
        """Stop watching."""
        self._layer.mouse_drag_callbacks.remove(self._on_drag)
        self._layer.mouse_move_callbacks.remove(self._on_move)
        self._layer.events.paint.disconnect(self._on_paint)
        self._layer.events.mode.disconnect(self._on_mode)

    def _on_drag(self, layer: Labels, event: Any) -> Iterator[None]:
        if layer.cursor == "circle_frozen" or len(event.dims_displayed) != 2:
            return  # the brush is being resized, or the view is 3-D
        here = self._position(event)
        if layer.mode == "polygon":
            if event.button == 1:
                self._outline = [*(self._outline or []), here]
            elif self._outline:
                self._outline.pop()
        elif layer.mode == "paint" and event.button == 2:
            self._outline = [here]  # encircle: goes on with the button released
        elif layer.mode in ("paint", "erase") and event.button == 1 and not self._outline:
            label = layer.selected_label if layer.mode == "paint" else 0
            path, self._dragging = [here], True
            yield
            while event.type == "mouse_move":
                path.append(self._position(event))
                yield
            self._dragging = False
            self._report(path, label, False)

    def _on_move(self, layer: Labels, event: Any) -> None:
        if self._outline and layer.mode == "paint":
            self._outline.append(self._position(event))

    def _on_paint(self, event: Any = None) -> None:
        if self._outline and not self._dragging:
            outline, self._outline = self._outline, None
            self._report(outline, self._layer.selected_label, True)

    def _on_mode(self, event: Any = None) -> None:
        self._outline = None

    def _position(self, event: Any) -> tuple[float, ...]:
        return tuple(float(at) for at in self._layer.world_to_data(event.position))


def brushed(path: np.ndarray, size: float, scale: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels under napari's round brush along a path: flat positions, int64, sorted.

    path : [n, 2] in pixels; size : the brush's diameter; scale : [2] of the shown axes (the brush
        is round in the world); shape : (H, W).
    """
    radius = np.floor(size / 2) + 0.5
    scale = np.abs(scale) / np.abs(scale).min()
    reach = np.floor(radius / scale).astype(int)
    rows, columns = np.mgrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    disc = (rows * scale[0]) ** 2 + (columns * scale[1]) ** 2 <= radius**2
    offsets = np.stack([rows[disc], columns[disc]], 1)
    centres = np.unique(np.round(_dense(path, size)).astype(int), axis=0)
    return _flat((centres[:, None] + offsets).reshape(-1, 2), shape)


def enclosed(path: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels on and inside a closed path [n, 2]: flat positions, int64, sorted."""
    if len(path) < 3:
        return np.empty(0, np.int64)
    canvas = Image.new("L", shape[::-1])
    corners = [(int(column), int(row)) for row, column in np.round(path)]
    ImageDraw.Draw(canvas).polygon(corners, outline=1, fill=1)
    return np.flatnonzero(np.asarray(canvas))


def _dense(path: np.ndarray, size: float) -> np.ndarray:
    """The path with points in between, a quarter of the brush apart as in napari."""
    pieces = [path[:1]]
    for start, end in pairwise(path):
        count = int(np.ceil(np.abs(end - start).max() / max(size / 4, 0.25))) or 1
        pieces.append(start + (end - start) * np.arange(1, count + 1)[:, None] / count)
    return np.concatenate(pieces)


def _flat(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    inside = np.all((pixels >= 0) & (pixels < shape), axis=1)
    rows, columns = pixels[inside].T
    return np.unique(rows.astype(np.int64) * shape[1] + columns)
