"""The pixels of a stroke, against what napari paints for it."""

import numpy as np
import pytest
from napari.layers import Labels

from napari_hidiff._qt.layers.strokes import brushed, enclosed

SHAPE = (40, 50)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 15])
@pytest.mark.parametrize("scale", [(1, 1), (-2, 1), (0.5, 1.7)])
def test_the_brush_is_naparis(size: int, scale: tuple[float, float]) -> None:
    layer = Labels(np.zeros(SHAPE, np.uint8), scale=scale)
    layer.brush_size = size
    for centre in ((20.4, 30.6), (0, 0), (39, 20)):
        layer.data[...] = 0
        layer.paint(centre, 1)
        mine = brushed(np.array([centre]), size, np.array(scale), SHAPE)
        np.testing.assert_array_equal(mine, np.flatnonzero(layer.data))


def test_a_path_has_no_gaps() -> None:
    path = np.array([(5.0, 5.0), (30.0, 45.0), (35.0, 2.0)])
    mine = np.zeros(SHAPE, bool)
    mine.ravel()[brushed(path, 1, np.ones(2), SHAPE)] = True
    for start, end in ((path[0], path[1]), (path[1], path[2])):
        for part in np.linspace(0, 1, 200):
            row, column = np.round(start + part * (end - start)).astype(int)
            assert mine[row - 1 : row + 2, column - 1 : column + 2].any()


def test_a_polygon_is_filled_as_napari_fills_it() -> None:
    corners = np.array([(3, 4), (30, 8), (25, 40), (6, 44)])
    layer = Labels(np.zeros(SHAPE, np.uint8))
    layer.paint_polygon(corners, 1)
    mine = enclosed(corners.astype(float), SHAPE)
    np.testing.assert_array_equal(mine, np.flatnonzero(layer.data))
    assert enclosed(corners[:2].astype(float), SHAPE).size == 0
