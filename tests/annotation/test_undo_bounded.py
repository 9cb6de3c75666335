"""The bounded history of a mask against a model of it that keeps everything."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hidiff.annotation import annotation as sessions
from napari_hidiff.annotation import undo as timelines
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.session import Prior
from napari_hidiff.annotation.undo import MaskHistory
from napari_hidiff.masks import FREE, Runs, pack, unpack, weight

SHAPE = (6, 7)
SIZE = 42

pixels = st.dictionaries(st.integers(0, SIZE - 1), st.integers(0, 3), max_size=12)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("stroke"), pixels),
        st.tuples(st.just("more"), pixels),
        st.tuples(st.just("confirm"), st.sets(st.integers(0, SIZE - 1), max_size=5)),
        st.tuples(st.just("write"), st.integers(0, 10)),
        st.tuples(st.just("undo"), st.integers(1, 3)),
        st.tuples(st.just("redo"), st.integers(1, 3)),
    ),
    max_size=40,
)


class Brute:
    """Every moment as whole arrays: mask, fixed map; and how far undo went.

    napari's own history, which both follow, keeps ``depth`` moments before the present one.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.moments = [(np.zeros(SHAPE, np.uint8), np.full(SHAPE, FREE))]
        self.at = 0

    @property
    def mask(self) -> np.ndarray:
        return self.moments[self.at][0]

    @property
    def fixed(self) -> np.ndarray:
        return self.moments[self.at][1]

    def put(self, mask: np.ndarray, fixed: np.ndarray, more: bool = False) -> None:
        keep = self.at if more else self.at + 1
        self.moments[keep:] = [(mask, fixed)]
        self.moments = self.moments[-self.depth - 1 :]
        self.at = len(self.moments) - 1


@settings(max_examples=150, deadline=None)
@given(actions, st.sampled_from([3, 100]))
def test_any_bounded_history_gives_the_fixed_map_of_one_that_keeps_everything(
    done: list, depth: int
) -> None:
    before, timelines.HISTORY = timelines.HISTORY, depth
    try:
        follow(done, depth)
    finally:
        timelines.HISTORY = before


def follow(done: list, depth: int) -> None:
    brute, timeline = Brute(depth), MaskHistory(np.zeros(SHAPE, np.uint8))
    open_stroke = False
    for action, what in done:
        mask, fixed = brute.mask.copy(), brute.fixed.copy()
        if action in ("stroke", "more"):
            for at, label in what.items():
                if mask.flat[at] != label:
                    mask.flat[at] = fixed.flat[at] = label
            changed = (mask != brute.mask).any()
            if changed:
                more = action == "more" and open_stroke
                brute.put(mask, fixed, more)
                timeline.painted(mask, more)
                open_stroke = True
        elif action == "confirm":
            where = np.array(sorted(what), np.int64)
            timeline.confirm(where)
            if where.size:
                free = fixed.flat[where] == FREE
                fixed.flat[where[free]] = mask.flat[where[free]]
                if free.any():  # what was undone is forgotten; it returns with what came before
                    del brute.moments[brute.at + 1 :]
                    brute.moments[brute.at] = (mask, fixed)
                    open_stroke = False
        elif action == "write":
            answer = np.random.default_rng(what).integers(0, 3, SHAPE).astype(np.uint8)
            mask = timeline.around_fixed(answer)
            np.testing.assert_array_equal(mask, np.where(fixed != FREE, fixed, answer))
            if (mask != brute.mask).any():
                brute.put(mask, fixed)
            timeline.wrote(mask)
            open_stroke = False
        else:
            step = -1 if action == "undo" else 1
            for _ in range(what):
                if 0 <= brute.at + step < len(brute.moments):
                    if (brute.moments[brute.at + step][0] == brute.mask).all():
                        break  # a stroke that painted everything back: nobody can see it move
                    if ambiguous(brute, step):
                        break
                    brute.at += step
                    timeline.moved(brute.mask)
            open_stroke = False
        np.testing.assert_array_equal(timeline.content, brute.mask)
        np.testing.assert_array_equal(timeline.fixed, brute.fixed)
        assert timeline.fixed_count == (brute.fixed != FREE).sum()
        where = np.flatnonzero(brute.mask)
        assert timeline.digest == f"{weight(where, brute.mask.flat[where]) >> 32:08x}"


def ambiguous(brute: Brute, step: int) -> bool:
    """Whether the mask after an undo or redo is also that of another moment."""
    wanted = brute.moments[brute.at + step][0]
    return sum((mask == wanted).all() for mask, _ in brute.moments) > 1


@given(pixels)
def test_pixels_survive_packing(chosen: dict[int, int]) -> None:
    index = np.array(sorted(chosen), np.int64)
    values = np.array([chosen[at] for at in sorted(chosen)], np.int64)
    back = unpack(pack(index, values), SIZE)
    np.testing.assert_array_equal(back[0], index)
    np.testing.assert_array_equal(back[1], values)
    runs = Runs.of(index, values, values * 2)
    np.testing.assert_array_equal(runs.index, index)
    np.testing.assert_array_equal(runs.column(1), values * 2)
    half = index.size // 2
    parts = weight(index[:half], values[:half]) + weight(index[half:], values[half:])
    assert parts % 2**64 == weight(index, values)


@pytest.mark.parametrize("text", ["", "!", "AAAA", "eJxLBAAAYgBi"])
def test_damaged_pixels_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(text, 100)
    with pytest.raises(ValueError, match="outside"):
        unpack(pack(np.array([200]), np.array([1])), 100)


def test_dropped_strokes_stay_fixed_and_fresh() -> None:
    timeline = MaskHistory(np.zeros(SHAPE, np.uint8))
    mask = np.zeros(SHAPE, np.uint8)
    for at in range(20):
        mask.flat[at] = 1
        timeline.painted(mask)
    while timeline.changes > 5:
        timeline.drop_oldest()
    assert timeline.fixed_count == timeline.fresh.sum() == 20
    for _ in range(5):
        mask[...] = np.where(np.arange(SIZE).reshape(SHAPE) < mask.sum() - 1, 1, 0)
        timeline.moved(mask)
    assert timeline.fixed_count == 15, "five can still be undone"
    mask.flat[40] = 2
    timeline.wrote(mask)
    mask.flat[30] = 1
    timeline.painted(mask)
    assert timeline.fresh.sum() == 1


@pytest.fixture
def busy() -> Callable[[int], Annotation]:
    """``busy(rounds)``: an annotation of 1000 x 1000 after rounds of a stroke and a noisy write."""

    def work(rounds: int) -> Annotation:
        rng = np.random.default_rng(0)
        shape = (1000, 1000)
        mask = np.zeros(shape, np.uint8)
        annotation, index = Annotation(shape), (-1, -1)
        session = annotation.session(index, mask)
        probability = np.zeros((1, *shape), np.float32)
        session.prior = Prior(probability, probability, mask.copy())
        for number in range(rounds):
            row, column = rng.integers(0, 900, 2)
            for part in range(5):
                mask[row : row + 20, column + 10 * part : column + 10 * part + 20] = number % 3
                annotation.changed(mask, painted=True, more=part > 0)
            session.start(1, 3)
            answer = mask.copy()
            where = rng.integers(0, 10**6, 20_000)
            answer.flat[where] = rng.integers(0, 3, where.size)
            session.add_step(answer, probability)
            mask[...] = annotation.around_fixed(index, answer)
            annotation.wrote(index, mask, 1)
        return annotation

    return work


def test_the_memory_of_a_long_session_is_bounded(busy: Callable[[int], Annotation]) -> None:
    def used(rounds: int) -> float:
        tracemalloc.start()
        annotation = busy(rounds)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(annotation.log) > rounds
        return size / 2**20

    hundred, later = used(52), used(72)
    assert later < hundred + 3, "it grows beyond the last hundred changes"
    assert later < 100


def test_the_history_of_all_slices_has_one_budget(
    busy: Callable[[int], Annotation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "HISTORY_BYTES", 2**20)
    annotation = busy(40)
    timeline = annotation.sessions[-1, -1].timeline
    assert timeline.nbytes <= max(2**20, sessions.ALWAYS * 400_000)
    assert timeline.changes >= sessions.ALWAYS
    strokes = [one for one in annotation.log if one["action"] == "stroke"]
    painted = np.zeros(10**6, bool)
    for one in strokes:
        painted[unpack(one["pixels"], 10**6)[0]] = True
    assert ((timeline.fixed.ravel() != FREE) == painted).all(), "a fixed pixel was lost"


def test_old_slices_keep_their_result_but_not_their_steps() -> None:
    shape = (12, 30, 30)
    mask = np.zeros(shape, np.uint8)
    annotation = Annotation(shape)
    rng = np.random.default_rng(1)
    beliefs = {}
    for at in range(shape[0]):
        index = (at, -1, -1)
        session = annotation.session(index, mask[at])
        prior = rng.random((1, 30, 30)).astype(np.float32)
        session.prior = Prior(prior, prior, (prior[0] > 0.5).astype(np.uint8))
        session.start(4, 2)
        annotation.note("run", slice=index)
        for _ in range(4):
            probability = rng.random((1, 30, 30)).astype(np.float32)
            session.add_step((probability[0] > 0.5).astype(np.uint8), probability)
        mask[at] = annotation.around_fixed(index, session.view(3))
        annotation.wrote(index, mask, 3)
        assert session.run is not None
        beliefs[index] = session.run.shown[3]
    for (at, *_), session in annotation.sessions.items():
        run = session.run
        assert run is not None
        recent = at >= shape[0] - sessions.RUNS
        assert run.steps == (4 if recent else 1)
        assert session.standing == run.written == (3 if recent else 1)
        assert run.number(run.written) == 3
        assert session.start(4, 2).believed is beliefs[at, -1, -1].probability
        session.add_step(mask[at], probability)


def test_a_condensed_run_that_was_undone_is_believed_as_before() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    annotation = Annotation(SHAPE)
    session = annotation.session((-1, -1), mask)
    prior = np.zeros((1, *SHAPE), np.float32)
    session.prior = Prior(prior, prior, mask.copy())
    session.start(1, 2)
    session.add_step(np.ones(SHAPE, np.uint8), np.ones((1, *SHAPE), np.float32))
    session.wrote(session.view(1), 1)
    session.condense()
    assert session.start(1, 2).believed.min() == 1
    session.condense()
    session.timeline.moved(mask)
    assert session.start(1, 2).believed.min() == 1, "as of a run that wrote nothing"
