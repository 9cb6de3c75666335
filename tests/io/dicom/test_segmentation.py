"""Masks as DICOM segmentations: read back by us, by pydicom and by highdicom; what is refused."""

import shutil
from importlib import import_module
from itertools import permutations

import numpy as np
import pydicom
import pytest
from dicom_files import enhanced, items
from pydicom.data import get_testdata_file
from pydicom.uid import DigitalXRayImageStorageForPresentation
from volume_files import AXIAL, OBLIQUE, write_series

from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.io.dicom import read_dicom
from napari_hidiff.io.dicom.segmentation import is_installed, write_segmentation
from napari_hidiff.io.volume import Source, apart, rows
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import Label

installed = pytest.mark.skipif(
    not is_installed(), reason="highdicom (extra dicom-seg) is not installed"
)
CLASSES = (
    Label("background", "#000000"),
    Label("Liver", "#ff4040"),
    Label("Gefäß 血管", "#40a0ff"),
    Label("lesion", "#12fe07"),
)
SAGITTAL = ((0, 1, 0), (0, 0, -1))
TURNED = ((-1, 0, 0), (0, 0, 1))
STORED = np.random.default_rng(0).integers(0, 4000, (5, 7, 9)).astype(np.uint16)
"""Of odd sizes: 63 bits a frame."""
SHUFFLED = [3, 1, 4, 0, 2]


def series(folder, stored=STORED, **options):
    options.setdefault("order", SHUFFLED if len(stored) == 5 else None)
    write_series(folder, stored, **options)
    return read_dicom(folder)


def labelled(volume, labels=4, seed=1):
    shape = volume.array.shape[:3]
    return np.random.default_rng(seed).integers(0, labels, shape).astype(np.uint8)


def per_file(folder, mask, volume):
    """The mask's frame [rows, columns] of every file, by the UID of its image.

    By position alone: nothing of the code under test, but that the volume lies where it says.
    """
    found = {}
    for file in sorted(folder.iterdir()):
        image = pydicom.dcmread(file)
        rows, columns = np.mgrid[: image.Rows, : image.Columns]
        across, down = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        step_down, step_across = (float(size) for size in image.PixelSpacing)
        at = np.array(image.ImagePositionPatient, float)
        at = at + columns[..., None] * across * step_across + rows[..., None] * down * step_down
        at = np.concatenate([at * (-1, -1, 1), np.ones((*rows.shape, 1))], axis=-1)
        x, y, z, _ = np.rint(at @ np.linalg.inv(volume.affine).T).astype(int).transpose(2, 0, 1)
        found[image.SOPInstanceUID] = mask[z, y, x]
    return found


def same(path, mask, volume):
    """The file as our reader has it: the mask, where the volume lies."""
    back = registry.read(path)
    assert registry.is_mask(back)
    np.testing.assert_array_equal(registry.labels(back), mask)
    assert apart(back.affine, volume.affine, mask.shape[::-1]) < 1e-6
    assert back.source.header["frame_of_reference"] == volume.source.header["frame_of_reference"]
    return registry.read_labelled(path)


@installed
@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE, SAGITTAL, TURNED])
def test_a_mask_comes_back_voxel_by_voxel(tmp_path, axes):
    volume = series(tmp_path / "chest", axes=axes)
    mask = labelled(volume)
    path = tmp_path / "chest_mask.dcm"
    assert write_labels(path, mask, CLASSES, volume.source) == [path]
    back = same(path, mask, volume)
    assert back.classes == CLASSES
    assert back.spacing == pytest.approx(volume.spacing)
    assert {file.name for file in tmp_path.iterdir()} == {"chest", "chest_mask.dcm"}


@installed
@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE, SAGITTAL])
def test_highdicom_finds_every_frame_on_its_image(tmp_path, axes):
    hd = import_module("highdicom")
    volume = series(tmp_path / "chest", axes=axes)
    mask = labelled(volume)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES, volume.source)
    made = hd.seg.segread(tmp_path / "mask.dcm")
    frames = per_file(tmp_path / "chest", mask, volume)
    found = made.get_pixels_by_source_instance([*frames], combine_segments=True)
    np.testing.assert_array_equal(found, np.stack([*frames.values()]))
    assert len({frame.tobytes() for frame in frames.values()}) == 5

    assert made.segmentation_type.value == "BINARY"
    for number, kind in enumerate(CLASSES[1:], 1):
        one = made.get_segment_description(number)
        assert one.segment_label == kind.name
        assert "#{:02x}{:02x}{:02x}".format(*hd.color.CIELabColor(*lab(one)).to_rgb()) == kind.color
        assert one.algorithm_type.value == "SEMIAUTOMATIC"
        assert one.algorithm_identification.name == "napari-hidiff"
    types = [made.get_segment_description(n).segmented_property_type for n in (1, 2, 3)]
    assert [kind.meaning for kind in types] == ["Liver", "Tissue", "Lesion"]


def lab(description):
    lightness, a, b = (value / 65535 for value in description.RecommendedDisplayCIELabValue)
    return 100 * lightness, 255 * a - 128, 255 * b - 128


@installed
def test_pydicom_reads_what_the_standard_asks_for(tmp_path):
    volume = series(tmp_path / "chest")
    mask = labelled(volume)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES, volume.source)
    made, image = (pydicom.dcmread(tmp_path / name) for name in ("mask.dcm", "chest/im000.dcm"))
    assert made.SOPClassUID.name == "Segmentation Storage"
    assert (made.Modality, made.SegmentationType, made.BitsAllocated) == ("SEG", "BINARY", 1)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert made[keyword].value == image[keyword].value
    assert made.SeriesInstanceUID != image.SeriesInstanceUID
    assert [one.SegmentNumber for one in made.SegmentSequence] == [1, 2, 3]
    assert {one.SegmentAlgorithmName for one in made.SegmentSequence} == {"napari-hidiff"}
    (whole,) = made.ReferencedSeriesSequence
    assert whole.SeriesInstanceUID == image.SeriesInstanceUID

    frames = per_file(tmp_path / "chest", mask, volume)
    places = {}
    for file in (tmp_path / "chest").iterdir():
        one = pydicom.dcmread(file)
        places[one.SOPInstanceUID] = list(one.ImagePositionPatient)
    assert made.NumberOfFrames == 15
    groups = made.PerFrameFunctionalGroupsSequence
    for pixels, group in zip(made.pixel_array, groups, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(pixels, frames[source] == number)
        position = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(np.array(position, float), places[source], atol=1e-9)
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(size) for size in measures.PixelSpacing] == [0.7, 0.9]
    assert float(measures.SpacingBetweenSlices) == 2.5


@installed
def test_what_a_scanner_says_of_its_slices_does_not_move_the_mask(tmp_path):
    """Its distance may be a gap, its thickness missing, its pixels those of the detector."""

    def change(index, file):
        file.SpacingBetweenSlices = 0.5
        file.ImagerPixelSpacing = file.PixelSpacing
        del file.SliceThickness, file.PixelSpacing, file.PatientName
        file.PhotometricInterpretation = "MONOCHROME1"
        file.SpecificCharacterSet, file.PatientID = "ISO_IR 100", "Müller"

    volume = series(tmp_path / "chest", change=change)
    assert volume.spacing == pytest.approx((2.5, 0.7, 0.9))
    mask = labelled(volume)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES, volume.source)
    assert same(tmp_path / "mask.dcm", mask, volume).classes == CLASSES
    made = pydicom.dcmread(tmp_path / "mask.dcm")
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == 2.5
    assert made.PatientID == "Müller"


@installed
@pytest.mark.parametrize("labels", [2, 4])
def test_a_single_image_is_a_series_too(tmp_path, labels):
    volume = series(tmp_path / "one", STORED[:1])
    mask = labelled(volume, labels)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES[:labels], volume.source)
    same(tmp_path / "mask.dcm", mask, volume)
    write_labels(tmp_path / "flat.dcm", mask[0], CLASSES[:labels], volume.source)
    same(tmp_path / "flat.dcm", mask, volume)


@installed
@pytest.mark.parametrize("labels", [2, 4])
def test_an_x_ray_has_no_place(tmp_path, labels):
    def change(index, file):
        file.SOPClassUID = DigitalXRayImageStorageForPresentation
        file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
        file.Modality, file.PhotometricInterpretation = "DX", "MONOCHROME1"
        del file.ImagePositionPatient, file.ImageOrientationPatient, file.FrameOfReferenceUID
        del file.SliceThickness

    volume = series(tmp_path / "one", STORED[:1], change=change)
    assert not volume.source.header["placed"]
    mask = labelled(volume, labels)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES[:labels], volume.source)
    back = registry.read(tmp_path / "mask.dcm")
    np.testing.assert_array_equal(registry.labels(back), mask)
    assert back.spacing == pytest.approx(volume.spacing)


@installed
def test_one_file_of_a_series_and_other_series_beside_it(tmp_path):
    write_series(tmp_path, STORED, name="other{:03}.dcm", axes=OBLIQUE)
    write_series(tmp_path, STORED, order=SHUFFLED)
    volume = read_dicom(tmp_path / "im002.dcm")
    mask = labelled(volume)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES, volume.source)  # a third series
    same(tmp_path / "mask.dcm", mask, volume)
    write_labels(tmp_path / "mask.dcm", mask[::-1], CLASSES, volume.source)
    same(tmp_path / "mask.dcm", mask[::-1], volume)


@installed
@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_files_of_real_scanners_are_sources(tmp_path, name):
    """Of pydicom, with all that scanners write."""
    (tmp_path / "scan").mkdir()
    shutil.copy(get_testdata_file(name, download=False), tmp_path / "scan")
    volume = read_dicom(tmp_path / "scan")
    mask = labelled(volume)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES, volume.source)
    same(tmp_path / "mask.dcm", mask, volume)
    made, image = pydicom.dcmread(tmp_path / "mask.dcm"), pydicom.dcmread(tmp_path / "scan" / name)
    assert (made.PatientName, made.StudyDate) == (image.PatientName, image.StudyDate)


@installed
def test_some_files_of_a_series_are_enough(tmp_path):
    write_series(tmp_path / "chest", STORED)
    files = [tmp_path / "chest" / f"im{index:03}.dcm" for index in (3, 1, 2)]
    volume = read_dicom(files)
    mask = labelled(volume)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES, volume.source)
    same(tmp_path / "mask.dcm", mask, volume)


@installed
@pytest.mark.parametrize("order", [*permutations(range(3))][1:4])
def test_an_enhanced_file_is_one_source(tmp_path, order):
    def stack(index, file):
        heights = [
            {"PlanePositionSequence": items(ImagePositionPatient=[-10, -20, 100 + 2 * place])}
            for place in order
        ]
        enhanced(file, 3, each=heights)
        file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
        file.PixelData = STORED[list(order)].tobytes()

    volume = series(tmp_path / "chest", STORED[:1], change=stack)
    mask = labelled(volume)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES, volume.source)
    same(tmp_path / "mask.dcm", mask, volume)
    made = import_module("highdicom").seg.segread(tmp_path / "mask.dcm")
    uid = pydicom.dcmread(tmp_path / "chest" / "im000.dcm").SOPInstanceUID
    found = made.get_pixels_by_source_frame(uid, [1, 2, 3], combine_segments=True)
    np.testing.assert_array_equal(found, mask[:, ::-1, ::-1][list(order)])


@installed
def test_empty_masks_and_classes_keep_their_segments(tmp_path):
    volume = series(tmp_path / "chest")
    empty = np.zeros(volume.array.shape, np.uint8)
    write_labels(tmp_path / "a.dcm", empty, CLASSES, volume.source)
    assert same(tmp_path / "a.dcm", empty, volume).classes == CLASSES
    write_labels(tmp_path / "b.dcm", empty, None, volume.source)
    assert len(same(tmp_path / "b.dcm", empty, volume).classes) == 2
    many = empty.astype(np.uint16)
    many[2, 3, 4] = 300
    write_labels(tmp_path / "c.dcm", many, CLASSES, volume.source)
    found = same(tmp_path / "c.dcm", many, volume)
    assert found.mask.dtype == np.uint16
    assert found.classes[:4] == CLASSES
    assert found.classes[300].name == "label 300"


def refused(path, mask, source, classes=CLASSES):
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(InputError) as caught:
        write_labels(path, mask, classes, source)
    line = str(caught.value)
    assert line.isprintable()
    assert str(path.parent) in line
    assert (path.read_bytes() if path.exists() else None) == before
    assert not [*path.parent.glob("*.part")]
    return line


@installed
def test_what_does_not_fit_is_refused_and_nothing_is_lost(tmp_path):
    volume = series(tmp_path / "chest")
    mask, source, path = labelled(volume), volume.source, tmp_path / "mask.dcm"
    write_labels(path, mask, CLASSES, source)
    assert "needs the DICOM series of the mask" in refused(path, mask, None)
    assert "has shape (4, 7, 9)" in refused(path, mask[1:], source)
    assert "a mask of 4 axes" in refused(path, mask[None], source)
    odd = (*CLASSES[:3], Label("x" * 65, "#ffffff"))
    assert "at most 64 characters" in refused(path, mask, source, odd)
    odd = (*CLASSES[:3], Label("left\\right", "#ffffff"))
    assert "no backslash" in refused(path, mask, source, odd)
    assert "cannot be written" in refused(tmp_path / "no" / "mask.dcm", mask, source)

    (tmp_path / "chest" / "im001.dcm").rename(tmp_path / "away.dcm")
    line = refused(path, mask, source)
    assert "slices are missing" in line or "has changed since" in line
    (tmp_path / "away.dcm").rename(tmp_path / "chest" / "im001.dcm")
    write_labels(path, mask, CLASSES, source)
    (tmp_path / "chest").rename(tmp_path / "moved")
    assert "chest: the DICOM series that the mask" in refused(path, mask, source)
    (tmp_path / "chest").mkdir()
    assert "no DICOM images" in refused(path, mask, source)


@installed
def test_a_segmentation_is_no_image_of_another_one(tmp_path):
    volume = series(tmp_path / "chest")
    mask = labelled(volume, 2)
    write_labels(tmp_path / "mask.dcm", mask, CLASSES[:2], volume.source)
    back = registry.read(tmp_path / "mask.dcm")
    assert "is a segmentation, not the images" in refused(
        tmp_path / "mask.dcm", mask, back.source, CLASSES[:2]
    )
    write_labels(tmp_path / "mask.nii.gz", mask, CLASSES[:2], back.source)
    np.testing.assert_array_equal(registry.labels(registry.read(tmp_path / "mask.nii.gz")), mask)


@installed
def test_a_series_that_was_replaced_is_refused(tmp_path):
    volume = series(tmp_path / "chest")
    path, mask = tmp_path / "mask.dcm", labelled(volume)
    uid = volume.source.header["series"]
    series(tmp_path / "chest", uid=uid, spacing=(2.5, 0.8, 0.9))
    assert "this series has changed since" in refused(path, mask, volume.source)
    series(tmp_path / "chest", uid=uid, origin=(0.0, 0.0, 0.0))
    assert "no image of this series lies where" in refused(path, mask, volume.source)
    series(tmp_path / "chest")
    assert "no DICOM images" in refused(path, mask, volume.source)


@installed
def test_a_mask_that_dicom_cannot_hold_is_refused(tmp_path):
    shape = (4096, 4096, 700)
    source = Source(str(tmp_path), "dicom", shape, rows(np.eye(4)), True)
    mask = np.broadcast_to(np.uint8(0), shape[::-1])
    with pytest.raises(InputError, match=r"4\.4 GB of segments do not fit into a DICOM file"):
        write_segmentation(tmp_path / "mask.dcm", mask, CLASSES, source)


@installed
@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ("StudyInstanceUID", "has no StudyInstanceUID"),
        ("SOPInstanceUID", "has no SOPInstanceUID"),
        ("FrameOfReferenceUID", "cannot refer to this series"),
        ("PixelSpacing", "has no size of a pixel"),
    ],
)
def test_a_series_without_what_a_segmentation_needs_is_refused(tmp_path, keyword, said):
    volume = series(tmp_path / "chest", change=lambda index, file: delattr(file, keyword))
    assert said in refused(tmp_path / "mask.dcm", labelled(volume), volume.source)


@installed
def test_frames_of_several_files_are_refused(tmp_path):
    def part(index, file):
        heights = [
            {"PlanePositionSequence": items(ImagePositionPatient=[0, 0, 2 * (2 * index + i)])}
            for i in range(2)
        ]
        enhanced(file, 2, each=heights)
        file.PixelData *= 2

    volume = series(tmp_path / "chest", STORED[:2], change=part)
    line = refused(tmp_path / "mask.dcm", labelled(volume), volume.source)
    assert "not to 4 frames of 2 files" in line


@pytest.mark.skipif(is_installed(), reason="highdicom is installed")
def test_without_highdicom_one_line_says_how_to_install_it(tmp_path):
    volume = series(tmp_path / "chest")
    line = refused(tmp_path / "mask.dcm", labelled(volume), volume.source)
    assert "pip install 'napari-hidiff[dicom-seg]'" in line
