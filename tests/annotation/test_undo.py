"""The history of a mask: what strokes and writes fix, and what undo and redo do to it."""

import numpy as np
import pytest
from histories import OTHER, SHAPE, STROKE, Layer, model_mask

from napari_hidiff.annotation.undo import MaskHistory
from napari_hidiff.errors import InputError
from napari_hidiff.masks import FREE, check_labels


@pytest.fixture
def layer() -> Layer:
    return Layer()


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


def test_what_the_timeline_tells_of_itself(layer: Layer) -> None:
    """Counts of pixels, how far undo went, the ages of changes, and a number that only rises."""
    timeline = layer.timeline
    assert (timeline.revision, timeline.changes, timeline.oldest, timeline.last) == (0, 0, -1, None)
    assert timeline.painted(layer.data) == timeline.moved(layer.data) == timeline.revision == 0
    revisions = [0]
    for value, pixels in ((1, 18), (2, 18), (0, 18), (3, 18)):
        layer.data[STROKE] = value
        assert timeline.painted(layer.data) == pixels
        revisions.append(timeline.revision)
    assert timeline.last is not None
    assert timeline.last.by_user
    assert timeline.oldest == timeline.last.number - 3
    layer.data[OTHER] = 1
    assert timeline.wrote(layer.data) == 8
    assert not timeline.last.by_user
    revisions.append(timeline.revision)
    assert timeline.confirm(np.array([0, 9])) == 2
    assert timeline.changes == 6
    revisions.append(timeline.revision)
    written = layer.data.copy()
    layer.data[OTHER] = 0
    assert timeline.moved(layer.data) == 8
    assert timeline.travelled == -2, "the confirmed pixels go with what was before them"
    revisions.append(timeline.revision)
    assert timeline.moved(layer.data) == timeline.travelled == 0
    layer.data[STROKE] = 2
    assert timeline.moved(layer.data) == 18
    assert timeline.travelled == -2
    layer.data[...] = written
    assert timeline.moved(layer.data) == 26
    assert timeline.travelled == 4
    revisions.append(timeline.revision)
    assert revisions == sorted(set(revisions))
    layer.data[0, 0] = 7  # as never before
    assert timeline.moved(layer.data) == 1
    assert timeline.travelled == 0
    assert timeline.fixed[0, 0] == 7


def test_going_on_is_assumed_where_going_back_looks_the_same(layer: Layer) -> None:
    for at, label in ((0, 1), (1, 1), (1, 0), (2, 1), (2, 0)):
        layer.data.flat[at] = label
        layer.timeline.painted(layer.data)
    layer.timeline.travel(-2)  # 000, 100, 110, 100 | 101, 100
    layer.data.flat[:3] = [1, 0, 1]
    layer.timeline.moved(layer.data)
    assert layer.timeline.travelled == 1
    layer.data.flat[:3] = [1, 0, 0]
    layer.timeline.moved(layer.data)  # one on, one back or three back
    assert layer.timeline.travelled == 1
    layer.timeline.travel(-3)
    layer.data.flat[:3] = [1, 0, 0]
    layer.timeline.moved(layer.data)  # one on, or one back
    assert layer.timeline.travelled == 1
    layer.timeline.travel(-1)
    layer.timeline.travel(-1)
    layer.timeline.travel(+1)
    assert layer.data is not layer.timeline.content
    layer.data[...] = 0
    layer.timeline.moved(layer.data)
    assert layer.timeline.travelled == -2


@pytest.mark.parametrize("by", [-3, 2, 5])
def test_there_is_no_moment_before_the_first_or_after_the_last(layer: Layer, by: int) -> None:
    layer.paint(STROKE, 1)
    layer.paint(OTHER, 1)
    layer.paint(STROKE, 2)
    layer.timeline.travel(-1)
    before = layer.timeline.content.copy()
    with pytest.raises(ValueError, match=rf"no moment \{by:+d} from here"):
        layer.timeline.travel(by)
    np.testing.assert_array_equal(layer.timeline.content, before)
    layer.timeline.travel(-2)
    assert not layer.timeline.content.any()
    layer.timeline.travel(3)
    assert (layer.timeline.content[STROKE] == 2).all()


def test_as_many_changes_are_kept_as_napari_keeps(layer: Layer) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    for n in range(103):
        mask.flat[n] = 1
        layer.timeline.painted(mask)
        layer.timeline.confirm(np.array([150 + n % 3]))
    assert layer.timeline.changes == 100
    assert layer.timeline.fixed_count == 106
    layer.timeline.travel(-100)
    assert layer.timeline.content.sum() == 3
    layer.timeline.drop_oldest()  # nothing is done: the last redo goes
    assert layer.timeline.changes == 99
    layer.timeline.travel(99)
    assert layer.timeline.content.sum() == 102


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


def test_the_memory_of_the_history_is_that_of_its_changes(layer: Layer) -> None:
    """A run takes 12 bytes and 2 for its values before and after; one of confirmed pixels 13."""
    timeline = layer.timeline
    layer.paint((slice(0, 2), slice(0, 4)), 1)  # two runs
    assert timeline.nbytes == 2 * 14
    timeline.confirm(np.array([100, 101, 150]))
    assert timeline.nbytes == 2 * 14 + 2 * 13
    layer.paint(STROKE, 1)  # three
    layer.undo()
    assert timeline.nbytes == 5 * 14 + 2 * 13
    layer.paint((slice(10, 11), slice(2, 3)), 1)  # what was undone is forgotten
    assert timeline.nbytes == 3 * 14 + 2 * 13
    timeline.drop_oldest()
    assert timeline.nbytes == 14
    layer.undo()
    timeline.drop_oldest()
    assert timeline.nbytes == timeline.changes == 0


def test_a_stroke_that_goes_on_keeps_what_was_confirmed_beside_it(layer: Layer) -> None:
    layer.paint(STROKE, 1)
    layer.timeline.confirm(np.array([0, 1]))
    layer.data[0, 1:4] = 2  # one of the confirmed pixels among them
    layer.data[2, 3] = 3  # and one of the stroke's own
    assert layer.timeline.painted(layer.data, more=True) == 4
    assert layer.timeline.changes == 1
    expected = np.full(SHAPE, FREE)
    expected[STROKE], expected[2, 3] = 1, 3
    expected[0, :4] = [0, 2, 2, 2]
    np.testing.assert_array_equal(layer.timeline.fixed, expected)
    layer.timeline.moved(np.zeros(SHAPE, np.uint8))
    assert layer.timeline.fixed_count == 0


def test_a_layer_that_is_given_wider_labels_keeps_them() -> None:
    wide = Layer()
    wide.paint((slice(0, 1), slice(0, 1)), 3)
    wide.data = wide.data.astype(np.uint32)
    wide.paint((slice(0, 1), slice(1, 2)), 100_000)
    assert wide.timeline.fixed[0, :3].tolist() == [3, 100_000, FREE]
    assert wide.timeline.content.dtype == np.uint32
    wide.write(np.zeros(SHAPE, np.uint32))
    assert wide.data[0, :3].tolist() == [3, 100_000, 0]
    wide.undo()
    assert wide.timeline.fixed_count == 1
    from_the_start = MaskHistory(np.zeros(SHAPE, np.int32), np.full(SHAPE, 100_000))
    assert (from_the_start.fixed == 100_000).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        MaskHistory(np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(ValueError, match="fixed"):
        MaskHistory(np.zeros(SHAPE, np.uint8), np.zeros((2, 2), int))


def test_labels_outside_the_classes_are_named() -> None:
    check_labels(np.array([0, 1]), 2, "x")
    with pytest.raises(InputError, match=r"The mask holds label 7 in 2 pixels.*0 to 1"):
        check_labels(np.array([0, 7, 7]), 2, "The mask")
    with pytest.raises(InputError, match="label -2 in 1 pixel,"):
        check_labels(np.array([0, -2]), 2, "x")
