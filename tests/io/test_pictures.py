"""Pictures and masks of other programs: polarity, palettes, alpha, depth, copies, compression."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.io.images import read_fixed, read_image, read_labels, read_mask
from napari_hidiff.io.registry import readings

OBJECT = np.zeros((20, 24), bool)
OBJECT[5:9, 5:10] = True
WHITE = OBJECT * np.uint8(255)
NOISE = np.random.default_rng(0).integers(0, 255, (20, 24, 3)).astype(np.uint8)


def rgba(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([colours, alpha])


def flat(value: int) -> np.ndarray:
    return np.full((20, 24, 3), value, np.uint8)


def palette_png(path: Path, indices: np.ndarray, *colours: int) -> Path:
    picture = Image.fromarray(indices.astype(np.uint8), mode="P")
    picture.putpalette(list(colours))
    picture.save(path)
    return path


def test_where_0_is_white_the_stored_values_count_in_page_stack_and_window(tmp_path):
    deep = np.arange(5 * 480, dtype=np.uint16).reshape(5, 20, 24)
    for name, array in (("page.tif", deep[0]), ("stack.tif", deep)):
        tifffile.imwrite(tmp_path / name, array, photometric="miniswhite")
        for reading in readings(tmp_path / name):
            np.testing.assert_array_equal(np.squeeze(reading.array), array)
        np.testing.assert_array_equal(np.squeeze(registry.read(tmp_path / name).array), array)
    np.testing.assert_array_equal(read_image(tmp_path / "page.tif"), deep[0])


def test_masks_where_0_is_white_keep_their_object(tmp_path):
    tifffile.imwrite(tmp_path / "bool.tif", OBJECT)  # tifffile says WhiteIsZero of it
    tifffile.imwrite(tmp_path / "lut.tif", WHITE, photometric="miniswhite")  # as ImageJ does
    for name in ("bool.tif", "lut.tif"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), OBJECT)
    fixed = np.where(OBJECT, 1, 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "fixed.tif", fixed, photometric="miniswhite")
    np.testing.assert_array_equal(read_fixed(tmp_path / "fixed.tif"), np.where(OBJECT, 1, -1))


def test_a_scanned_mask_of_one_bit_may_be_either_way_round(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", ~OBJECT, software="ImageMagick 7")
    with pytest.raises(InputError, match=r"scan\.tif: has 1 bit in which 0 is white"):
        read_mask(tmp_path / "scan.tif")
    assert read_image(tmp_path / "scan.tif").shape == (20, 24)
    Image.fromarray(OBJECT).save(tmp_path / "fax.tif", compression="group4")  # 0 is black
    np.testing.assert_array_equal(read_mask(tmp_path / "fax.tif"), OBJECT)


def test_a_palette_of_black_and_white_has_white_as_1_whatever_its_order(tmp_path):
    Image.fromarray(WHITE).quantize(2).save(tmp_path / "quantized.png")
    white_first = palette_png(tmp_path / "a.png", ~OBJECT, 255, 255, 255, 0, 0, 0)
    black_first = palette_png(tmp_path / "b.png", OBJECT, 0, 0, 0, 255, 255, 255)
    for path in (tmp_path / "quantized.png", white_first, black_first):
        np.testing.assert_array_equal(read_mask(path), OBJECT)
    # other colours are class numbers, and so are more than two of them
    red = palette_png(tmp_path / "c.png", OBJECT, 255, 255, 255, 255, 0, 0)
    np.testing.assert_array_equal(read_mask(red), OBJECT)
    three = palette_png(tmp_path / "d.png", OBJECT * 2, 255, 255, 255, 0, 0, 0, 9, 9, 9)
    np.testing.assert_array_equal(read_mask(three), OBJECT * 2)


def test_a_mask_of_ours_keeps_its_labels_in_black_and_white_too(tmp_path):
    from napari_hidiff.io.write import write_labels
    from napari_hidiff.masks import Label

    classes = (Label("background", "#ffffff"), Label("ink", "#000000"))
    write_labels(tmp_path / "m.png", OBJECT, classes)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), OBJECT)
    np.testing.assert_array_equal(registry.read_png_mask(tmp_path / "m.png")[0], OBJECT)


def test_where_all_colours_are_one_the_mask_is_what_is_opaque(tmp_path):
    for name, pixels in (
        ("white.png", rgba(flat(255), WHITE)),
        ("black.png", rgba(flat(0), WHITE)),
        ("grey.png", np.dstack([np.full((20, 24), 7, np.uint8), WHITE])),
    ):
        Image.fromarray(pixels).save(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), OBJECT)
    Image.fromarray(rgba(flat(255), WHITE)).quantize(2).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "palette.png"), OBJECT)
    tifffile.imwrite(tmp_path / "x.tif", rgba(flat(255), WHITE), photometric="rgb")
    np.testing.assert_array_equal(read_mask(tmp_path / "x.tif"), OBJECT)


def test_alpha_that_changes_nothing_is_left_out_and_other_alpha_is_refused(tmp_path):
    grey = np.dstack([WHITE] * 3)
    for name, alpha in (("constant", np.full_like(WHITE, 9)), ("as the mask", WHITE)):
        Image.fromarray(rgba(grey, alpha)).save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png"), OBJECT)
    for alpha, line in ((~WHITE, "labels where it is transparent"), (WHITE // 2, "half transp")):
        Image.fromarray(rgba(grey, alpha)).save(tmp_path / "no.png")
        with pytest.raises(InputError, match=rf"no\.png: .*{line}"):
            read_mask(tmp_path / "no.png")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_of_16_bits_with_colours_keeps_all_of_them(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 65535, (20, 24, channels)).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(values))
    wanted = values[..., 0] if channels == 2 else values  # grey loses its alpha
    got = read_image(tmp_path / "x.png")
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits", "lzma", "jpeg2000"])
@pytest.mark.parametrize("deep", [False, True])
def test_compressed_tif_is_read_as_page_and_as_stack(tmp_path, compression, deep):
    array = np.random.default_rng(0).integers(0, 999, (3, 20, 24)).astype(np.uint16)
    array = array if deep else array[:1]
    options = {"compression": compression, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "x.tif", array, **options)
    np.testing.assert_array_equal(registry.read(tmp_path / "x.tif").array, array)
    if not deep:
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), array[0])


def test_a_tif_with_jpeg_in_it_comes_in_colours(tmp_path):
    Image.fromarray(flat(90)).save(tmp_path / "x.tif", compression="jpeg")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), flat(90))


def test_palette_tif_is_in_colours_as_an_image_and_indices_as_a_mask(tmp_path):
    table = np.zeros((3, 256), np.uint16)
    table[:, 1], table[:, 2] = (65535, 0, 0), (0, 32896, 65535)
    indices = (np.arange(480) % 3).reshape(20, 24).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", indices, photometric="palette", colormap=table)
    colours = np.array([(0, 0, 0), (255, 0, 0), (0, 128, 255)], np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), colours[indices])
    np.testing.assert_array_equal(read_labels(tmp_path / "x.tif", 3), indices)


@pytest.mark.parametrize("first", [0, 1])
def test_a_reduced_copy_beside_the_picture_is_left_out(tmp_path, first):
    pages = [(NOISE[..., 0], 0), (NOISE[::2, ::2, 0], 1)]
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        for array, kind in (pages[first], pages[1 - first]):
            writer.write(array, subfiletype=kind)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), NOISE[..., 0])
    np.testing.assert_array_equal(registry.read(tmp_path / "x.tif").array, NOISE[None, ..., 0])


@pytest.mark.parametrize("deep", [1, 3])
def test_a_pyramid_is_its_finest_level(tmp_path, deep):
    array = np.random.default_rng(0).integers(0, 255, (deep, 64, 64)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "x.ome.tif") as writer:
        options = {"photometric": "minisblack"}
        writer.write(array, subifds=1, metadata={"axes": "ZYX"}, **options)
        writer.write(array[:, ::2, ::2], subfiletype=1, **options)
    np.testing.assert_array_equal(registry.read(tmp_path / "x.ome.tif").array, array)
    if deep == 1:
        np.testing.assert_array_equal(read_image(tmp_path / "x.ome.tif"), array[0])


@pytest.mark.parametrize("name", ["x.jpg", "x.tif"])
def test_colours_for_print_are_refused(tmp_path, name):
    Image.fromarray(NOISE).convert("CMYK").save(tmp_path / name)
    for reader in (read_image, read_mask):
        with pytest.raises(InputError, match=rf"{name}: is a CMYK picture"):
            reader(tmp_path / name)


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "x.png", compress_level=0)
    good, rng = (tmp_path / "x.png").read_bytes(), np.random.default_rng(0)
    for place in rng.integers(33, len(good), 100):
        bad = bytearray(good)
        bad[place] ^= 1 << rng.integers(8)
        (tmp_path / "x.png").write_bytes(bad)
        with pytest.raises(InputError, match=r"x\.png"):
            read_image(tmp_path / "x.png")
