"""Dice by its definition, and a picture that shows where a mask is wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from napari_hidiff.errors import InputError
from napari_hidiff.masks import DARK, Box, dashed_outlines, dice, mean_dice
from napari_hidiff.plot import COLUMNS, Stage, detail_window, save_stages

MASKS = arrays(np.uint8, (6, 5), elements=st.integers(0, 2))


@given(MASKS, MASKS)
def test_dice_is_its_definition_in_sets(mask, truth):
    a, b = (set(np.flatnonzero(x == 1)) for x in (mask, truth))
    expected = 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0
    assert dice(mask, truth, 1) == pytest.approx(expected)
    assert dice(mask, truth, 1) == dice(truth, mask, 1)


def test_dice_of_known_masks():
    truth = np.array([[1, 1, 0, 0]])
    assert dice(truth, truth) == 1
    assert dice(1 - truth, truth) == 0
    assert dice(np.array([[1, 0, 0, 0]]), truth) == pytest.approx(2 / 3)
    assert dice(np.zeros((2, 2)), np.zeros((2, 2))) == 1
    assert mean_dice(np.array([[1, 2]]), np.array([[1, 1]]), labels=3) == pytest.approx(1 / 3)


def test_dice_of_different_shapes_is_refused():
    with pytest.raises(ValueError, match=r"shapes differ: \(2, 2\) and \(2, 3\)"):
        dice(np.zeros((2, 2)), np.zeros((2, 3)))


@given(arrays(np.uint8, (23, 17), elements=st.integers(0, 1)))
def test_detail_is_the_window_with_most_change(after):
    before = np.zeros_like(after)
    rows, columns = detail_window(before, after)
    windows = np.lib.stride_tricks.sliding_window_view(after, (5, 4))
    assert after[rows, columns].shape == (5, 4)
    assert after[rows, columns].sum() == windows.sum((2, 3)).max()


@pytest.mark.parametrize(
    "image",
    [
        np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(64, 48),
        np.arange(64 * 48, dtype=np.uint16).reshape(64, 48),
        np.zeros((64, 48, 2), np.uint8),
        np.zeros((64, 48, 4), np.uint8),
    ],
)
def test_picture_of_any_image_and_of_many_steps(tmp_path, image):
    truth = np.zeros((64, 48), np.uint8)
    truth[16:48, 12:36] = 1
    masks = [np.roll(truth, shift, 0) for shift in range(12)]
    stages = [Stage(f"step {i}", mask, dice(mask, truth)) for i, mask in enumerate(masks)]
    save_stages(tmp_path / "x.png", image, truth, stages)
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (round(260 * (COLUMNS + 3)), 610)
        colors = {color for _, color in picture.convert("RGB").getcolors(maxcolors=10**7)}
    assert {(0xE6, 0x9F, 0x00), (0x56, 0xB4, 0xE9)} <= colors  # added and missed are both drawn
    assert (0xCC, 0x79, 0xA7) in colors  # what the last made wrong


def test_a_picture_says_what_changed_and_shows_no_mask_twice(tmp_path):
    truth = np.zeros((64, 48), np.uint8)
    truth[16:48, 12:36] = 1
    first = np.roll(truth, 6, 0)
    last = np.where(np.arange(48) < 24, truth, first)  # one half is put right
    masks = {"prior": first, "step 1": last, "result": last}
    stages = [Stage(name, mask, dice(mask, truth)) for name, mask in masks.items()]
    save_stages(tmp_path / "x.png", truth * 255, truth, stages)
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width == 5 * 260  # image, truth, prior, result, change
        colors = {color for _, color in picture.convert("RGB").getcolors(maxcolors=10**7)}
    assert (0x00, 0x9E, 0x73) in colors
    save_stages(tmp_path / "y.png", truth * 255, truth, [stages[0], stages[0]])
    with Image.open(tmp_path / "y.png") as picture:
        assert picture.width == 3 * 260  # nothing changed


def test_picture_that_cannot_be_written_says_so(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    with pytest.raises(InputError, match="cannot be written"):
        save_stages(tmp_path / "no" / "x.png", mask, mask, [Stage("prior", mask, 1.0)])


def test_a_box_is_read_as_it_is_written_and_fits_or_is_refused():
    box = Box.parse("3, 4,10,12")
    assert box == (3, 4, 10, 12)
    box.check((10, 12))
    inside = np.zeros((10, 12), int)
    inside[[3, 9], [11, 4]] = 2
    assert Box.around(inside) == (3, 4, 10, 12)
    for text in ("3,4,10", "3,4,10,12,1", "3,4,10,b", "", "1.5,2,3,4"):
        with pytest.raises(InputError, match="four whole numbers of pixels"):
            Box.parse(text)
    for wrong in (Box(0, 0, 11, 12), Box(0, 0, 10, 13), Box(-1, 0, 3, 3), Box(3, 4, 3, 9)):
        with pytest.raises(InputError, match=r"0 <= Y0 < Y1 <= 10 and 0 <= X0 < X1 <= 12"):
            wrong.check((10, 12))


def test_outlines_are_dashes_of_two_colours():
    mask = np.zeros((12, 16), np.uint8)
    mask[2:10, 3:13] = 1
    mask[2:10, 8:13] = 2
    drawn = dashed_outlines(mask, mask)
    inside = np.zeros(mask.shape, bool)
    inside[3:9, 4:7] = inside[3:9, 9:12] = True
    np.testing.assert_array_equal(drawn > 0, (mask > 0) & ~inside)
    bright = (drawn > 0) & (drawn != DARK)
    np.testing.assert_array_equal(drawn[bright], mask[bright])
    along = drawn[2, 3:13] == DARK
    assert 3 <= along.sum() <= 7
    assert np.abs(np.diff(along.astype(int))).sum() >= 2, "they take turns"
