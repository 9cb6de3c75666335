"""napari's brush, held to pixels that look like the one under its centre."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from napari.layers import Labels

from napari_hidiff._qt.layers.strokes import brushed
from napari_hidiff.annotation.brush import noise_of, reach, similar
from napari_hidiff.masks import Index, slicer


class SimilarBrush:
    """Takes the place of the ``paint`` of one Labels layer, which every touch of the brush calls.

    layer : the mask. shown : the slice that is painted; None = none.
    image : the pixels of a slice, [H, W, C]; it may be lazy.

    It does what napari's does while it is off, for the eraser, and for a brush of three axes.
    """

    def __init__(
        self,
        layer: Labels,
        shown: Callable[[], Index | None],
        image: Callable[[Index], Any],
    ) -> None:
        self.share: float | None = None
        """What is alike, 0..1 (:func:`napari_hidiff.annotation.brush.similar`); None = off."""
        self._layer, self._shown, self._image = layer, shown, image
        self._touched: list[np.ndarray] = []
        self._noise: tuple[Index, np.ndarray] | None = None
        self._napari = layer.paint
        layer.paint = self._paint

    def close(self) -> None:
        """Give the layer its own brush back."""
        del self._layer.paint

    def touched(self) -> np.ndarray | None:
        """The pixels of the stroke that ended: flat positions in the slice, rising; None where
        napari's own brush painted."""
        parts, self._touched = self._touched, []
        return np.unique(np.concatenate(parts)) if parts else None

    def _paint(self, coord: Sequence[float], new_label: int, refresh: bool = True) -> None:
        index = self._shown()
        plain = self.share is None or new_label == 0 or self._layer.n_edit_dimensions != 2
        if plain or index is None:
            self._napari(coord, new_label, refresh)
            return
        layer, axes = self._layer, [axis for axis, at in enumerate(index) if at < 0]
        sides = layer.data.shape
        size = sides[axes[0]], sides[axes[1]]
        disc = brushed(np.array([coord])[:, axes], layer.brush_size, layer.scale[axes], size)
        centre = np.round(np.array(coord)[axes]).astype(int)
        if not (disc.size and ((centre >= 0) & (centre < size)).all()):
            return
        rows, columns = np.divmod(disc, size[1])
        kept = self._alike(index, centre, rows, columns)
        rows, columns = rows[kept], columns[kept]
        self._touched.append(disc[kept])
        free = np.ones(rows.size, bool)
        if layer.preserve_labels:
            free = layer.data[slicer(index)][rows, columns] == 0
        shown = iter((rows[free], columns[free]))
        count = int(free.sum())
        place = tuple(next(shown) if at < 0 else np.full(count, at) for at in index)
        layer.data_setitem(place, new_label, refresh)

    def _alike(
        self, index: Index, centre: np.ndarray, rows: np.ndarray, columns: np.ndarray
    ) -> np.ndarray:
        """Which pixels under the brush look like the one under its centre; bool [n]."""
        image = self._image(index)
        if self._noise is None or self._noise[0] != index:
            self._noise = index, noise_of(np.asarray(image))
        far = reach(np.abs(np.stack([rows, columns], 1) - centre).max())
        top, left = np.maximum(centre - far, 0)
        window = image[top : centre[0] + far + 1, left : centre[1] + far + 1]
        middle = int(centre[0] - top), int(centre[1] - left)
        assert self.share is not None
        alike = similar(np.asarray(window), middle, self._noise[1], self.share)
        return np.asarray(alike[rows - top, columns - left])
