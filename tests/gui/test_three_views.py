"""Strokes in any of the three orthogonal views of a volume, with the mouse in a real window."""

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_hidiff.annotation.replay import Replay
from napari_hidiff.cli.replay import Models
from napari_hidiff.masks import FREE, slicer

SHAPE = (20, 40, 48)
VIEWS = {"coronal": (1, 0, 2), "sagittal": (2, 0, 1), "sagittal, turned": (2, 1, 0)}
"""Orders of the axes, as napari's buttons *roll* and *transpose* make them; the first is hidden."""


@pytest.fixture
def grey(tiny, tmp_path):
    path = tmp_path / "grey.safetensors"
    tiny(labels=2, channels=1).save(path)
    return path


def volume() -> np.ndarray:
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ball = (2 * (z - 10)) ** 2 + (y - 20) ** 2 + (x - 24) ** 2 < 12**2
    noise = np.random.default_rng(0).normal(0, 5, SHAPE)
    return (np.where(ball, 140, 60) + noise).astype(np.float32)


def look(hand, order: tuple[int, ...], at: int) -> None:
    """Turn the view and go to a slice."""
    hand.viewer.dims.order = order
    hand.viewer.dims.set_current_step(order[0], at)
    hand.viewer.reset_view()
    hand.known()


def on_canvas(hand, voxel: tuple[int, ...]) -> QPoint:
    """Where a voxel of the shown slice is."""
    axes = list(hand.viewer.dims.displayed)
    camera, size = hand.viewer.scene.camera, hand.canvas.size()
    way = (np.array(hand.mask.data_to_world(voxel))[axes] - camera.center[-2:]) * camera.zoom
    return QPoint(round(way[1] + size.width() / 2), round(way[0] + size.height() / 2))


def drag(hand, start: tuple[int, ...], end: tuple[int, ...], mode: str = "paint") -> np.ndarray:
    """A stroke of the mouse between two voxels; where the mask changed."""
    before = hand.mask.data.copy()
    hand.viewer.layers.selection.active = hand.mask
    hand.mask.mode, hand.mask.selected_label, hand.mask.brush_size = mode, 1, 3
    left, first = Qt.MouseButton.LeftButton, on_canvas(hand, start)
    QTest.mouseMove(hand.canvas, first)
    QTest.mousePress(hand.canvas, left, pos=first)
    for part in np.linspace(0.25, 1, 4):
        at = np.round(np.array(start) + part * (np.array(end) - np.array(start)))
        QTest.mouseMove(hand.canvas, on_canvas(hand, tuple(at)))
        QApplication.processEvents()
    QTest.mouseRelease(hand.canvas, left, pos=on_canvas(hand, end))
    hand.pause(1)
    return hand.mask.data != before


def fixed(hand, axis: int, at: int) -> np.ndarray:
    """The fixed map of a slice along an axis; all free where nothing was done to it."""
    index = tuple(at if one == axis else -1 for one in range(3))
    session = hand.widget.bench.annotation.sessions.get(index)
    size = [side for one, side in enumerate(SHAPE) if one != axis]
    return np.full(size, FREE) if session is None else session.timeline.fixed


@pytest.mark.parametrize("view", list(VIEWS))
def test_a_stroke_in_another_view_is_fixed_in_every_slice_it_crosses(open_hand, grey, view):
    image, order = volume(), VIEWS[view]
    hand = open_hand(image, model=grey, scale=(2, 1, 1))
    hand.viewer.dims.set_current_step(0, 10)
    hand.known()
    hand.click("segment")  # a slice that is known before
    hidden, at = order[0], 20
    look(hand, order, at)
    start, end = [0, 0, 0], [0, 0, 0]
    start[hidden] = end[hidden] = at
    along = 3 - hidden  # the other axis of the picture; 0 goes along the slices
    start[0], end[0], start[along], end[along] = 4, 15, 10, 14
    before = hand.mask.data.copy()
    changed = drag(hand, tuple(start), tuple(end))
    place = np.argwhere(changed)
    assert set(place[:, hidden]) == {at}, "in the plane that is seen alone"
    assert set(place[:, 0]) >= set(range(5, 15))
    strokes = changed.copy()
    np.testing.assert_array_equal(
        fixed(hand, hidden, at)[
            strokes[slicer(tuple(at if one == hidden else -1 for one in range(3)))]
        ],
        1,
    )
    assert (fixed(hand, 0, 10)[strokes[10]] == 1).all()
    painted = hand.mask.data.copy()

    hand.mask.undo()
    hand.pause(1)
    np.testing.assert_array_equal(hand.mask.data, before)
    assert hand.widget.bench.annotation.fixed_count == 0
    hand.mask.redo()
    hand.pause(1)
    np.testing.assert_array_equal(hand.mask.data, painted)

    look(hand, (0, 1, 2), 10)
    hand.click("rerefine")
    assert (hand.mask.data[strokes] == 1).all()
    hand.click("refine_slices")
    hand.says("Updated", "slices")
    assert (hand.mask.data[strokes] == 1).all()
    for one in np.unique(place[:, 0]):
        assert (fixed(hand, 0, one)[strokes[one]] == 1).all()

    erased = drag(hand, (10, 5, 5), (10, 12, 30), mode="erase")
    look(hand, order, at)
    hand.click("segment")  # the model's own mask of this plane, and a run from it
    hand.click("run")
    kept = strokes & ~erased
    assert (hand.mask.data[kept] == 1).all()
    assert not hand.mask.data[erased].any()

    log = hand.widget.bench.annotation.log
    repeated = Replay(log, SHAPE, image, Models([grey], None))
    repeated.run()
    assert repeated.deviation is None
    np.testing.assert_array_equal(repeated.mask, hand.mask.data)


def test_a_pass_tells_the_model_of_strokes_from_another_view(open_hand):
    """Of a prompted model: a slice is updated where a stroke is inside the object."""
    image = volume()
    hand = open_hand(image, stepwise=False)
    hand.use("universal")
    look(hand, (1, 0, 2), 20)
    hand.control("after_stroke").setChecked(False)
    hand.widget.fit.keep_choice(False)
    hand.click("paint")
    strokes = drag(hand, (7, 20, 24), (13, 20, 26))
    look(hand, (0, 1, 2), 10)
    hand.click("refine_slices")
    hand.says("Updated", "slices")
    touched = np.unique(np.argwhere(strokes)[:, 0])
    assert len(touched) >= 6
    found, painted = (mask[touched].sum((1, 2)) for mask in (hand.mask.data, strokes))
    assert (found > painted).sum() >= 6, "the model answered there"
    assert (hand.mask.data[strokes] == 1).all()
