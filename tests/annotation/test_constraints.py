"""Guards on what a re-refinement may change, against floods and loops over single pixels."""

import numpy as np
import pytest

from napari_hidiff.annotation.constraints import REACH, Guards, around, of_labels

SHAPE = (24, 30)


def flood(where: np.ndarray) -> list[set[tuple[int, int]]]:
    """8-connected components, pixel by pixel."""
    left = {(int(row), int(column)) for row, column in np.argwhere(where)}
    parts = []
    while left:
        part, queue = set(), [left.pop()]
        while queue:
            row, column = queue.pop()
            part.add((row, column))
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            queue.extend(near)
        parts.append(part)
    return parts


def gap(part: set[tuple[int, int]], strokes: np.ndarray) -> float:
    """The smallest distance between the centres of a pixel of a part and a painted one."""
    painted = np.argwhere(strokes)
    return min(float(np.hypot(*(painted - pixel).T).min()) for pixel in part)


def pixels(part: set[tuple[int, int]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(sorted(part)).T)


class Edit:
    """A random change of a random mask with random strokes."""

    def __init__(self, seed: int, channels: int) -> None:
        rng = np.random.default_rng(seed)
        labels = max(2, channels)
        self.before = rng.integers(0, labels, SHAPE).astype(np.uint8)
        self.after = self.before.copy()
        other = rng.random(SHAPE) < 0.2
        self.after[other] = rng.integers(0, labels, int(other.sum()))
        self.strokes = rng.random(SHAPE) < 0.02
        self.strokes[3, 4] = True
        self.believed, self.probability = rng.dirichlet(np.ones(labels), (2, *SHAPE)).transpose(
            0, 3, 1, 2
        )
        if channels == 1:
            self.believed, self.probability = self.believed[1:], self.probability[1:]
        self.parts = flood(self.before != self.after)

    def guarded(self, guards: Guards) -> np.ndarray:
        return guards(self.before, self.after, self.strokes, self.believed, self.probability)

    def gain(self, part: set[tuple[int, int]]) -> float:
        """How much surer of the new labels of a part than it was of the old ones, summed."""

        def sure(probability: np.ndarray, mask: np.ndarray, row: int, column: int) -> float:
            label = int(mask[row, column])
            if len(probability) == 1:
                p = float(probability[0, row, column])
                return p if label else 1 - p
            return float(probability[label, row, column])

        return sum(
            sure(self.probability, self.after, *at) - sure(self.believed, self.before, *at)
            for at in part
        )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "guards",
    [Guards(near=0), Guards(near=2), Guards(certain=True), Guards(near=1, certain=True)],
    ids=str,
)
def test_whole_components_of_change_are_kept_or_dropped(
    guards: Guards, seed: int, channels: int
) -> None:
    change = Edit(seed, channels)
    expected = change.before.copy()
    for part in change.parts:
        near = guards.near is None or gap(part, change.strokes) <= guards.near + 1
        if near and (not guards.certain or change.gain(part) > 0):
            expected[pixels(part)] = change.after[pixels(part)]
    assert (expected != change.before).any()
    assert (expected != change.after).any()
    np.testing.assert_array_equal(change.guarded(guards), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("near", [None, 1])
def test_toss_ups_stay_as_they_were(near: int | None, seed: int, channels: int) -> None:
    change = Edit(seed, channels)
    p = change.probability
    p = np.concatenate([1 - p, p]) if channels == 1 else p
    for row, column in np.argwhere(change.before != change.after):
        old, new = change.before[row, column], change.after[row, column]
        if p[new, row, column] - p[old, row, column] < 0.2:
            change.after[row, column] = old
    given = Edit(seed, channels)
    expected = change.guarded(Guards(near))
    np.testing.assert_array_equal(given.guarded(Guards(near, margin=0.2)), expected)
    assert (expected != given.guarded(Guards(near))).any()


def test_no_guard_and_no_stroke_let_everything_pass() -> None:
    change = Edit(0, 1)
    np.testing.assert_array_equal(change.guarded(Guards()), change.after)
    change.strokes[:] = False
    np.testing.assert_array_equal(change.guarded(Guards(near=REACH)), change.after)


def test_a_guarded_mask_passes_the_same_guards_again() -> None:
    """What alternatives rest on: they are guarded before and after they are told apart."""
    change = Edit(1, 3)
    guards = Guards(near=2, certain=True, margin=0.1)
    once = change.after = change.guarded(guards)
    np.testing.assert_array_equal(change.guarded(guards), once)


def test_nothing_changes_where_nothing_was_to_change_and_inputs_stay() -> None:
    change = Edit(2, 1)
    kept = [array.copy() for array in (change.before, change.after, change.strokes)]
    change.guarded(Guards(near=1, certain=True, margin=0.3))
    for array, copy in zip((change.before, change.after, change.strokes), kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    change.after = change.before.copy()
    np.testing.assert_array_equal(change.guarded(Guards(near=0, certain=True)), change.before)


def test_a_change_is_near_by_its_nearest_pixel_and_touching_counts() -> None:
    before = np.zeros((9, 30), np.uint8)
    after, strokes = before.copy(), np.zeros(before.shape, bool)
    strokes[4, 4] = True
    after[4, 5:20] = 1  # touches, and reaches far
    after[4, 24:26] = 1
    probability = np.full((1, *before.shape), 0.5, np.float32)
    kept = Guards(near=0)(before, after, strokes, probability, probability)
    assert kept[4, 5:20].all()
    assert not kept[4, 24:].any()
    diagonal = np.zeros_like(before)
    diagonal[5, 5] = 1
    assert not Guards(near=0)(before, diagonal, strokes, probability, probability).any()
    assert Guards(near=1)(before, diagonal, strokes, probability, probability).any()


def test_certain_asks_for_more_and_a_margin_is_met_by_just_as_much() -> None:
    before, strokes = np.zeros((4, 5), np.uint8), np.zeros((4, 5), bool)
    after = np.ones_like(before)
    believed, probability = (np.full((1, 4, 5), value) for value in (0.25, 0.75))
    for certain in (False, True):  # 0.75 for background then, 0.75 for the class now
        kept = Guards(certain=certain)(before, after, strokes, believed, probability)
        assert (kept == (0 if certain else 1)).all()
    surer = np.where(np.arange(5) == 2, 0.875, probability)
    assert Guards(certain=True)(before, after, strokes, believed, surer).all()
    assert Guards(margin=0.5)(before, after, strokes, believed, probability).all()
    assert not Guards(margin=0.625)(before, after, strokes, believed, probability).any()


def test_around_is_a_disc() -> None:
    strokes = np.zeros(SHAPE, bool)
    strokes[5, 6] = True
    rows, columns = np.indices(SHAPE)
    disc = (rows - 5) ** 2 + (columns - 6) ** 2 <= 9
    np.testing.assert_array_equal(around(strokes, 3), disc)


def test_the_probability_of_labels() -> None:
    mask = np.array([[0, 1]])
    np.testing.assert_allclose(of_labels(np.array([[[0.3, 0.3]]]), mask), [[0.7, 0.3]])
    many = np.array([[[0.1, 0.2]], [[0.6, 0.5]], [[0.3, 0.3]]])
    np.testing.assert_allclose(of_labels(many, np.array([[2, 1]])), [[0.3, 0.5]])
