"""What DICOM files of many kinds stand for: values, colours and places, and what is refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import (
    STORED,
    pixels,
    refused,
    upright,
    write,
)
from pydicom.dataset import Dataset
from pydicom.pixels.processing import convert_color_space
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless
from volume_files import AXIAL, write_series

from napari_hidiff.io import registry
from napari_hidiff.io.dicom import is_dicom, is_series, read_dicom
from napari_hidiff.io.write import write_labels


@pytest.mark.parametrize(
    ("stored", "bits", "rescale", "ends", "dtype"),
    [
        (np.uint8, 8, (1, 0), 255, np.uint8),
        (np.uint16, 12, (1, 0), 4095, np.int16),
        (np.uint16, 16, (1, 0), 65535, np.uint16),
        (np.int16, 16, (1, 0), -1, np.int16),
        (np.uint16, 12, (2, -1024), 4095 * 2 - 2048, np.int16),
        (np.uint16, 12, (0.5, 0), 2047.5, np.float32),
    ],
)
def test_monochrome1_is_turned_round(tmp_path, stored, bits, rescale, ends, dtype):
    low = -1000 if stored == np.int16 else 0
    array = np.random.default_rng(5).integers(low, 255, (10, 12)).astype(stored)

    def change(file):
        pixels(file, array)
        file.PhotometricInterpretation = "MONOCHROME1"
        file.BitsStored, file.HighBit = bits, bits - 1

    volume = read_dicom(write(tmp_path, change, rescale=rescale))
    assert volume.array.dtype == dtype
    scaled = array * float(rescale[0]) + rescale[1]
    np.testing.assert_array_equal(upright(volume.array)[0], ends - scaled)


def tables(bits=8, entries=256, first=0, colours=("Red", "Green", "Blue")):
    """A change that makes a palette of a file; and its colours, uint8 [entries, 3]."""
    table = np.random.default_rng(6).integers(1, 256, (entries, 3)).astype(np.uint8)

    def change(file):
        pixels(file, (STORED[0] % 256).astype(np.uint8))
        file.PhotometricInterpretation = "PALETTE COLOR"
        for index, colour in enumerate(colours):
            column = table[:, index].astype(f"<u{bits // 8}") << (bits - 8)
            name = f"{colour}PaletteColorLookupTable"
            file.add_new(f"{name}Descriptor", "US", [entries, first, bits])
            file.add_new(f"{name}Data", "OW", column.tobytes())

    return change, table


@pytest.mark.parametrize(("bits", "entries", "first"), [(8, 256, 0), (16, 256, 0), (16, 100, 50)])
def test_a_palette_becomes_colours(tmp_path, bits, entries, first):
    change, table = tables(bits, entries, first)
    volume = read_dicom(write(tmp_path, change))
    assert volume.array.dtype == np.uint8
    assert volume.array.shape == (1, 10, 12, 3)
    index = np.clip(STORED[0] % 256 - float(first), 0, entries - 1).astype(int)
    np.testing.assert_array_equal(upright(volume.array)[0], table[index])
    assert registry.as_layer(volume)[1]


def test_a_palette_for_more_pixels_than_it_has_entries(tmp_path):
    change, table = tables()

    def sixteen(file):
        change(file)
        pixels(file, STORED[0])
        file.PhotometricInterpretation = "PALETTE COLOR"

    volume = read_dicom(write(tmp_path, sixteen))
    np.testing.assert_array_equal(upright(volume.array)[0], table[np.minimum(STORED[0], 255)])


def test_palettes_that_are_missing_or_broken_are_refused(tmp_path):
    def short(file):
        tables()[0](file)
        file.GreenPaletteColorLookupTableData = b"\1" * 20

    def empty(file):
        tables()[0](file)
        file.RedPaletteColorLookupTableDescriptor = None

    for name, change in {
        "none": tables(colours=())[0],
        "one": tables(colours=("Red",))[0],
        "short": short,
        "empty": empty,
    }.items():
        assert "cannot be read" in refused(write(tmp_path / name, change))


def test_colours_come_out_as_rgb_or_not_at_all(tmp_path):
    colours = np.random.default_rng(7).integers(0, 256, (10, 12, 3)).astype(np.uint8)

    def stored_as(kind):
        def change(file):
            pixels(file, colours)
            file.PhotometricInterpretation = kind
            del file.RescaleSlope, file.RescaleIntercept

        return change

    volume = read_dicom(write(tmp_path / "full", stored_as("YBR_FULL")))
    wanted = convert_color_space(colours, "YBR_FULL", "RGB")
    np.testing.assert_array_equal(upright(volume.array)[0], wanted)
    for kind in ("YBR_PARTIAL_420", "YBR_ICT", "CMYK", "MONOCHROME2"):
        assert kind in refused(write(tmp_path / kind, stored_as(kind)))


def test_a_picture_of_pydicom_in_every_colour_space(tmp_path):
    """The same picture as RGB and, with less colour, as YBR_FULL_422."""
    found = {}
    for name in ("SC_rgb_rle.dcm", "SC_ybr_full_422_uncompressed.dcm"):
        path = pydicom.data.get_testdata_file(name, download=False)
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(Path(path).read_bytes())
        found[name] = read_dicom(tmp_path / name / name).array.astype(int)
    one, other = found.values()
    assert one.shape == other.shape == (1, 100, 100, 3)
    assert np.median(abs(one - other)) <= 1


def table_of(depth, values, first=0):
    def change(file):
        del file.RescaleSlope, file.RescaleIntercept
        table = Dataset()
        table.add_new("LUTDescriptor", "US", [len(values), first, depth])
        table.add_new("LUTData", "US", [int(value) for value in values])
        file.ModalityLUTSequence = Sequence([table])

    return change


@pytest.mark.parametrize(
    ("depth", "dtype", "first"),
    [(8, np.uint8, 0), (12, np.int16, 0), (16, np.uint16, 0), (16, np.uint16, 300)],
)
def test_a_table_of_values_is_applied(tmp_path, depth, dtype, first):
    values = np.random.default_rng(8).integers(0, 2**depth, 4000)
    volume = read_dicom(write(tmp_path, table_of(depth, values, first)))
    assert volume.array.dtype == dtype
    index = np.maximum(STORED[0].astype(int) - first, 0)
    np.testing.assert_array_equal(upright(volume.array)[0], values[index])


def test_broken_tables_of_values_are_refused(tmp_path):
    def short(file):
        table_of(16, range(4000))(file)
        file.ModalityLUTSequence[0].LUTData = [1, 2, 3]

    def bare(file):
        file.ModalityLUTSequence = Sequence([Dataset()])

    def beyond(file):  # 12 bits are said, 16 are there
        table_of(12, np.full(4000, 60000))(file)

    assert "cannot be read" in refused(write(tmp_path / "a", short))
    assert "ModalityLUTSequence" in refused(write(tmp_path / "b", bare))
    assert "more than its header allows" in refused(write(tmp_path / "c", beyond))


def test_doses_are_scaled(tmp_path):
    def dose(file):
        del file.RescaleSlope, file.RescaleIntercept
        file.DoseGridScaling = "0.001"

    volume = read_dicom(write(tmp_path, dose))
    np.testing.assert_allclose(upright(volume.array), STORED * 0.001, rtol=1e-6)


def test_values_of_32_bits_are_exact(tmp_path):
    array = np.array([[0, 2**24 + 1], [2**31 + 5, 2**32 - 1]], np.uint32)
    stored = np.zeros((1, 2, 2), np.uint16)
    volume = read_dicom(write(tmp_path, lambda file: pixels(file, array), stored, rescale=(1, 0)))
    assert volume.array.dtype == np.uint32
    np.testing.assert_array_equal(upright(volume.array)[0], array)


def test_a_mosaic_is_refused(tmp_path):
    def change(file):
        file.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]

    assert "mosaic of Siemens" in refused(write(tmp_path, change))


@pytest.mark.parametrize("placed", [False, True])
def test_without_a_pixel_spacing_the_unit_is_the_pixel(tmp_path, placed):
    def change(file):
        del file.PixelSpacing
        if not placed:
            del file.ImagePositionPatient, file.ImageOrientationPatient

    stored = STORED.repeat(3, 0) if placed else STORED
    volume = read_dicom(write(tmp_path / "st", change, stored))
    assert volume.spacing == (1, 1, 1)
    assert volume.source.header["unit"] == "pixel"
    assert not volume.source.header["placed"]
    mask = (volume.array > 500).astype(np.uint8)
    for suffix in (".nii.gz", ".tif", ".npz"):
        write_labels(tmp_path / f"st_mask{suffix}", mask, None, volume.source)
        again = registry.read(tmp_path / f"st_mask{suffix}")
        assert again.spacing == (1, 1, 1)
        np.testing.assert_array_equal(registry.labels(again).reshape(mask.shape), mask)
    assert registry.read(tmp_path / "st_mask.tif").source.header["unit"] == "pixel"


def test_the_other_sizes_of_a_pixel_count_too(tmp_path):
    for keyword in ("ImagerPixelSpacing", "NominalScannedPixelSpacing"):

        def change(file, keyword=keyword):
            del file.PixelSpacing
            setattr(file, keyword, [0.3, 0.2])

        volume = read_dicom(write(tmp_path / keyword, change))
        assert volume.spacing == pytest.approx((2.5, 0.3, 0.2))
        assert volume.source.header["unit"] == "mm"


@pytest.mark.parametrize("start", [132, "elements"])
def test_a_file_without_a_preamble_is_read(tmp_path, start):
    write_series(tmp_path / "ct", STORED.repeat(3, 0))
    whole = read_dicom(tmp_path / "ct")
    for path in (tmp_path / "ct").iterdir():
        content = path.read_bytes()
        begin = content.index(b"\x08\0\x16\0UI") if start == "elements" else start
        path.write_bytes(content[begin:])
    assert is_series(tmp_path / "ct")
    for path in (tmp_path / "ct", tmp_path / "ct" / "im001.dcm"):
        assert registry.kind_of(path) == "dicom"
        np.testing.assert_array_equal(registry.read(path).array, whole.array)


def test_what_lacks_the_preamble_and_is_no_dicom_says_so(tmp_path):
    for name, content in {
        "text.dcm": b"nothing of the kind",
        "zeros.dcm": bytes(1000),
        "empty.dcm": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        assert not is_dicom(tmp_path / name)
        assert "the preamble and the mark DICM are missing" in refused(tmp_path / name)
        (tmp_path / name).unlink()
    (tmp_path / "IM1").write_bytes(b"\x08\0\x16\0UI")  # no suffix, so nobody said DICOM
    assert not is_dicom(tmp_path / "IM1")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_of_more_pixels_than_the_file_can_hold(tmp_path, compressed):
    def change(file):
        if compressed:
            file.compress(RLELossless)
        file.Rows = file.Columns = 65535

    line = refused(write(tmp_path, change, axes=AXIAL))
    assert "bytes cannot hold 65535 x 65535 values of 16 bits" in line


def test_pixels_that_are_cut_off_are_refused(tmp_path):
    write_series(tmp_path, STORED.repeat(40, 1))
    path = tmp_path / "im000.dcm"
    path.write_bytes(path.read_bytes()[:-50])
    assert "im000.dcm" in refused(path)
