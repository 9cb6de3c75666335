"""Files in and out: every pixel as stored, every bad file one line with its name."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_hidiff.errors import InputError
from napari_hidiff.io.images import read_fixed, read_image, read_labels, read_mask, sample

GREY = np.arange(35, dtype=np.uint8).reshape(5, 7)
RGB = np.arange(105, dtype=np.uint8).reshape(5, 7, 3)


def png(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64", ">u2"]
)
def test_tif_keeps_every_numeric_dtype(tmp_path, dtype):
    image = (GREY.astype(dtype) * 3).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", image)
    read = read_image(tmp_path / "x.tif")
    assert read.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_tif_has_its_channels_last(tmp_path, planar):
    stored = RGB if planar == "contig" else np.moveaxis(RGB, -1, 0)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), RGB)


@pytest.mark.parametrize("image", [GREY, RGB, GREY.astype(np.uint16) * 999])
def test_lzw_tif_is_read_as_drive_stores_it(tmp_path, image):
    Image.fromarray(image).save(tmp_path / "x.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), image)


@pytest.mark.parametrize("image", [GREY, RGB, GREY.astype(np.uint16) * 999])
def test_png_is_read_as_stored(tmp_path, image):
    read = read_image(png(tmp_path / "x.png", image))
    assert read.dtype == image.dtype
    np.testing.assert_array_equal(read, image)


def test_png_with_alpha_keeps_it_and_a_palette_becomes_colours(tmp_path):
    rgba = np.dstack([RGB, GREY])
    np.testing.assert_array_equal(read_image(png(tmp_path / "a.png", rgba)), rgba)
    Image.fromarray(RGB).quantize(64).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png"), RGB)


def test_mask_of_zero_and_255_or_of_one_bit_is_zero_and_one(tmp_path):
    truth = (GREY % 3 == 0).astype(np.uint8)
    for path in (
        png(tmp_path / "255.png", truth * 255),
        png(tmp_path / "bit.png", truth.astype(bool)),
        png(tmp_path / "rgb.png", np.dstack([truth * 255] * 3)),
        png(tmp_path / "drive.gif", truth * 255),
    ):
        mask = read_mask(path)
        assert mask.dtype == np.int32
        np.testing.assert_array_equal(mask, truth, err_msg=path.name)


def test_mask_with_other_values_keeps_them(tmp_path):
    for values in ([0, 1, 2], [0, 1, 255], [0, 128, 255]):
        mask = np.resize(np.array(values, np.uint8), (4, 6))
        np.testing.assert_array_equal(read_mask(png(tmp_path / "x.png", mask)), mask)


def test_palette_mask_gives_its_indices(tmp_path):
    picture = Image.fromarray(GREY % 4, mode="P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "x.png"), GREY % 4)


def test_jpeg_mask_is_cut_in_the_middle_for_two_labels_and_refused_for_more(tmp_path):
    truth = np.zeros((32, 32), np.uint8)
    truth[8:24, 8:24] = 1
    path = png(tmp_path / "x.jpg", np.dstack([truth * 255] * 3), quality=60)
    np.testing.assert_array_equal(read_labels(path, labels=2), truth)
    with pytest.raises(InputError, match=r"x\.jpg: JPEG blurs labels"):
        read_labels(path, labels=3)


def test_fixed_is_free_at_255_and_at_minus_one(tmp_path):
    fixed = np.array([[0, 1, -1], [-1, -1, 2]], np.int16)
    unsigned = np.where(fixed < 0, 255, fixed)
    tifffile.imwrite(tmp_path / "s.tif", fixed)
    tifffile.imwrite(tmp_path / "f.tif", fixed.astype(np.float32))
    tifffile.imwrite(tmp_path / "u.tif", unsigned.astype(np.uint16))
    png(tmp_path / "u.png", unsigned.astype(np.uint8))
    for name in ("s.tif", "f.tif", "u.tif", "u.png"):
        read = read_fixed(tmp_path / name)
        assert read.dtype == np.int16
        np.testing.assert_array_equal(read, fixed, err_msg=name)


def test_fixed_of_zero_and_255_fixes_background_and_is_no_binary_mask(tmp_path):
    stored = np.array([[0, 255], [255, 255]], np.uint8)
    np.testing.assert_array_equal(read_fixed(png(tmp_path / "x.png", stored)), [[0, -1], [-1, -1]])


def test_unreadable_files_are_named_in_one_line(tmp_path):
    whole = png(tmp_path / "whole.png", np.tile(RGB, (40, 40, 1)))
    tifffile.imwrite(tmp_path / "whole.tif", np.tile(GREY, (40, 40)), compression="zlib")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "cut.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:100])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    for name in ("cut.png", "cut.tif", "text.png", "empty.jpg", "missing.png", "."):
        for read in (read_image, read_mask, read_fixed):
            with pytest.raises(InputError) as caught:
                read(tmp_path / name)
            assert str(tmp_path / name) in str(caught.value)
            assert "\n" not in str(caught.value)


def test_stacks_are_refused_and_say_how_many_pages(tmp_path):
    stack = np.zeros((3, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "pages.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "imagej.tif", stack, imagej=True)
    frames = [Image.fromarray(plane) for plane in (GREY, GREY + 1, GREY + 2)]
    frames[0].save(tmp_path / "frames.gif", save_all=True, append_images=frames[1:])
    for name in ("pages.tif", "imagej.tif", "frames.gif"):
        with pytest.raises(InputError, match=f"{name}: holds 3 pages"):
            read_image(tmp_path / name)


def test_wrong_values_in_masks_say_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="is a colour picture"):
        read_mask(png(tmp_path / "rgb.png", RGB))
    for value in (0.5, np.nan, np.inf):
        tifffile.imwrite(tmp_path / "f.tif", np.full((4, 4), value, np.float32))
        with pytest.raises(InputError, match="not whole numbers"):
            read_mask(tmp_path / "f.tif")
    with pytest.raises(InputError, match="unknown label 34; known are 0 to 2"):
        read_labels(png(tmp_path / "g.png", GREY), labels=3)
    tifffile.imwrite(tmp_path / "n.tif", np.array([[-2, 0]], np.int16))
    with pytest.raises(InputError, match="unknown label -2"):
        read_labels(tmp_path / "n.tif", labels=2)
    with pytest.raises(InputError, match=r"wanted -1 \(free\)"):
        read_fixed(tmp_path / "n.tif")
    with pytest.raises(InputError, match="1-bit file cannot mark free"):
        read_fixed(png(tmp_path / "b.png", GREY > 3))
    with pytest.raises(InputError, match="JPEG blurs"):
        read_fixed(png(tmp_path / "j.jpg", GREY))
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 4), np.complex64))
    with pytest.raises(InputError, match="complex64 values are not supported"):
        read_image(tmp_path / "c.tif")


def test_bundled_sample_is_the_chase_image_as_it_was_published(chase_data):
    image, truth = sample()
    assert (image.shape, image.dtype) == ((960, 999, 3), np.uint8)
    assert (truth.shape, truth.dtype) == ((960, 999), np.uint8)
    np.testing.assert_array_equal(image, read_image(chase_data / "Image_11L.jpg"))
    np.testing.assert_array_equal(truth, read_mask(chase_data / "Image_11L_1stHO.png"))


def test_bundled_sample_needs_no_data_folder(sample_pair):
    image, truth = sample_pair
    assert image.max() == 255
    assert 0.05 < truth.mean() < 0.06
    assert set(np.unique(truth)) == {0, 1}
