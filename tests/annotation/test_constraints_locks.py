"""A frozen class stays as it is, whatever is painted, written, undone, redone or rejected."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.constraints import Guards, Locks
from napari_hidiff.annotation.session import Prior
from napari_hidiff.errors import InputError
from napari_hidiff.masks import FREE

SHAPE = (7, 8)
WHOLE = (-1, -1)
MASKS = arrays(np.uint8, SHAPE, elements=st.integers(0, 3))
CORNER = st.tuples(st.integers(0, 6), st.integers(0, 7))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("paint"), CORNER, CORNER, st.integers(0, 3)),
        st.tuples(st.just("write"), MASKS),
        st.tuples(st.just("run"), MASKS),
        st.tuples(st.just("undo")),
        st.tuples(st.just("redo")),
        st.tuples(st.just("foreign"), MASKS),
        st.tuples(st.just("lock"), st.integers(1, 3), st.booleans()),
    ),
    max_size=25,
)


class Desk:
    """A mask whose every undo step is a copy of all its pixels, so that an undo brings back as
    much of the time before a lock as it can, and the annotation that follows it."""

    def __init__(self) -> None:
        self.data = np.zeros(SHAPE, np.uint8)
        self.annotation = Annotation(SHAPE)
        self.session = self.annotation.session(WHOLE, self.data)
        self._past: list[np.ndarray] = []
        self._future: list[np.ndarray] = []

    def act(self, name: str, *how: object) -> None:
        getattr(self, name)(*how)

    def paint(self, start: tuple[int, int], end: tuple[int, int], label: int) -> None:
        (top, bottom), (left, right) = zip(start, end, strict=True)
        now = self.data.copy()
        now[min(top, bottom) : max(top, bottom) + 1, min(left, right) : max(left, right) + 1] = (
            label
        )
        self._put(now)
        self._mend()
        self.annotation.changed(self.data, painted=True)

    def write(self, mask: np.ndarray) -> None:
        self._put(self.annotation.around_fixed(WHOLE, mask))
        assert self.annotation.locks.breach(self.data) is None, "a result broke a lock"
        self.annotation.wrote(WHOLE, self.data)

    def run(self, mask: np.ndarray) -> None:
        onehot = np.stack([mask == label for label in range(4)]).astype(np.float32)
        self.session.prior = Prior(onehot, onehot, mask)
        run = self.session.start(1, 4, Guards(near=1))
        known = run.fixed != FREE
        assert (run.fixed[known] == self.data[known]).all()
        for label in self.annotation.locks:
            assert known[self.data == label].all(), "the model is not told of a frozen pixel"
        self.session.add_step(mask, onehot)
        self.write(run.shown[1].mask)

    def undo(self) -> None:
        self._travel(self._past, self._future)

    def redo(self) -> None:
        self._travel(self._future, self._past)

    def foreign(self, mask: np.ndarray) -> None:
        self.data[...] = mask
        self._mend()
        self.annotation.changed(self.data, painted=False)

    def lock(self, label: int, on: bool) -> None:
        self.annotation.freeze(label, self.data, on)

    def _put(self, now: np.ndarray) -> None:
        if not np.array_equal(now, self.data):
            self._past.append(self.data.copy())
            self._future.clear()
            self.data[...] = now

    def _travel(self, source: list[np.ndarray], target: list[np.ndarray]) -> None:
        if source:
            target.append(self.data.copy())
            self.data[...] = source.pop()
            self._mend()
            self.annotation.changed(self.data, painted=False)

    def _mend(self) -> None:
        breach = self.annotation.locks.breach(self.data)
        if breach is not None:
            self.data[breach.where] = breach.values


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_no_pixel_of_a_frozen_class_ever_changes(actions: list[tuple]) -> None:
    desk = Desk()
    frozen: dict[int, np.ndarray] = {}
    for action in actions:
        desk.act(*action)
        if action[0] == "lock":
            frozen.pop(action[1], None)
            if action[2]:
                frozen[action[1]] = desk.data == action[1]
        for label, where in frozen.items():
            np.testing.assert_array_equal(desk.data == label, where)
        timeline = desk.session.timeline
        np.testing.assert_array_equal(timeline.content, desk.data)
        fixed = timeline.fixed
        assert ((fixed == FREE) | (fixed == desk.data)).all(), "a stroke that is not in the mask"
    assert list(desk.annotation.locks) == sorted(frozen)


def painted(desk: Desk) -> Desk:
    """A stroke of class 2 in columns 0 to 2, a result of class 1 beside it."""
    desk.paint((0, 0), (6, 2), 2)
    desk.write(np.ones(SHAPE, np.uint8))
    return desk


def test_undoing_a_result_beside_a_class_frozen_since_makes_no_edit() -> None:
    desk = painted(Desk())
    desk.lock(1, True)
    desk.undo()  # the result: every pixel that it changed is frozen now
    assert (desk.data[:, 3:] == 1).all()
    desk.lock(1, False)
    assert desk.session.timeline.fixed_count == 7 * 3, "a result became a stroke"
    desk.redo()
    assert desk.session.timeline.fixed_count == 7 * 3


def test_undoing_a_result_before_a_stroke_that_is_frozen_makes_no_edit() -> None:
    desk = Desk()
    desk.write(np.eye(*SHAPE, dtype=np.uint8))
    desk.paint((0, 4), (6, 4), 2)
    desk.lock(2, True)
    desk.undo()  # the stroke: nothing of it may go
    desk.undo()  # the result
    np.testing.assert_array_equal(desk.data > 0, desk.data == 2)
    assert desk.session.timeline.fixed_count == 0, "a result became a stroke"


def test_a_stroke_painted_over_by_a_class_frozen_since_is_fixed_as_what_is_there() -> None:
    desk = Desk()
    desk.paint((0, 0), (3, 0), 1)
    desk.paint((0, 5), (6, 5), 3)
    desk.paint((0, 0), (1, 0), 2)
    desk.lock(2, True)
    desk.undo()  # the last stroke: stays
    desk.undo()  # the one before
    fixed = desk.session.timeline.fixed
    assert fixed[:4, 0].tolist() == [2, 2, 1, 1]
    assert (fixed >= 0).sum() == 4
    desk.lock(2, False)
    desk.write(np.zeros(SHAPE, np.uint8))  # would be a mistake if a stroke were not in the mask
    assert desk.data[:4, 0].tolist() == [2, 2, 1, 1]


def test_undo_goes_on_behind_a_step_that_a_lock_kept() -> None:
    desk = painted(Desk())
    desk.paint((0, 5), (6, 5), 3)
    desk.lock(2, True)
    desk.undo()  # the stroke of class 3
    desk.undo()  # the result
    assert not desk.data[:, 3:].any()
    assert desk.session.timeline.fixed_count == 7 * 3
    desk.undo()  # the stroke of the class that is frozen
    assert (desk.data[:, :3] == 2).all()
    for _ in range(3):
        desk.redo()
    assert (desk.data[:, 5] == 3).all()
    assert desk.session.timeline.fixed_count == 7 * 4


def test_a_frozen_class_that_the_model_does_not_know_is_kept_and_not_told() -> None:
    desk = painted(Desk())
    mask = desk.data
    locks = Locks()
    locks.freeze(2, mask)
    free = np.full(SHAPE, FREE, np.int32)
    assert (locks.known(mask, free, labels=2) == FREE).all()
    np.testing.assert_array_equal(locks.known(mask, free, labels=3) == 2, mask == 2)
    np.testing.assert_array_equal(locks.around(mask, np.zeros_like(mask)) == 2, mask == 2)


def test_a_fixed_map_is_told_frozen_pixels_where_it_is_free() -> None:
    locks = Locks()
    content = np.array([[0, 1, 2, 2, 2, 2]])
    fixed = np.array([[-1, -1, -1, 0, 1, 2]], np.int16)
    assert locks.known(content, fixed, labels=3).tolist() == fixed.tolist()
    locks.freeze(2, content)
    known = locks.known(content, fixed, labels=3)
    assert known.dtype == np.int16
    assert known.tolist() == [[-1, -1, 2, 0, 1, 2]]


def test_a_breach_names_its_classes_and_looks_at_a_part_only() -> None:
    mask = np.zeros((3, *SHAPE), np.uint8)
    mask[1, 2, 2] = 2
    locks = Locks()
    locks.freeze(2, mask)
    mask[1, 2, 2], mask[1, 0, 0], mask[0, 0, 0] = 1, 2, 3
    assert locks.breach(mask, (0, slice(None), slice(None))) is None
    breach = locks.breach(mask, (1, slice(None), slice(None)))
    assert breach is not None
    assert breach.labels == {2}
    assert [axis.tolist() for axis in breach.where] == [[0, 2], [0, 2]]
    assert breach.values.tolist() == [0, 2]
    assert locks.breach(np.zeros(SHAPE, np.uint8)) is None, "a mask of another shape"


def test_a_class_that_only_loses_or_only_grows_is_named_too() -> None:
    mask = np.array([[1, 2, 3, 0]])
    locks = Locks()
    locks.freeze(2, mask)
    locks.freeze(3, mask)
    for changed, labels in (
        ([[1, 0, 3, 0]], {2}),
        ([[3, 2, 3, 0]], {3}),
        ([[1, 3, 3, 0]], {2, 3}),
        ([[1, 0, 1, 0]], {2, 3}),
    ):
        breach = locks.breach(np.array(changed))
        assert breach is not None
        assert breach.labels == labels


def test_the_background_cannot_be_frozen_and_locks_are_logged() -> None:
    with pytest.raises(ValueError, match="background"):
        Locks().freeze(0, np.zeros(SHAPE, np.uint8))
    annotation = Annotation(SHAPE)
    annotation.freeze(2, np.zeros(SHAPE, np.uint8))
    annotation.freeze(2, np.zeros(SHAPE, np.uint8), on=False)
    assert [(note["action"], note["label"], note["on"]) for note in annotation.log] == [
        ("lock", 2, True),
        ("lock", 2, False),
    ]
    assert not annotation.locks


def test_a_stroke_of_an_unknown_label_is_still_refused_beside_locks() -> None:
    desk = painted(Desk())
    desk.lock(1, True)
    desk.session.prior = Prior(desk.data, np.ones((1, *SHAPE), np.float32), desk.data)
    with pytest.raises(InputError, match="A stroke holds label 2"):
        desk.session.start(1, 2)
