"""The history of a mask and the session on top of it: what is fixed, and what undo does to it."""

import subprocess
import sys

import numpy as np
import pytest

from napari_hidiff.annotation import Annotation
from napari_hidiff.errors import InputError
from napari_hidiff.guards import Guards
from napari_hidiff.session import (
    ADDED,
    RELABELLED,
    REMOVED,
    Prior,
    Session,
    difference,
)
from napari_hidiff.timeline import FREE, Timeline, check_labels

SHAPE = (12, 16)
STROKE = (slice(2, 5), slice(3, 9))
OTHER = (slice(7, 9), slice(0, 4))


class Layer:
    """A mask with a linear history as napari's Labels layer keeps it, reporting to a timeline."""

    def __init__(self) -> None:
        self.data = np.zeros(SHAPE, np.uint8)
        self.timeline = Timeline(self.data)
        self._past: list[np.ndarray] = []
        self._future: list[np.ndarray] = []

    def paint(self, where: tuple[slice, slice], label: int) -> None:
        self._put(where, label)
        self.timeline.painted(self.data)

    def write(self, mask: np.ndarray) -> None:
        self._put(..., self.timeline.around_fixed(mask))
        self.timeline.wrote(self.data)

    def undo(self) -> None:
        self._travel(self._past, self._future)

    def redo(self) -> None:
        self._travel(self._future, self._past)

    def _put(self, where: object, value: object) -> None:
        before = self.data.copy()
        self.data[where] = value
        if not np.array_equal(before, self.data):  # an edit without effect has no history
            self._past.append(before)
            self._future.clear()

    def _travel(self, source: list[np.ndarray], target: list[np.ndarray]) -> None:
        if source:
            target.append(self.data.copy())
            self.data[...] = source.pop()
            self.timeline.moved(self.data)


@pytest.fixture
def layer() -> Layer:
    return Layer()


def model_mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, SHAPE).astype(np.uint8)


def test_a_stroke_fixes_what_it_changed_and_a_write_fixes_nothing(layer: Layer) -> None:
    layer.write(model_mask(0))
    assert layer.timeline.fixed_count == 0
    layer.paint(STROKE, 1)
    changed = model_mask(0)[STROKE] == 0
    assert layer.timeline.fixed_count == changed.sum()
    assert (layer.timeline.fixed[STROKE][changed] == 1).all()


def test_a_write_goes_around_every_stroke_of_every_round(layer: Layer) -> None:
    layer.paint(STROKE, 1)
    layer.write(np.zeros(SHAPE, np.uint8))
    layer.paint(OTHER, 1)
    layer.write(np.zeros(SHAPE, np.uint8))
    expected = np.zeros(SHAPE, np.uint8)
    expected[STROKE] = expected[OTHER] = 1
    np.testing.assert_array_equal(layer.data, expected)


def test_a_write_over_a_stroke_is_a_mistake(layer: Layer) -> None:
    layer.paint(STROKE, 1)
    with pytest.raises(ValueError, match="fixed"):
        layer.timeline.wrote(np.zeros(SHAPE, np.uint8))


def test_undoing_a_write_makes_no_edit_and_undoing_a_stroke_frees_it(layer: Layer) -> None:
    layer.write(model_mask(0))
    layer.paint(STROKE, 1)
    first = layer.timeline.fixed
    layer.write(model_mask(1))
    layer.paint(OTHER, 0)
    both = layer.timeline.fixed
    assert (both != first).any()
    layer.undo()
    np.testing.assert_array_equal(layer.timeline.fixed, first)
    layer.undo()  # the second write
    np.testing.assert_array_equal(layer.timeline.fixed, first)
    layer.undo()  # the first stroke
    assert layer.timeline.fixed_count == 0
    layer.undo()  # the first write
    assert layer.timeline.fixed_count == 0
    assert not layer.data.any()
    for _ in range(4):
        layer.redo()
    np.testing.assert_array_equal(layer.timeline.fixed, both)


def test_painting_a_pixel_back_to_what_it_was_fixes_it_and_is_no_undo(layer: Layer) -> None:
    layer.write(model_mask(0))
    where = tuple(int(at[0]) for at in np.nonzero(model_mask(0)))
    pixel = tuple(slice(at, at + 1) for at in where)
    layer.write(model_mask(0) * 0)
    layer.paint(pixel, 1)
    layer.paint(pixel, 0)  # now the mask looks exactly as before both strokes
    assert layer.timeline.fixed[where] == 0


def test_new_history_forgets_what_was_undone(layer: Layer) -> None:
    layer.paint(STROKE, 1)
    layer.undo()
    layer.paint(OTHER, 1)
    expected = np.full(SHAPE, FREE)
    expected[OTHER] = 1
    np.testing.assert_array_equal(layer.timeline.fixed, expected)


def test_a_confirmed_pixel_stays_and_is_undone_with_the_stroke_before_it(layer: Layer) -> None:
    layer.paint(STROKE, 1)
    assert layer.timeline.confirm(np.array([0, 1])) == 2
    assert layer.timeline.confirm(np.array([0, 1])) == 0
    layer.write(np.ones(SHAPE, np.uint8))
    assert (layer.data.ravel()[:2] == 0).all()
    layer.undo()
    assert layer.timeline.fixed.ravel()[0] == 0
    layer.undo()
    assert layer.timeline.fixed_count == 0
    layer.redo()
    assert layer.timeline.fixed.ravel()[0] == 0
    assert (layer.timeline.fixed[STROKE] == 1).all()


def test_a_foreign_write_counts_as_the_users_work(layer: Layer) -> None:
    layer.data[OTHER] = 1
    layer.timeline.moved(layer.data)
    assert (layer.timeline.fixed[OTHER] == 1).all()


def test_several_steps_at_once_are_found(layer: Layer) -> None:
    layer.write(model_mask(0))
    layer.paint(STROKE, 1)
    layer.paint(OTHER, 1)
    layer.data[...] = model_mask(0)
    layer.timeline.moved(layer.data)
    assert layer.timeline.fixed_count == 0


@pytest.mark.parametrize("seed", range(20))
def test_any_history_keeps_the_fixed_map_that_its_strokes_give(seed: int) -> None:
    """Random strokes, writes, undos and redos against a plain list of what is done."""
    rng = np.random.default_rng(seed)
    layer, fixed = Layer(), [np.full(SHAPE, FREE)]
    at = 0
    for _ in range(60):
        before = layer.data.copy()
        action = rng.choice(["paint", "write", "undo", "redo"], p=[0.4, 0.2, 0.25, 0.15])
        if action == "undo":
            layer.undo()
            at = max(at - 1, 0)
        elif action == "redo":
            layer.redo()
            at = min(at + 1, len(fixed) - 1)
        elif action == "write":
            layer.write(rng.integers(0, 3, SHAPE).astype(np.uint8))
            if not np.array_equal(before, layer.data):
                del fixed[at + 1 :]
                fixed.append(fixed[at])
                at += 1
        else:
            top, left = rng.integers(0, 8, 2)
            layer.paint((slice(top, top + 4), slice(left, left + 5)), int(rng.integers(0, 3)))
            changed = before != layer.data
            if changed.any():
                del fixed[at + 1 :]
                fixed.append(np.where(changed, layer.data, fixed[at]))
                at += 1
        np.testing.assert_array_equal(layer.timeline.fixed, fixed[at])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        Timeline(np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="fixed"):
        Timeline(np.zeros(SHAPE, np.uint8), np.zeros((2, 2), int))


def test_labels_outside_the_classes_are_named() -> None:
    check_labels(np.array([0, 1]), 2, "x")
    with pytest.raises(InputError, match=r"The mask holds label 7 in 2 pixels.*0 to 1"):
        check_labels(np.array([0, 7, 7]), 2, "The mask")
    with pytest.raises(InputError, match="label -2 in 1 pixel,"):
        check_labels(np.array([0, -2]), 2, "x")


def test_difference_tells_added_removed_and_relabelled() -> None:
    before, after = np.array([[0, 1, 1, 2]]), np.array([[1, 0, 2, 2]])
    kinds, changes = difference(before, after)
    assert kinds.tolist() == [[ADDED, REMOVED, RELABELLED, 0]]
    assert changes == (1, 1, 1)


@pytest.fixture
def session() -> Session:
    session = Session(np.zeros(SHAPE, np.uint8))
    probability = np.random.default_rng(0).random((1, *SHAPE), np.float32)
    session.prior = Prior(probability, probability, (probability[0] >= 0.5).astype(np.uint8))
    return session


def test_a_run_shows_its_steps_around_strokes_painted_meanwhile(session: Session) -> None:
    assert session.prior is not None
    run = session.start(total=2, labels=2)
    assert not run.finished
    painted = np.zeros(SHAPE, np.uint8)
    painted[STROKE] = 1
    session.timeline.painted(painted)  # after the start: the run knows nothing of it
    for step in (1, 2):
        session.add_step(np.zeros(SHAPE, np.uint8), np.zeros((1, *SHAPE), np.float32))
        assert (session.view(step)[STROKE] == 1).all()
    assert run.finished
    assert (run.fixed == FREE).all()
    np.testing.assert_array_equal(run.shown[0].mask, session.prior.mask)
    session.wrote(session.view(2), step=2)
    assert run.written == 2


def test_there_is_no_run_without_a_prior_and_no_step_without_a_run() -> None:
    session = Session(np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match="Segment first"):
        session.start(1, 2)
    with pytest.raises(InputError, match="no such step"):
        session.view(0)


def test_a_stroke_that_the_model_does_not_know_stops_the_run_and_stays(session: Session) -> None:
    painted = np.zeros(SHAPE, np.uint8)
    painted[STROKE] = 7
    session.timeline.painted(painted)
    with pytest.raises(InputError, match="A stroke holds label 7"):
        session.start(1, labels=2)
    assert (session.timeline.fixed[STROKE] == 7).all()


def test_accept_takes_the_mask_as_it_stands(session: Session) -> None:
    session.timeline.painted(np.ones(SHAPE, np.uint8))
    accepted = session.accept()
    session.timeline.painted(np.zeros(SHAPE, np.uint8))
    assert accepted.all()


def test_an_annotation_follows_every_slice_and_goes_on_from_its_records() -> None:
    mask = np.zeros((3, *SHAPE), np.uint8)
    annotation = Annotation(mask.shape)
    annotation.session((0, -1, -1), mask[0])
    annotation.session((-1, 4, -1), mask[:, 4])
    mask[0][STROKE] = 1
    assert annotation.changed(mask, painted=True) == 18 + 6  # row 4 of slice 0 is in both
    annotation.sessions[0, -1, -1].accept()
    records = annotation.records()

    fresh = np.zeros_like(mask)
    again = Annotation(mask.shape)
    again.restore(records, fresh)
    np.testing.assert_array_equal(fresh, mask)
    assert again.fixed_count == annotation.fixed_count
    np.testing.assert_array_equal(
        again.sessions[0, -1, -1].timeline.fixed, annotation.sessions[0, -1, -1].timeline.fixed
    )


def test_a_new_session_takes_the_labels_that_are_there_for_strokes() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[STROKE] = 1
    assert Annotation(SHAPE).session((-1, -1), mask).timeline.fixed_count == 18


@pytest.mark.parametrize("index", [(5, -1, -1), (-1, -1), (0, 0, -1)])
def test_records_of_another_shape_are_refused_before_anything_is_written(
    index: tuple[int, ...],
) -> None:
    annotation = Annotation(SHAPE)
    mask = np.zeros(SHAPE, np.uint8)
    annotation.session((-1, -1), mask)
    annotation.changed(np.ones(SHAPE, np.uint8), painted=True)
    record = annotation.records()[-1, -1]
    target = np.zeros((3, 5, 6), np.uint8)
    with pytest.raises(InputError, match="do not fit"):
        Annotation(target.shape).restore({index: record}, target)
    assert not target.any()


def test_the_session_needs_neither_torch_nor_qt() -> None:
    code = (
        "import sys, napari_hidiff.session, napari_hidiff.sidecar, napari_hidiff.walker\n"
        "loaded = {'torch', 'qtpy', 'napari', 'skimage'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_step_no_longer_stands_once_it_is_undone(session: Session) -> None:
    session.start(total=1, labels=2)
    before = session.timeline.content.copy()
    session.add_step(np.ones(SHAPE, np.uint8), np.ones((1, *SHAPE), np.float32))
    assert session.standing is None
    session.wrote(session.view(1), step=1)
    assert session.standing == 1
    session.timeline.moved(before)
    assert session.standing is None
    session.timeline.moved(session.view(1))
    assert session.standing == 1
    painted = session.timeline.content.copy()
    painted[STROKE] = 0
    session.timeline.painted(painted)
    assert session.standing == 1, "a stroke on top of a step does not undo it"


def test_a_result_goes_around_strokes_of_slices_that_cross_it() -> None:
    mask = np.zeros((3, *SHAPE), np.uint8)
    annotation = Annotation(mask.shape)
    across = annotation.session((-1, 4, -1), mask[:, 4])
    mask[:, 4, 2:6] = 1
    annotation.changed(mask, painted=True)
    flat = (0, -1, -1)
    annotation.session(flat, mask[0])
    result = annotation.around_fixed(flat, np.zeros(SHAPE, np.uint8))
    assert (result[4, 2:6] == 1).all()
    assert result.sum() == 4
    mask[0] = annotation.around_fixed(flat, np.ones(SHAPE, np.uint8))
    annotation.wrote(flat, mask)
    assert across.timeline.fixed_count == 12, "a result in one slice is no stroke in another"


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


def test_a_guarded_run_changes_only_what_is_near_the_fresh_strokes(session: Session) -> None:
    painted = session.timeline.content.copy()
    painted[2, 2] = 1
    session.timeline.painted(painted)
    session.start(1, 2)
    result = np.zeros(SHAPE, np.uint8)
    result[-1] = 1
    session.add_step(result, np.zeros((1, *SHAPE), np.float32))
    session.wrote(session.view(1), step=1)
    now = session.timeline.content.copy()
    now[9, 12] = 1
    session.timeline.painted(now)

    run = session.start(1, 2, Guards(near=1))
    answer = result.copy()
    answer[2:4, 3:5] = answer[9, 10:12] = answer[6, 6] = 1  # at the old stroke, the new one, none
    session.add_step(answer, np.full((1, *SHAPE), 0.5, np.float32))
    expected = now.copy()
    expected[9, 10:12] = 1
    np.testing.assert_array_equal(session.view(1), expected)
    assert run.guards == Guards(near=1)
    session.wrote(session.view(1), step=1)
    assert session.standing == 1


def test_a_guarded_run_compares_with_the_belief_behind_the_mask(session: Session) -> None:
    """The certain guard asks what the mask came from: the step written last, not the prior."""
    one = np.zeros(SHAPE, np.uint8)
    one[STROKE] = 1
    session.start(1, 2)
    session.add_step(one, np.where(one, 0.8, 0.1)[None].astype(np.float32))
    session.wrote(session.view(1), step=1)
    session.start(1, 2, Guards(certain=True))
    for foreground, kept in ((0.3, one), (0.1, one * 0)):  # .7 is no surer than .8, .9 is
        session.add_step(one * 0, np.full((1, *SHAPE), foreground, np.float32))
        assert session.run is not None
        np.testing.assert_array_equal(session.run.shown[-1].mask, kept)
