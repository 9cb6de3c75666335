"""TIFF stacks, NPZ and palette PNG: sizes, classes and labels go out and come back."""

import json

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from napari_hidiff.errors import InputError
from napari_hidiff.io import npz, record, registry
from napari_hidiff.io.images import read_labels
from napari_hidiff.io.tiff import is_stack, read_source, read_tiff
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import Label

CLASSES = (Label("background", "#000000"), Label("disc", "#ff8000"), Label("cup", "#0080ff"))
SPACING = (2.5, 0.7, 0.35)


def labels(shape, top=3):
    return np.random.default_rng(0).integers(0, top, shape).astype(np.uint8)


def stack(shape=(4, 20, 30), dtype=np.uint16):
    return np.random.default_rng(1).integers(0, 255, shape).astype(dtype)


def imagej(path, array, axes="ZYX", unit="micron", factor=1000.0):
    z, y, x = (size * factor for size in SPACING)
    tifffile.imwrite(
        path,
        array,
        imagej=True,
        resolution=(1 / x, 1 / y),
        metadata={"axes": axes, "spacing": z, "unit": unit},
    )
    return path


def ome(path, array, axes="ZYX"):
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", SPACING, strict=True)}
    units = {f"PhysicalSize{axis}Unit": "mm" for axis in "ZYX"}
    tifffile.imwrite(path, array, ome=True, metadata={"axes": axes, **sizes, **units})
    return path


@pytest.mark.parametrize("write", [imagej, ome])
def test_stacks_come_with_their_spacing(tmp_path, write):
    path = write(tmp_path / "s.tif", stack())
    volume = read_tiff(path)
    np.testing.assert_array_equal(volume.array, stack())
    assert volume.spacing == pytest.approx(SPACING, rel=1e-4)
    assert volume.source.header["unit"] == "mm"
    # as ITK opens a TIFF: from the upper left corner to the left, back and up of a patient
    np.testing.assert_allclose(volume.affine, np.diag([-0.35, -0.7, 2.5, 1]), rtol=1e-4)
    assert read_source(path) == volume.source
    assert is_stack(path)


@pytest.mark.parametrize(
    ("write", "axes", "shape"),
    [
        (imagej, "ZCYX", (4, 2, 20, 30)),
        (imagej, "TYX", (4, 20, 30)),
        (ome, "CZYX", (2, 4, 20, 30)),
        (ome, "TCYX", (4, 2, 20, 30)),
    ],
)
def test_channels_come_last_and_any_axis_is_a_stack(tmp_path, write, axes, shape):
    array = stack(shape)
    volume = read_tiff(write(tmp_path / "s.tif", array, axes))
    deep = axes[:2].replace("C", "")[0]
    order = [axes.index(axis) for axis in (deep, "Y", "X", *("C" * ("C" in axes)))]
    np.testing.assert_array_equal(volume.array, array.transpose(order))


def test_colour_pages_and_plain_pages(tmp_path):
    colour, plain = stack((4, 20, 30, 3), np.uint8), stack(dtype=np.float32)
    tifffile.imwrite(tmp_path / "c.tif", colour, photometric="rgb")
    tifffile.imwrite(tmp_path / "p.tif", plain, photometric="minisblack")
    np.testing.assert_array_equal(read_tiff(tmp_path / "c.tif").array, colour)
    volume = read_tiff(tmp_path / "p.tif")
    np.testing.assert_array_equal(volume.array, plain)
    assert volume.spacing == (1, 1, 1)
    assert volume.source.header["unit"] == "pixel"


def test_inches_are_not_believed_and_centimetres_are(tmp_path):
    array = stack()
    for unit, wanted in (("INCH", (1, 1, 1)), ("CENTIMETER", (1, 0.5, 0.25))):
        path = tmp_path / f"{unit}.tif"
        tifffile.imwrite(
            path, array, resolution=(40, 20), resolutionunit=unit, photometric="minisblack"
        )
        assert read_tiff(path).spacing == pytest.approx(wanted)


def test_a_tiff_mask_keeps_spacing_classes_and_colours(tmp_path):
    volume = read_tiff(imagej(tmp_path / "s.tif", stack()))
    mask = labels(volume.array.shape)
    write_labels(tmp_path / "s_mask.tif", mask, CLASSES, volume.source)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "s_mask.tif"), mask)
    with tifffile.TiffFile(tmp_path / "s_mask.tif") as tiff:
        facts = tiff.imagej_metadata
        assert tiff.series[0].axes == "ZYX"
        assert facts["unit"] == "mm"
        assert facts["spacing"] == pytest.approx(2.5)
        colours = np.reshape(facts["LUTs"], (3, 256)).T[:3]
    np.testing.assert_array_equal(colours, [(0, 0, 0), (255, 128, 0), (0, 128, 255)])
    again = read_tiff(tmp_path / "s_mask.tif")
    assert again.spacing == pytest.approx(SPACING, rel=1e-4)
    assert registry.is_mask(again)
    assert record.labels_of(again.source.header["record"]["classes"]) == CLASSES


def test_a_tiff_mask_of_two_axes_is_one_page_that_io_reads(tmp_path):
    mask = labels((20, 30))
    write_labels(tmp_path / "m.tif", mask, CLASSES)
    np.testing.assert_array_equal(read_labels(tmp_path / "m.tif", 3), mask)
    again = read_tiff(tmp_path / "m.tif")
    assert registry.labels(again).shape == again.array.shape[1:] or again.array.shape[0] == 1


def test_many_labels_become_uint16_where_a_file_can(tmp_path):
    mask = np.arange(600, dtype=np.int32).reshape(2, 15, 20)
    for name in ("m.tif", "m.npz", "m.nii.gz"):
        write_labels(tmp_path / name, mask)
        again = registry.read(tmp_path / name)
        assert registry.labels(again).dtype == np.uint16
        np.testing.assert_array_equal(registry.labels(again), mask)
    with pytest.raises(InputError, match=r"do not fit into 0\.\.255"):
        write_labels(tmp_path / "m.png", mask[1])


@pytest.mark.parametrize("top", [1, 2, 3, 256])
def test_a_palette_keeps_indices_and_background(tmp_path, top):
    mask = labels((20, 30), 2) * 0 if top == 1 else np.resize(np.arange(top), (20, 30))
    path = tmp_path / "m.png"
    write_labels(path, mask.astype(np.uint8), CLASSES)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.array(picture), mask)
        shown = np.array(picture.convert("RGB"))
    colours = {0: (0, 0, 0), 1: (255, 128, 0), 2: (0, 128, 255)}
    for value, colour in colours.items():
        assert (shown[mask == value] == colour).all()
    np.testing.assert_array_equal(read_labels(path, 256), mask)
    again, found = registry.read_png_mask(path)
    np.testing.assert_array_equal(again, mask)
    assert record.labels_of(found["classes"])[:3] == CLASSES


def test_npz_goes_out_and_comes_back(tmp_path):
    mask = labels((4, 20, 30))
    write_labels(tmp_path / "m.npz", mask, CLASSES, spacing=SPACING)
    with np.load(tmp_path / "m.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["mask"], mask)
        np.testing.assert_allclose(archive["spacing"], SPACING)
        np.testing.assert_allclose(archive["affine"], np.diag([-0.35, -0.7, 2.5, 1]))
        assert [kind["name"] for kind in json.loads(str(archive["classes"]))] == [
            "background",
            "disc",
            "cup",
        ]
    volume = registry.read(tmp_path / "m.npz")
    assert registry.is_mask(volume)
    assert volume.spacing == SPACING
    np.testing.assert_array_equal(registry.labels(volume), mask)


def test_images_in_npz(tmp_path):
    grey, colour = stack(), stack((20, 30, 3), np.uint8)
    np.savez(tmp_path / "a.npz", image=grey, spacing=SPACING, other=np.ones(3))
    np.savez(tmp_path / "b.npz", whatever=grey[0])
    np.savez(tmp_path / "c.npz", colour)
    np.savez(tmp_path / "d.npz", image=stack((3, 5, 3), np.uint8), spacing=SPACING)
    for name, shape, spacing in (
        ("a", (4, 20, 30), SPACING),
        ("b", (1, 20, 30), (1, 1, 1)),
        ("c", (1, 20, 30, 3), (1, 1, 1)),
        ("d", (3, 5, 3), SPACING),
    ):
        volume = registry.read(tmp_path / f"{name}.npz")
        assert (volume.array.shape, volume.spacing) == (shape, spacing)
        assert not registry.is_mask(volume)


def test_archives_without_an_image_are_known_by_their_heads(tmp_path):
    np.savez(tmp_path / "two.npz", a=stack(), b=stack())
    np.savez(tmp_path / "line.npz", a=np.ones(5))
    np.savez(tmp_path / "text.npz", image=np.array(["a", "b"]))
    np.savez(tmp_path / "objects.npz", image=np.array([[{}]], dtype=object))
    (tmp_path / "bytes.npz").write_bytes(b"no archive")
    for path in tmp_path.iterdir():
        assert npz.main_array(path) is None
        with pytest.raises(InputError) as caught:
            registry.read(path)
        assert str(path) in str(caught.value)


def test_damaged_and_odd_files_get_one_line(tmp_path):
    np.savez_compressed(tmp_path / "cut.npz", image=stack((9, 50, 50)))
    data = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:200] + bytes(2000) + data[2200:])
    np.savez(tmp_path / "spacing.npz", image=stack(), spacing=[0, 1, 1])
    np.savez(tmp_path / "affine.npz", image=stack(), affine=np.eye(3))
    whole = imagej(tmp_path / "good.tif", stack((5, 40, 40))).read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "text.tif").write_text("no image")
    imagej(tmp_path / "time.tif", stack((3, 2, 20, 30)), "TZYX")
    with tifffile.TiffWriter(tmp_path / "sizes.tif") as writer:
        writer.write(stack((20, 30)))
        writer.write(stack((10, 15)))
    (tmp_path / "good.tif").unlink()
    for path in (*tmp_path.iterdir(), tmp_path / "none.tif", tmp_path / "none.npz"):
        with pytest.raises(InputError) as caught:
            registry.read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_an_archive_is_noticed(tmp_path):
    path, rng = tmp_path / "a.npz", np.random.default_rng(0)
    np.savez(path, image=stack())
    good = path.read_bytes()
    start = good.index(b"\x93NUMPY")
    for place in rng.integers(start, start + 300, 100):  # the shape too
        bad = bytearray(good)
        bad[place] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        with pytest.raises(InputError, match=r"a\.npz: "):
            registry.read(path)


def test_an_image_is_no_mask_for_having_few_values(tmp_path):
    two_values = (stack() > 100).astype(np.uint8)
    for name, wanted in (
        ("scan.npz", False),
        ("scan_mask.npz", True),
        ("scan-seg.npz", True),
        ("masked.npz", False),
        ("the_labels.npz", True),
    ):
        np.savez(tmp_path / name, two_values)
        assert registry.is_mask(registry.read(tmp_path / name)) is wanted
    np.savez(tmp_path / "grey_mask.npz", stack(dtype=np.float32) / 7)
    assert not registry.is_mask(registry.read(tmp_path / "grey_mask.npz"))


@given(
    mask=arrays(
        np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20)), elements=st.integers(0, 9)
    ),
    suffix=st.sampled_from([".png", ".tif", ".TIFF"]),
)
@settings(max_examples=40, deadline=None)
def test_written_masks_read_back_bit_for_bit(tmp_path_factory, mask, suffix):
    path = tmp_path_factory.mktemp("mask") / f"m{suffix}"
    write_labels(path, mask)
    np.testing.assert_array_equal(read_labels(path, labels=10), mask)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("mask", "name", "line"),
    [
        (np.zeros((2, 2, 2), np.uint8), "m.png", "a mask of 3 axes is written as .tif"),
        (np.zeros((2, 2)), "m.png", "a mask is an integer"),
        (np.full((2, 2), 256), "m.png", "do not fit into 0..255"),
        (np.full((2, 2), -1), "m.png", "do not fit into 0..255"),
        (np.zeros((2, 2), np.uint8), "m.jpg", "masks are written as .nii.gz"),
        (np.zeros((2, 2), np.uint8), "no/such/m.png", "cannot be written"),
        (np.zeros((2, 2), np.uint8), "no/such/m.tif", "cannot be written"),
    ],
)
def test_masks_that_cannot_be_written_say_why(tmp_path, mask, name, line):
    with pytest.raises(InputError, match=line):
        write_labels(tmp_path / name, mask)
    assert not list(tmp_path.iterdir())
