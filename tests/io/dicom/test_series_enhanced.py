"""Enhanced DICOM files, segmentations and parametric maps: frames, places, values."""

import numpy as np
import pytest
from dicom_files import STORED, corner, enhanced, items, refused, upright, write

from napari_hidiff.io import registry
from napari_hidiff.io.dicom import read_dicom


def test_an_enhanced_file_of_one_frame_loses_nothing(tmp_path):
    volume = read_dicom(write(tmp_path, enhanced))
    np.testing.assert_array_equal(upright(volume.array), STORED * 2.0 - 1024)
    assert volume.spacing == pytest.approx((2.5, 0.8, 0.6))
    np.testing.assert_allclose(corner(volume), [-10, -20, 100])
    assert volume.source.header["placed"]
    assert volume.source.header["unit"] == "mm"


def test_what_a_frame_says_comes_before_what_all_share(tmp_path):
    def own(file):
        place = items(ImagePositionPatient=[1, 2, 3])
        change = items(RescaleSlope=3, RescaleIntercept=7)
        enhanced(
            file,
            each=[{"PlanePositionSequence": place, "PixelValueTransformationSequence": change}],
        )
        file.RescaleSlope = 99  # of the whole file, as no such file should say

    volume = read_dicom(write(tmp_path, own))
    np.testing.assert_array_equal(upright(volume.array), STORED * 3.0 + 7)
    np.testing.assert_allclose(corner(volume), [1, 2, 3])


def test_frames_of_one_regular_stack_are_its_slices(tmp_path):
    stored = np.random.default_rng(1).integers(0, 4000, (4, 10, 12)).astype(np.uint16)
    order = [2, 0, 3, 1]

    def stack(file):
        heights = [
            {
                "PlanePositionSequence": items(ImagePositionPatient=[-10, -20, 100 + 2 * place]),
                "PixelValueTransformationSequence": items(
                    RescaleSlope=place + 1, RescaleIntercept=0
                ),
            }
            for place in order
        ]
        enhanced(file, 4, each=heights)
        file.PixelData = stored[order].tobytes()

    volume = read_dicom(write(tmp_path, stack))
    assert volume.spacing == pytest.approx((2.0, 0.8, 0.6))
    wanted = stored * np.arange(1, 5)[:, None, None]
    np.testing.assert_array_equal(upright(volume.array), wanted)
    np.testing.assert_allclose(corner(volume), [-10, -20, 100])


def test_frames_that_are_no_stack_are_refused(tmp_path):
    def movie(file):
        file.NumberOfFrames, file.PixelData = 3, file.PixelData * 3

    def times(file):
        place = {"PlanePositionSequence": items(ImagePositionPatient=[0, 0, 5])}
        enhanced(file, 2, each=[place, place])
        file.PixelData *= 2

    def described(file):
        enhanced(file, 2)
        file.NumberOfFrames = 3

    assert "holds 3 frames" in refused(write(tmp_path / "a", movie))
    line = refused(write(tmp_path / "b", times))
    assert "im000.dcm frame 1 and im000.dcm frame 2 lie at the same place" in line
    assert "NumberOfFrames is 3, but 2 frames" in refused(write(tmp_path / "c", described))


@pytest.mark.parametrize("mapped", [None, (0.5, 3)])
def test_parametric_maps_have_real_world_values(tmp_path, mapped):
    wanted = np.random.default_rng(4).normal(size=(10, 12)).astype(np.float32)

    def change(file):
        enhanced(file)
        file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
        shared = file.SharedFunctionalGroupsSequence[0]
        del shared.PixelValueTransformationSequence
        if mapped is not None:
            shared.RealWorldValueMappingSequence = items(
                RealWorldValueSlope=mapped[0], RealWorldValueIntercept=mapped[1]
            )
            return
        del file.PixelData, file.BitsStored, file.HighBit, file.PixelRepresentation
        file.BitsAllocated, file.FloatPixelData = 32, wanted.tobytes()

    volume = read_dicom(write(tmp_path, change))
    assert volume.array.dtype == np.float32
    expected = wanted if mapped is None else STORED[0] * 0.5 + 3
    np.testing.assert_array_equal(upright(volume.array)[0], expected)
    assert volume.spacing == pytest.approx((2.5, 0.8, 0.6))
    assert not registry.is_mask(volume)
