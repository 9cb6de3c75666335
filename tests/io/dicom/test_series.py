"""DICOM series as scanners write them: found, sorted, placed, and refused with one line."""

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.affines import apply_affine
from pydicom.uid import RLELossless, generate_uid
from volume_files import AXIAL, OBLIQUE, write_series

from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.io.dicom import read_dicom
from napari_hidiff.io.write import write_labels

SAGITTAL = ((0, 1, 0), (0, 0, -1))
CORONAL = ((1, 0, 0), (0, 0, -1))


def scan(shape=(6, 10, 12)):
    return np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)


def at(array, affine, lps):
    """The values of an array [i, j, k] at places in mm of DICOM's axes."""
    ras = np.asarray(lps) * (-1, -1, 1)
    index = np.round(apply_affine(np.linalg.inv(affine), ras)).astype(int)
    return array[tuple(index.T)]


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
def test_every_voxel_is_where_its_file_says(tmp_path, axes):
    stored = scan()
    order = np.random.default_rng(1).permutation(len(stored))
    lps = write_series(tmp_path / "ct", stored, axes, order=order)
    volume = read_dicom(tmp_path / "ct")
    assert volume.array.flags.c_contiguous
    indices = np.stack(np.meshgrid(*map(range, stored.shape[::-1]), indexing="ij"), -1)
    places = apply_affine(lps, indices.reshape(-1, 3))
    wanted = stored.T.reshape(-1).astype(int) - 1024
    np.testing.assert_array_equal(at(volume.array.T, volume.affine, places), wanted)
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    assert sorted(np.round(volume.spacing, 6)) == [0.7, 0.9, 2.5]
    assert volume.array.dtype == np.int32  # 16 unsigned bits less 1024 do not fit into 16

    mask = (volume.array > 500).astype(np.uint8)
    out = tmp_path / "ct_mask.nii.gz"
    write_labels(out, mask, None, volume.source)
    image = nibabel.load(out)
    assert image.shape == stored.shape[::-1]  # columns, rows, slices as ITK stacks them
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-4)
    np.testing.assert_allclose(image.header.get_qform(), image.affine, atol=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asarray(image.dataobj), stored.T.astype(int) - 1024 > 500)


def test_one_file_stands_for_its_series_among_others(tmp_path):
    first, second = scan(), scan()[::-1]
    write_series(tmp_path, first, name="a{}.dcm", uid="1.2.3.1")
    write_series(tmp_path, second, CORONAL, name="b{}.dcm", uid="1.2.3.2")
    (tmp_path / "notes.txt").write_text("not DICOM")
    with pytest.raises(InputError, match=r"holds 2 series \(6, 6 images\)"):
        read_dicom(tmp_path)
    one, other = read_dicom(tmp_path / "a3.dcm"), read_dicom(tmp_path / "b0.dcm")
    assert one.source.header["series"] == "1.2.3.1"
    assert sorted(one.array.ravel()) == sorted(other.array.ravel())
    assert one.array.shape != other.array.shape


def test_files_without_a_suffix_are_found_and_a_list_is_a_series(tmp_path):
    write_series(tmp_path / "st", scan(), name="IM{:04}")
    assert registry.kind_of(tmp_path / "st") == "dicom"
    assert registry.kind_of(tmp_path / "st" / "IM0001") == "dicom"
    volume = read_dicom(tmp_path / "st")
    files = sorted((tmp_path / "st").iterdir())[::-1]
    np.testing.assert_array_equal(read_dicom(files).array, volume.array)
    assert read_dicom(files[:3]).array.shape[0] == 3


@pytest.mark.parametrize(
    ("rescale", "dtype"),
    [((1, 0), np.uint16), ((1, -1024), np.int32), ((2, 0), np.int32), ((0.5, 1), np.float32)],
)
def test_values_are_rescaled_exactly(tmp_path, rescale, dtype):
    stored = scan()
    write_series(tmp_path, stored, rescale=rescale)
    array = read_dicom(tmp_path).array
    assert array.dtype == dtype
    wanted = stored * float(rescale[0]) + rescale[1]
    np.testing.assert_array_equal(array[:, ::-1, ::-1], wanted.astype(dtype))


def test_twelve_bits_fit_into_sixteen(tmp_path):
    def twelve(index, file):
        file.BitsStored, file.HighBit = 12, 11

    write_series(tmp_path, scan(), change=twelve)
    assert read_dicom(tmp_path).array.dtype == np.int16


def test_every_slice_has_its_own_slope(tmp_path):
    def pet(index, file):
        file.RescaleSlope, file.RescaleIntercept = 0.5 * (index + 1), 0

    stored = scan()
    write_series(tmp_path, stored, change=pet)
    wanted = stored * (0.5 * np.arange(1, 7))[:, None, None]
    np.testing.assert_allclose(read_dicom(tmp_path).array[:, ::-1, ::-1], wanted)


def test_a_picture_without_a_position_is_one_slice(tmp_path):
    def radiograph(index, file):
        del file.ImagePositionPatient, file.ImageOrientationPatient

    write_series(tmp_path, scan()[:1], change=radiograph)
    volume = read_dicom(tmp_path / "im000.dcm")
    assert volume.array.shape == (1, 10, 12)
    assert volume.spacing == pytest.approx((2.5, 0.7, 0.9))
    write_series(tmp_path / "two", scan()[:2], change=radiograph)
    with pytest.raises(InputError, match="2 images that do not say where they are"):
        read_dicom(tmp_path / "two")


def test_colours_are_channels(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 255, (10, 12, 3)).astype(np.uint8)

    def ultrasound(index, file):
        file.SamplesPerPixel, file.PhotometricInterpretation = 3, "RGB"
        file.PlanarConfiguration = 0
        file.BitsAllocated = file.BitsStored = 8
        file.HighBit, file.PixelData = 7, pixels.tobytes()
        file.RescaleIntercept = 0

    write_series(tmp_path, scan()[:1], change=ultrasound)
    volume = read_dicom(tmp_path)
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array[0, ::-1, ::-1], pixels)


def shift(index, file):
    """A gantry tilted by 15 degrees: every slice is shifted along its rows."""
    file.ImagePositionPatient = [-40, 15 + index * 2.5 * 0.27, 100 + index * 2.5]


def swapped(index, file):
    if index == 3:
        file.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def finer(index, file):
    if index == 3:
        file.PixelSpacing = [0.35, 0.45]


def smaller(index, file):
    if index == 3:
        file.Rows, file.PixelData = 5, file.PixelData[: len(file.PixelData) // 2]


def twice(index, file):
    if index == 3:
        file.ImagePositionPatient = [-40, 15, 100 + 2 * 2.5]


def frames(index, file):
    file.NumberOfFrames = 4


def uneven(index, file):
    file.ImagePositionPatient = [-40, 15, 100 + index**1.5]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (shift, "tilted gantry"),
        (swapped, "im003.dcm: lies in another direction than im000.dcm"),
        (finer, "im003.dcm: has another pixel spacing than im000.dcm"),
        (smaller, "im003.dcm: Rows is 5, im000.dcm has 10"),
        (twice, "im002.dcm and im003.dcm lie at the same place"),
        (frames, "holds 4 frames"),
        (uneven, "slices are missing, or spaced unevenly"),
    ],
)
def test_what_is_no_regular_stack_is_refused(tmp_path, change, line):
    write_series(tmp_path / "ct", scan(), change=change)
    with pytest.raises(InputError) as caught:
        read_dicom(tmp_path / "ct")
    assert line in str(caught.value)
    assert str(tmp_path / "ct") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_slice_is_named_by_its_neighbours(tmp_path):
    write_series(tmp_path, scan())
    (tmp_path / "im002.dcm").unlink()
    with pytest.raises(InputError, match=r"im001.dcm and im003.dcm are 5 mm apart, .* 2.5 mm"):
        read_dicom(tmp_path)


def test_a_localizer_in_the_series_is_named(tmp_path):
    uid = generate_uid()
    write_series(tmp_path, scan(), uid=uid)
    write_series(tmp_path, scan()[:1], SAGITTAL, uid=uid, name="scout.dcm")
    with pytest.raises(InputError, match=r"scout\.dcm: lies in another direction"):
        read_dicom(tmp_path)


def test_damaged_files_are_named(tmp_path):
    write_series(tmp_path / "ct", scan())
    good = (tmp_path / "ct" / "im003.dcm").read_bytes()
    (tmp_path / "empty").mkdir()
    for content, line in (
        (good[: len(good) - 100], "im003.dcm: its pixels cannot be read"),
        (good[:500], "im003.dcm"),
        (b"nothing", "im003.dcm: is not DICOM"),
        (b"", "im003.dcm: is not DICOM"),
    ):
        (tmp_path / "ct" / "im003.dcm").write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_dicom(tmp_path / "ct")
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)
    for path, line in (
        (tmp_path / "none.dcm", "no such file"),
        (tmp_path / "empty", "no DICOM images"),
    ):
        with pytest.raises(InputError, match=line):
            read_dicom(path)
    assert registry.kind_of(tmp_path / "empty") is None


def test_compressed_pixels_are_read(tmp_path):
    stored = scan((2, 16, 20))
    write_series(tmp_path, stored, change=lambda index, file: file.compress(RLELossless))
    assert pydicom.dcmread(tmp_path / "im000.dcm").file_meta.TransferSyntaxUID == RLELossless
    wanted = stored.astype(int) - 1024
    np.testing.assert_array_equal(read_dicom(tmp_path).array[:, ::-1, ::-1], wanted)
