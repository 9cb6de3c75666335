"""``--check``: what it counts is what was written, and one bad case does not end it."""

import io
import json

import layouts
import numpy as np
import pytest
import volume_layouts
from PIL import Image
from rich.console import Console

from napari_hidiff.io.write import write_labels
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.datasets.check import check, print_check


def printed(content, width=100):
    console = Console(file=io.StringIO(), width=width)
    print_check(content, console)
    return console.file.getvalue()


def test_volumes_are_counted_voxel_by_voxel(tmp_path):
    root = volume_layouts.write_btcv(tmp_path, (1, 5, 6))
    seen = []
    content = check(open_dataset("synapse", root), lambda done, case: seen.append((done, case.id)))
    assert seen == [(0, "case0005"), (1, "case0006"), (2, "case0001")]
    assert content == json.loads(json.dumps(content, allow_nan=False))
    drawn = [volume_layouts.ct(number) for number in (1, 5, 6)]
    counts = sum(np.bincount(mask.ravel(), minlength=9) for _, mask in drawn)
    assert list(content["voxels"].values()) == counts.tolist()
    assert set(content["present"].values()) == {3}
    assert content["range"] == {
        "CT": [min(image.min() for image, _ in drawn), max(image.max() for image, _ in drawn)]
    }
    assert content["cases"] == {"train": 1, "val": 1, "test": 1}
    assert content["size"]["depth"] == {"min": 6, "median": 6, "max": 6}
    assert content["size"]["width"]["max"] == 48
    assert content["spacing"]["depth"]["median"] == pytest.approx(3.0)
    assert content["spacing"]["width"]["median"] == pytest.approx(0.5)
    assert content["dtypes"] == {"int16": 3}
    assert content["root"] == str(root)
    assert content["bad"] == content["empty"] == []
    text = printed(content)
    for part in ("synapse in", "left kidney", "depth, mm", "27 of 30 patients are missing"):
        assert part in text


def test_bad_cases_are_listed_and_the_rest_is_counted(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=6)
    (root / "masks" / "case01.png").unlink()
    (root / "images" / "case04.png").write_bytes(b"no picture")
    content = check(open_dataset("folder", root))
    assert content["loaded"] == 4
    assert len(content["bad"]) == 2
    assert any("1 of 6 images have no mask, case01.png first" in line for line in content["bad"])
    assert content["unusable"] == 2
    assert any(line.startswith("case04 (") for line in content["bad"])
    assert content["spacing"] is None
    # A long line of a bad file is not broken, so that it can be searched for.
    assert all(line in printed(content, width=40) for line in content["bad"])


def test_what_is_odd_is_said(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=3, labels=3, classes="disc\nvessel\nscar")
    Image.new("L", (64, 60)).save(root / "masks" / "case00.png")
    Image.new("RGB", (64, 60), "gray").save(root / "images" / "case01.png")
    Image.new("RGB", (12, 60)).save(root / "images" / "case02.png")
    Image.new("L", (12, 60)).save(root / "masks" / "case02.png")
    content = check(open_dataset("folder", root))
    assert sorted(content["empty"]) == ["case00", "case02"]
    assert content["present"] == {"background": 3, "disc": 1, "vessel": 1, "scar": 0}
    assert content["size"]["width"] == {"min": 12, "median": 64, "max": 64}
    odd = "\n".join(content["odd"])
    assert "class 'scar' never appears" in odd
    assert len(content["bad"]) == 1
    assert content["bad"][0].startswith("case02 (")
    assert content["bad"][0].endswith("60 x 12 is under 16 pixels a side")
    assert "2 of 3 cases have no foreground" in odd
    assert "2 of 3 cases have a channel of one value only" in odd


def turned(path, orientation):
    """A picture saved again with an EXIF orientation, its pixels as they were."""
    exif = Image.Exif()
    exif[274] = orientation
    with Image.open(path) as picture:
        pixels = np.array(picture)
    Image.fromarray(pixels).save(path, exif=exif)
    return pixels


def test_masks_on_pictures_that_viewers_turn_are_refused_where_it_cannot_be_known(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=4)
    for number, orientation in enumerate((3, 6, 6, 3)):
        turned(root / "images" / f"case0{number}.png", orientation)
    mask = np.array(Image.open(root / "masks" / "case02.png"))
    Image.fromarray(mask.T).save(root / "masks" / "case02.png")  # drawn on the turned picture
    write_labels(root / "masks" / "case03.png", np.array(Image.open(root / "masks" / "case03.png")))
    content = check(open_dataset("folder", root))
    assert content["loaded"] == 2  # one whose size says that it lies as stored, and one of ours
    bad = dict(line.split(" (", 1) for line in content["bad"])
    assert bad.keys() == {"case00", "case02"}
    assert "case00.png has EXIF orientation 3: whether the mask lies on" in bad["case00"]
    assert "case02.png has EXIF orientation 6 and the mask fits the picture only" in bad["case02"]
    turned(root / "masks" / "case00.png", 3)  # both alike
    assert check(open_dataset("folder", root))["loaded"] == 3


def test_volumes_that_differ_or_look_like_ct(tmp_path):
    root = volume_layouts.write_nifti_folder(tmp_path / "mine", count=3)
    for name, array in zip(("images", "masks"), volume_layouts.ct(1, 2), strict=True):
        path = root / name / "scan1.nii.gz"
        volume_layouts.write_nifti(path, array, spacing=(5, 1, 1))
    odd = check(open_dataset("folder", root))["odd"]
    assert "2 different spacings, 3 x 0.75 x 0.5 to 5 x 1 x 1 mm" in odd
    assert any("1 of 3 cases look like CT" in line and "scan1" in line for line in odd)


def test_a_set_in_which_nothing_can_be_loaded(tmp_path):
    root = volume_layouts.write_brats(tmp_path, count=2)
    for path in root.rglob("*t1.nii.gz"):
        path.unlink()
    content = check(open_dataset("brats", root))
    assert (content["loaded"], content["size"], content["range"]) == (0, None, {})
    assert len(content["bad"]) == 2
    assert "cannot be used" in printed(content)


def test_names_are_printed_as_they_are(tmp_path):
    root = layouts.write_folder(tmp_path / "[bold]mine", count=1, classes="[red]vessel")
    text = printed(check(open_dataset("folder", root)))
    assert "[bold]mine" in text
    assert "[red]vessel" in text


def test_real_volumes(real_data):
    content = check(open_dataset("brats", real_data("BraTS2021")))
    assert content["present"]["enhancing tumor"] == 1
    assert content["size"]["depth"]["max"] == 155
    content = check(open_dataset("synapse", real_data("Synapse_layout")))
    assert content["size"]["depth"] == {"min": 20, "median": 35.5, "max": 51}
    assert content["spacing"] is None
    content = check(open_dataset("msd", real_data("Task04_Hippocampus")))
    assert (content["loaded"], content["bad"]) == (230, [])
