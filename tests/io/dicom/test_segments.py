"""Segmentations of DICOM as masks: segments and slices, names and colours, what is refused."""

import numpy as np
import pydicom
import pytest
from dicom_files import corner, enhanced, items, refused, segmented, upright, write
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from volume_files import write_series

from napari_hidiff.io import registry
from napari_hidiff.io.dicom import read_dicom, segments
from napari_hidiff.masks import Label

RED = [34892, 53544, 50171]
"""CIELab of #ff0000, as DICOM has it."""


def bits(shape, seed=3):
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)


def test_a_segmentation_is_a_mask_with_its_place(tmp_path):
    mask = bits((1, 10, 12))
    volume = read_dicom(write(tmp_path / "one", segmented(mask, [1])))
    assert registry.is_mask(volume)
    labels = registry.labels(volume)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(upright(labels), mask)
    assert volume.spacing == pytest.approx((2.5, 0.8, 0.6))
    np.testing.assert_allclose(corner(volume), [-10, -20, 100])
    assert "record" not in volume.source.header


@pytest.mark.parametrize("size", [(7, 9), (10, 12)])  # 63 bits a frame, and whole bytes
def test_segments_keep_their_numbers(tmp_path, size):
    mask = bits((3, *size))
    numbers = [2, 1, 2]
    volume = read_dicom(write(tmp_path, segmented(mask, numbers)))
    wanted = mask * np.array(numbers, np.uint8)[:, None, None]
    np.testing.assert_array_equal(upright(registry.labels(volume)), wanted)


def frames_of(labels, order):
    """The frames of labels [Z, rows, columns]: for each (segment, slice) of ``order``."""
    return np.stack([(labels[level] == number).astype(np.uint8) for number, level in order])


def test_segments_of_one_slice_are_one_slice(tmp_path):
    labels = np.random.default_rng(4).integers(0, 4, (4, 7, 9))
    order = [(3, 2), (1, 0), (1, 1), (2, 0), (3, 0), (2, 3), (1, 3), (2, 1), (3, 1), (1, 2)]
    order += [(2, 2), (3, 3)]
    numbers, places = zip(*order, strict=True)
    heights = [50 + 1.5 * place + 1e-5 * number for number, place in order]
    change = segmented(frames_of(labels, order), numbers, heights)
    volume = read_dicom(write(tmp_path, change))
    np.testing.assert_array_equal(upright(registry.labels(volume)), labels)
    assert volume.spacing == pytest.approx((1.5, 0.8, 0.6), abs=1e-4)
    np.testing.assert_allclose(corner(volume), [-10, -20, 50], atol=1e-4)
    assert places[0] == 2


def test_slices_without_frames_are_background(tmp_path):
    labels = np.zeros((7, 7, 9), np.uint8)
    labels[[0, 1, 4, 6], 2:5, 3:6] = np.array([1, 2, 1, 2])[:, None, None]
    order = [(1, 0), (2, 1), (1, 4), (2, 6)]
    heights = [10 + 3 * place for _, place in order]
    change = segmented(frames_of(labels, order), [n for n, _ in order], heights)
    volume = read_dicom(write(tmp_path, change))
    np.testing.assert_array_equal(upright(registry.labels(volume)), labels)
    assert volume.spacing[0] == pytest.approx(3)


def test_the_stated_distance_counts_before_the_smallest(tmp_path):
    labels = np.zeros((5, 7, 9), np.uint8)
    labels[[0, 2, 4], 1, 1] = 1
    change = segmented(frames_of(labels, [(1, 0), (1, 2), (1, 4)]), [1, 1, 1], [0, 6, 12])

    def stated(file):
        change(file)
        measures = file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = 3

    volume = read_dicom(write(tmp_path, stated))
    np.testing.assert_array_equal(upright(registry.labels(volume)), labels)


def test_names_and_colours_of_segments_are_classes(tmp_path):
    described = [
        {"SegmentNumber": 2, "SegmentLabel": "liver", "RecommendedDisplayCIELabValue": RED},
        {"SegmentNumber": 3, "SegmentLabel": "spleen"},
    ]
    change = segmented(bits((2, 7, 9)), [2, 3], described=described)
    folder = write(tmp_path, change)
    found = registry.read_labelled(folder / "im000.dcm")
    assert [kind.name for kind in found.classes] == ["background", "label 1", "liver", "spleen"]
    assert found.classes[0] == Label("background", "#000000")
    assert found.classes[2].color == "#ff0000"
    assert found.spacing == pytest.approx((2.0, 0.8, 0.6))
    assert set(np.unique(found.mask)) == {0, 2, 3}


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
def test_label_maps_have_classes_and_fractions_have_none(tmp_path, kind):
    stored = np.random.default_rng(6).integers(0, 3, (1, 7, 9)).astype(np.uint16)

    def change(file):
        enhanced(file, 1, {"PixelValueTransformationSequence": items()})
        file.SOPClassUID, file.SegmentationType = "1.2.840.10008.5.1.4.1.1.66.4", kind
        described = [(0, "Background"), (1, "liver"), (2, "spleen")]
        file.SegmentSequence = Sequence(
            [items(SegmentNumber=number, SegmentLabel=name)[0] for number, name in described]
        )

    volume = read_dicom(write(tmp_path, change, stored))
    assert registry.is_mask(volume) == (kind == "LABELMAP")
    np.testing.assert_array_equal(upright(volume.array), stored)
    if kind == "LABELMAP":
        kinds = registry.read_labelled(tmp_path / "im000.dcm").classes
        assert [one.name for one in kinds] == ["background", "liver", "spleen"]


def test_segments_without_a_place_are_one_slice(tmp_path):
    labels = np.random.default_rng(4).integers(0, 3, (1, 7, 9))
    change = segmented(frames_of(labels, [(2, 0), (1, 0)]), [2, 1], placed=False)

    def nowhere(file):
        change(file)
        del file.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence

    volume = read_dicom(write(tmp_path, nowhere))
    np.testing.assert_array_equal(upright(registry.labels(volume)), labels)
    assert not volume.source.header["placed"]


def test_a_mask_saved_among_its_images_hides_neither(tmp_path):
    stored = np.random.default_rng(5).integers(0, 4000, (3, 7, 9)).astype(np.uint16)
    write_series(tmp_path, stored)
    write(tmp_path / "own", segmented(bits((3, 7, 9)), [1, 1, 1]), uid=generate_uid())
    (tmp_path / "own" / "im000.dcm").rename(tmp_path / "mask.dcm")
    np.testing.assert_array_equal(upright(read_dicom(tmp_path).array), stored - 1024.0)
    assert registry.is_mask(read_dicom(tmp_path / "mask.dcm"))


def test_what_is_no_mask_is_refused(tmp_path):
    both = np.ones((2, 7, 9), np.uint8)
    line = refused(write(tmp_path / "a", segmented(both, [1, 2], [0, 0])) / "im000.dcm")
    assert "segments 1 and 2 overlap" in line
    line = refused(
        write(tmp_path / "b", segmented(np.ones((3, 7, 9), np.uint8), [1] * 3, [0, 3, 7.2]))
    )
    assert "3 to 4.2 mm apart: spaced unevenly" in line
    line = refused(
        write(tmp_path / "c", segmented(np.ones((3, 7, 9), np.uint8), [1] * 3, [0, 1, 5000]))
    )
    assert "only 3 of its 5001 slices have frames" in line
    described = [{"SegmentLabel": "liver"}]
    line = refused(write(tmp_path / "d", segmented(both, [1, 2], described=described)))
    assert "SegmentNumber (0062,0004)" in line


def test_a_segment_is_added_once():
    level = np.array([[0, 3]], np.uint8)
    header = segments.Header(None, (pydicom.Dataset(),), "")
    segments.add(header, level, np.array([[2, 0]], np.uint8))
    np.testing.assert_array_equal(level, [[2, 3]])
