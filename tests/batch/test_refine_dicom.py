"""napari-hidiff-refine on DICOM series, with masks as DICOM segmentations, in and out."""

import json
import shutil
import sys

import numpy as np
import pytest
from volume_files import OBLIQUE, write_nifti, write_series

from napari_hidiff.batch.jobs import mask_suffix
from napari_hidiff.cli import app
from napari_hidiff.io.dicom import read_dicom
from napari_hidiff.io.dicom.segmentation import is_installed
from napari_hidiff.io.registry import labels, read, read_labelled

installed = pytest.mark.skipif(
    not is_installed(), reason="highdicom (extra dicom-seg) is not installed"
)


@pytest.fixture
def refine(monkeypatch, capsys, tiny, tmp_path):
    tiny(3, 1).save(tmp_path / "grey.safetensors")

    def run(*arguments, output="out"):
        options = ("--model", tmp_path / "grey.safetensors", "--output", tmp_path / output)
        words = ["command", *map(str, (*arguments, *options)), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            app.refine_main()
        return (left.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def chest(tmp_path):
    stored = np.random.default_rng(0).integers(0, 900, (17, 20, 24)).astype(np.uint16)
    write_series(
        tmp_path / "chest", stored, axes=OBLIQUE, order=[*range(16, -1, -2), *range(15, 0, -2)]
    )
    return tmp_path / "chest"


@installed
def test_the_mask_is_the_one_that_nifti_has(refine, chest, tmp_path):
    scan = write_nifti(tmp_path / "scan.nii.gz", np.zeros((20, 24, 3), np.int16), np.eye(4))
    assert refine(chest, output="plain")[0] == 0
    status, out, err = refine(chest, scan, "--dicom-seg")
    assert status == 0, err
    path = tmp_path / "out" / "chest_mask.dcm"
    assert out.splitlines() == [str(path), str(tmp_path / "out" / "scan_mask.nii.gz")]
    found = read_labelled(path)
    wanted = labels(read(tmp_path / "plain" / "chest_mask.nii.gz"))
    np.testing.assert_array_equal(found.mask, wanted)
    assert [kind.name for kind in found.classes] == ["background", "vessel", "disc"]
    record = json.loads((tmp_path / "out" / "chest_steps.json").read_text())
    assert record["mask"] == str(path)
    status, _, err = refine(chest, scan, "--dicom-seg", "--resume")
    assert status == 0
    assert "2 of 2 images are done already" in err
    assert "chest_mask.dcm: exists already" in refine(chest, "--dicom-seg")[2]


@installed
def test_a_segmentation_is_a_prior_and_fixes_pixels(refine, chest, tmp_path):
    assert refine(chest, "--dicom-seg")[0] == 0
    masks, given = tmp_path / "masks", tmp_path / "out" / "chest_mask.dcm"
    masks.mkdir()
    shutil.copy(given, masks)
    assert refine(chest, "--prior", given, output="a")[0] == 0
    assert refine(chest, "--prior", masks, output="b")[0] == 0
    first, second = (read(tmp_path / name / "chest_mask.nii.gz") for name in "ab")
    np.testing.assert_array_equal(first.array, second.array)
    record = json.loads((tmp_path / "b" / "chest_steps.json").read_text())
    assert record["prior"]["source"] == str(masks / "chest_mask.dcm")
    # every voxel is fixed: the mask is the one given
    assert refine(chest, "--fixed", given, output="c")[0] == 0
    np.testing.assert_array_equal(
        labels(read(tmp_path / "c" / "chest_mask.nii.gz")), labels(read(given))
    )

    other = tmp_path / "other"
    write_series(other, np.zeros((17, 20, 24), np.uint16), axes=OBLIQUE, origin=(0, 0, 0))
    status, _, err = refine(other, "--prior", given, output="d")
    assert status == 2
    assert "lies elsewhere" in err


@installed
def test_the_mask_may_lie_among_its_images(refine, chest, tmp_path):
    before = read_dicom(chest).array
    assert refine(chest, "--dicom-seg", output="chest")[0] == 0
    np.testing.assert_array_equal(read_dicom(chest).array, before)


@installed
def test_it_is_for_dicom_series(refine, tmp_path):
    scan = write_nifti(tmp_path / "scan.nii.gz", np.zeros((20, 24, 3), np.int16), np.eye(4))
    status, _, err = refine(scan, "--dicom-seg")
    assert status == 2
    assert "--dicom-seg is for DICOM series; none of the images is one" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(is_installed(), reason="highdicom is installed")
def test_without_highdicom_nothing_is_refined(refine, chest, tmp_path):
    status, _, err = refine(chest, "--dicom-seg")
    assert status == 2
    assert "pip install 'napari-hidiff[dicom-seg]'" in err
    assert not (tmp_path / "out").exists()


def test_the_suffix_is_that_of_the_image_unless_asked(chest, tmp_path):
    assert mask_suffix(chest) == ".nii.gz"
    assert mask_suffix(chest, True) == mask_suffix(chest / "im000.dcm", True) == ".dcm"
    assert mask_suffix(tmp_path / "a.png", True) == ".png"
