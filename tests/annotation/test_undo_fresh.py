"""Which strokes are fresh: those since a model last wrote into the mask."""

import numpy as np
import pytest
from histories import OTHER, SHAPE, STROKE, Layer


@pytest.fixture
def layer() -> Layer:
    return Layer()


def painted_pixels(*strokes: tuple[slice, slice]) -> np.ndarray:
    where = np.zeros(SHAPE, bool)
    for stroke in strokes:
        where[stroke] = True
    return where


def test_fresh_strokes_are_those_since_the_last_write(layer: Layer) -> None:
    assert not layer.timeline.fresh.any()
    layer.paint(STROKE, 1)
    np.testing.assert_array_equal(layer.timeline.fresh, painted_pixels(STROKE))
    layer.write(np.eye(*SHAPE, dtype=np.uint8))
    layer.paint(OTHER, 2)
    layer.timeline.confirm(np.array([SHAPE[1] - 1]))
    fresh = painted_pixels(OTHER)
    fresh[0, -1] = True
    np.testing.assert_array_equal(layer.timeline.fresh, fresh)


def test_without_a_stroke_since_the_last_write_all_strokes_are_fresh(layer: Layer) -> None:
    layer.paint(STROKE, 1)
    layer.write(np.eye(*SHAPE, dtype=np.uint8))
    layer.paint(OTHER, 2)
    layer.write(np.zeros(SHAPE, np.uint8))
    np.testing.assert_array_equal(layer.timeline.fresh, painted_pixels(STROKE, OTHER))


def test_an_answer_that_changes_nothing_makes_strokes_old_too(layer: Layer) -> None:
    layer.paint(STROKE, 1)
    assert layer.timeline.wrote(layer.data) == 0
    layer.paint(OTHER, 2)
    np.testing.assert_array_equal(layer.timeline.fresh, painted_pixels(OTHER))
    layer.undo()
    layer.undo()
    assert layer.timeline.fixed_count == 0
    layer.redo()
    layer.redo()
    assert layer.timeline.fixed_count == painted_pixels(STROKE, OTHER).sum()
    layer.undo()
    before = layer.timeline.fixed
    layer.timeline.wrote(layer.data)  # what was undone can still be done again
    layer.redo()
    np.testing.assert_array_equal(
        layer.timeline.fixed[~painted_pixels(OTHER)], before[~painted_pixels(OTHER)]
    )
    assert layer.timeline.fixed_count == painted_pixels(STROKE, OTHER).sum()


def test_fresh_strokes_follow_undo_and_redo(layer: Layer) -> None:
    layer.paint(STROKE, 1)
    layer.write(np.eye(*SHAPE, dtype=np.uint8))
    layer.paint(OTHER, 2)
    layer.write(np.ones(SHAPE, np.uint8))
    layer.undo()  # the write: the stroke before it waits for an answer again
    np.testing.assert_array_equal(layer.timeline.fresh, painted_pixels(OTHER))
    layer.undo()
    np.testing.assert_array_equal(layer.timeline.fresh, painted_pixels(STROKE))
    layer.redo()
    np.testing.assert_array_equal(layer.timeline.fresh, painted_pixels(OTHER))
