"""Sessions of slices and the annotation of a whole mask: runs, results, records."""

import subprocess
import sys

import numpy as np
import pytest

from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.errors import InputError
from napari_hidiff.masks import ADDED, FREE, RELABELLED, REMOVED, difference

SHAPE = (12, 16)
STROKE = (slice(2, 5), slice(3, 9))
OTHER = (slice(7, 9), slice(0, 4))


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
    with pytest.raises(InputError, match="Find first"):
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
        "import sys\nfrom napari_hidiff.annotation import session, sidecar, suggestions\n"
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
