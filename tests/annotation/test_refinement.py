"""Slices of a stack in a row, without a window."""

import numpy as np
import pytest

from napari_hidiff.annotation.refinement import (
    changed_part,
    propagate,
    refine_slices,
    segment_slices,
    slices_along,
)
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.card import Sampling
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.stack import Stack, guess
from napari_hidiff.masks import FREE

SAMPLING = Sampling("one-step", steps=1, samples=1)


def scan(depth=5, height=37, width=50, seed=0):
    rng = np.random.default_rng(seed)
    level = 200 * np.arange(depth)[:, None, None]
    return (level + rng.normal(500, 90, (depth, height, width))).astype(np.int16)


def along(count, axis=0):
    index = [-1, -1, -1]
    index[axis] = 0
    return slices_along(tuple(index), axis, 0, count - 1)


def test_slices_run_both_ways_along_a_hidden_axis():
    assert slices_along((4, -1, -1), 0, 2, 4) == [(2, -1, -1), (3, -1, -1), (4, -1, -1)]
    assert slices_along((-1, 7, -1), 1, 1, 0) == [(-1, 1, -1), (-1, 0, -1)]
    assert slices_along((3, 1, -1, -1), 1, 1, 1) == [(3, 1, -1, -1)]
    for axis in (1, 3, -1):
        with pytest.raises(InputError, match=f"axis {axis}"):
            slices_along((4, -1, -1), axis, 0, 1)


@pytest.mark.parametrize("layout", ["none", "first", "last", "apart"])
def test_a_stack_hands_out_slices_without_copies(layout):
    volume = np.random.default_rng(0).integers(0, 99, (3, 5, 20, 30), np.int16)  # C, Z, Y, X
    stacks = {
        "none": Stack([volume[0]]),
        "first": Stack([volume], "first"),
        "last": Stack([np.moveaxis(volume, 0, -1)], "last"),
        "apart": Stack(list(volume), "apart"),
    }
    stack = stacks[layout]
    assert stack.shape == (5, 20, 30)
    assert stack.whole == (layout != "last")  # colour pictures stand for themselves
    wanted = volume[0, 2] if layout == "none" else np.moveaxis(volume[:, 2], 0, -1)
    np.testing.assert_array_equal(stack.plane((2, -1, -1)), wanted)
    wanted = volume[0, :, 7] if layout == "none" else np.moveaxis(volume[:, :, 7], 0, -1)
    np.testing.assert_array_equal(stack.plane((-1, 7, -1)), wanted)
    if layout != "apart":
        assert np.shares_memory(stack.plane((2, -1, -1)), volume)


def test_channels_of_different_shapes_are_refused():
    with pytest.raises(InputError, match="different shapes"):
        Stack([np.zeros((3, 20, 20)), np.zeros((3, 20, 21))], "apart")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_normalised_by_the_whole_volume_along_any_axis(tiny, axis):
    model, volume = tiny(2, 1), scan(40, 40, 40)
    expected = volumes.normalise(model, volume[..., None])
    index = tuple(3 if at == axis else -1 for at in range(3))
    image, normalised = Stack([volume]).read(model, index)
    assert normalised
    np.testing.assert_array_equal(image, np.take(expected, 3, axis))


def test_a_picture_is_read_as_it_is(tiny):
    picture = scan(1)[0]
    image, normalised = Stack([picture]).read(tiny(2, 1), (-1, -1))
    assert not normalised
    assert image is picture or np.shares_memory(image, picture)


@pytest.mark.parametrize("labels", [2, 3])
def test_a_sweep_is_the_volume_refined(tiny, labels):
    model, volume = tiny(labels, 1), scan()
    planes, stack = volumes.normalise(model, volume[..., None]), Stack([volume])
    segmented = list(segment_slices(model, stack, along(5)))
    assert [one.at for one in segmented] == along(5)
    expected = model.mask_of(volumes.prior(model, planes), 0)
    np.testing.assert_array_equal([one.mask for one in segmented], expected)
    refined = list(refine_slices(model, stack, along(5), {}, {}, SAMPLING))
    expected = volumes.refine(model, planes, sampling=SAMPLING)
    np.testing.assert_array_equal(np.stack([one.probability for one in refined], 1), expected)


def test_masks_to_start_from_and_strokes_of_single_slices(tiny):
    model, volume = tiny(3, 1), scan()
    start = np.random.default_rng(2).integers(0, 3, volume.shape[1:])
    fixed = np.full(volume.shape[1:], FREE)
    fixed[10:14, 20:30] = 2
    at, other = (1, -1, -1), (3, -1, -1)
    swept = list(
        refine_slices(model, Stack([volume]), along(5), {at: start}, {other: fixed}, SAMPLING)
    )
    assert [one.given is None for one in swept] == [True, False, True, True, True]
    np.testing.assert_array_equal(model.mask_of(swept[1].prior), start)
    np.testing.assert_array_equal(swept[3].mask[10:14, 20:30], 2)
    assert np.all(swept[3].probability[2, 10:14, 20:30] == 1)
    plain = list(refine_slices(model, Stack([volume]), along(5), {}, {}, SAMPLING))
    for number in (0, 2, 4):  # slices share a batch and nothing else
        assert np.abs(swept[number].probability - plain[number].probability).max() < 1e-5


def test_a_correction_is_carried_until_nothing_changes(tiny):
    """The untrained refiner returns its prior: what is handed on is exactly the correction."""
    model = HiDiff.create(tiny(2, 1).card)
    volume = np.zeros((6, 40, 40), np.int16) + scan(1, 40, 40)
    standing = np.zeros((6, 40, 40), np.uint8)
    standing[:, 5:12, 5:12] = 1
    mask = standing[1].copy()
    mask[20:30, 20:30] = 1
    fixed = np.full((40, 40), FREE)
    fixed[20:25, 20:30] = 0  # the annotator knows better in slice 3
    args = (standing[1], mask, lambda at: standing[at[0]], {(3, -1, -1): fixed}, SAMPLING)
    swept = list(propagate(model, Stack([volume]), along(6)[2:], *args))
    assert [one.at[0] for one in swept] == [2, 3, 4, 5]
    assert swept[0].mask[20:30, 20:30].all()
    assert not swept[1].mask[20:25, 20:30].any()
    # What the strokes of slice 3 refused does not reach the slices behind it.
    assert not swept[2].mask[20:25, 20:30].any()
    assert swept[2].mask[25:30, 20:30].all()
    assert all(one.mask[5:12, 5:12].all() for one in swept)
    settled = list(propagate(model, Stack([volume]), along(6)[2:], *args, settled=0.9))
    assert settled == []


def test_change_is_a_share_of_what_is_labelled():
    empty, full = np.zeros((4, 4), int), np.ones((4, 4), int)
    half = np.array([[1, 1, 0, 0]] * 4)
    assert changed_part(empty, empty) == 0
    assert changed_part(empty, half) == changed_part(half, empty) == 1
    assert changed_part(full, half) == 0.5
    assert changed_part(full, 2 * full) == 1


BRATS = ("FLAIR", "T1w", "t1gd", "T2w")


@pytest.mark.parametrize(
    ("channels", "names", "expected"),
    [
        (BRATS, [f"BraTS2021_00000_{m}" for m in ("t1", "t1ce", "t2", "flair")], [3, 0, 1, 2]),
        (BRATS, [f"BraTS-GLI-00000-000-{m}" for m in ("t2f", "t1n", "t1c", "t2w")], [0, 1, 2, 3]),
        (BRATS, ["scan flair", "scan t1", "scan contrast", "scan t2"], [0, 1, 2, 3]),  # one is left
        (BRATS, ["flair", "t1", "t1 again", "t2"], [0, None, None, 3]),  # no guess between two
        (("DAPI", "GFP"), ["plate3 gfp", "plate3_DAPI", "brightfield"], [1, 0]),
        (("DAPI", "GFP"), ["one", "two"], [None, None]),
        (("MRI",), [], [None]),
    ],
)
def test_channels_are_guessed_from_names(channels, names, expected):
    assert guess(channels, names) == expected
