"""Strokes painted in any of three orthogonal planes: fixed voxels of every slice they cross."""

import numpy as np
import pytest

from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.masks import FREE, slicer

SHAPE = (6, 8, 9)


def random_index(rng: np.random.Generator) -> tuple[int, int, int]:
    """A slice along any axis."""
    hidden = int(rng.integers(3))
    return tuple(int(rng.integers(SHAPE[axis])) if axis == hidden else -1 for axis in range(3))


@pytest.mark.parametrize("seed", range(6))
def test_strokes_of_all_views_are_one_set_of_voxels(seed):
    """Against one array of fixed voxels: strokes, undo of the last, and masks written around."""
    rng = np.random.default_rng(seed)
    annotation, mask = Annotation(SHAPE), np.zeros(SHAPE, np.uint8)
    annotation.begin()
    fixed = np.full(SHAPE, FREE, np.int32)
    for _ in range(25):
        index = random_index(rng)
        place = slicer(index)
        session = annotation.session(index, mask[place])
        if rng.random() < 0.5:  # a stroke of one label, which changes what it touches
            where = rng.random(mask[place].shape) < 0.15
            label = int(rng.integers(3))
            where &= mask[place] != label
            before, earlier = mask.copy(), fixed.copy()
            mask[place][where] = label
            fixed[place][where] = label
            annotation.changed(mask, painted=True)
            if where.any() and rng.random() < 0.3:
                mask[...] = before
                annotation.changed(mask, painted=False)
                fixed = earlier
        else:
            found = rng.integers(0, 3, mask[place].shape).astype(np.uint8)
            mask[place] = annotation.around_fixed(index, found)
            annotation.wrote(index, mask)
            expected = np.where(fixed[place] == FREE, found, fixed[place])
            np.testing.assert_array_equal(mask[place], expected)
        assert (mask[fixed != FREE] == fixed[fixed != FREE]).all()
        np.testing.assert_array_equal(session.timeline.fixed, fixed[place])
        for other, one in annotation.sessions.items():
            np.testing.assert_array_equal(one.timeline.content, mask[slicer(other)])


def test_a_pass_meets_the_strokes_of_another_view():
    annotation, mask = Annotation(SHAPE), np.zeros(SHAPE, np.uint8)
    annotation.begin()
    sagittal = (-1, -1, 4)
    annotation.session(sagittal, mask[slicer(sagittal)])
    mask[2:5, 3, 4] = 1
    annotation.changed(mask, painted=True)
    axial = [(at, -1, -1) for at in range(SHAPE[0])]
    annotation.meet_strokes(axial, mask)
    assert set(annotation.sessions) == {sagittal, *axial[2:5]}
    for index in axial[2:5]:
        fixed = annotation.sessions[index].timeline.fixed
        assert (fixed[3, 4], (fixed != FREE).sum()) == (1, 1)
    entries = len(annotation.log)
    annotation.meet_strokes(axial, mask)
    assert len(annotation.log) == entries
