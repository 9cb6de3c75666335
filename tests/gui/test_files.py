"""A volume from its file to its mask, with the window's own buttons."""

import nibabel
import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog
from volume_files import affine_of, write_nifti, write_series

from napari_hidiff.io.dicom.segmentation import is_installed
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.io.registry import labels, read

SHAPE = (64, 6, 48)


@pytest.fixture
def grey_file(tiny, tmp_path):
    path = tmp_path / "grey.safetensors"
    tiny(3, 1).save(path)
    return path


def test_a_nifti_image_is_segmented_painted_and_exported_over_itself(
    open_hand, grey_file, tmp_path, monkeypatch
):
    array = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    affine = affine_of("LIA", SHAPE, (1.0, 1.0, 1.5), oblique=True)
    path = write_nifti(tmp_path / "case.nii.gz", array, affine)
    hand = open_hand()
    (image,) = hand.viewer.open(str(path), plugin="napari-hidiff")
    hand.viewer.reset_view()
    hand.use(grey_file)
    hand.click("segment")
    hand.viewer.layers.selection.active = hand.mask
    slice_shown = int(hand.viewer.dims.current_step[0])
    # where the user paints in the window is where the file has the label
    before = hand.mask.data.copy()
    hand.mask.paint((slice_shown, 4, 5), 2)
    assert hand.mask.data[slice_shown, 4, 5] == 2
    asked = []

    def answer(parent, title, proposed, filters, chosen):
        asked.append((proposed, chosen))
        return proposed, chosen

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    hand.click("export")
    out = tmp_path / "case_mask.nii.gz"
    assert asked == [(str(out), "NIfTI (*.nii.gz *.nii)")]
    written, source = nibabel.load(out), nibabel.load(path)
    np.testing.assert_array_equal(written.affine, source.affine)
    assert nibabel.aff2axcodes(written.affine) == nibabel.aff2axcodes(source.affine)
    assert written.shape == source.shape
    np.testing.assert_array_equal(read_volume(out).array, hand.mask.data)
    assert (read_volume(out).array != before).any()
    assert '"disc"' in (tmp_path / "case_mask_labels.txt").read_text()

    (again,) = hand.viewer.open(str(out), plugin="napari-hidiff")
    np.testing.assert_array_equal(again.data, hand.mask.data)
    np.testing.assert_allclose(again.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))


def test_a_name_without_a_suffix_gets_that_of_the_chosen_format(
    open_hand, grey_file, tmp_path, monkeypatch
):
    hand = open_hand(
        np.random.default_rng(0).integers(0, 900, (64, 48)).astype(np.int16), model=grey_file
    )
    hand.click("segment")
    given = str(tmp_path / "mine.v2")
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_: (given, "NIfTI (*.nii.gz *.nii)")
    )
    hand.click("export")
    assert nibabel.load(tmp_path / "mine.v2.nii.gz").shape == (48, 64, 1)
    before = (tmp_path / "mine.v2.nii.gz").read_bytes()
    hand.click("export")
    assert "exists already" in hand.said()
    assert (tmp_path / "mine.v2.nii.gz").read_bytes() == before
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    hand.click("export")
    assert sorted(path.name for path in tmp_path.glob("mine*")) == [
        "mine.v2.nii.gz",
        "mine.v2_labels.ctbl",
        "mine.v2_labels.txt",
    ]


def test_the_mask_of_a_series_is_offered_as_dicom(open_hand, grey_file, tmp_path, monkeypatch):
    """With highdicom it is written; without it a line says how to install that."""
    stored = np.random.default_rng(0).integers(0, 900, (3, 48, 64)).astype(np.uint16)
    write_series(tmp_path / "chest", stored)
    hand = open_hand()
    hand.viewer.open(str(tmp_path / "chest"), plugin="napari-hidiff")
    hand.viewer.reset_view()
    hand.use(grey_file)
    hand.click("segment")
    asked = []

    def answer(parent, title, proposed, filters, chosen):
        asked.append((proposed, filters.split(";;")[-1]))
        return str(tmp_path / "mine"), "DICOM segmentation (*.dcm)"

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    hand.click("export")
    assert asked == [(str(tmp_path / "chest_mask.nii.gz"), "DICOM segmentation (*.dcm)")]
    if is_installed():
        back = labels(read(tmp_path / "mine.dcm"))
        np.testing.assert_array_equal(back, hand.mask.data)
    else:
        assert "pip install 'napari-hidiff[dicom-seg]'" in hand.said()
        assert not (tmp_path / "mine.dcm").exists()
