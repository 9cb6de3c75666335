"""Sizes of classes and objects: counted by hand, read from every format, as a table."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import segmented, write
from PIL import Image

from napari_hidiff.cli import app
from napari_hidiff.errors import InputError
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import Label
from napari_hidiff.sizes import MM2, Size, sizes_of

CLASSES = (Label("background", "#000000"), Label("cup, disc", "#ff0000"))


def picture() -> np.ndarray:
    """Label 1: a square of 9, and 2 pixels that touch at a corner. Label 3: one pixel."""
    mask = np.zeros((12, 14), np.uint8)
    mask[1:4, 1:4] = 1
    mask[6, 6] = mask[7, 7] = 1
    mask[10, 10] = 3
    return mask


@pytest.fixture
def command(monkeypatch, capsys):
    """``command(*arguments)`` -> exit status, stdout and stderr of ``napari-hidiff sizes``."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["napari-hidiff", "sizes", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            app.main()
        return int(left.value.code or 0), *capsys.readouterr()

    return call


def test_classes_and_their_objects_largest_first():
    found = sizes_of(picture(), CLASSES, (0.5, 0.2))
    assert found == [
        Size(1, "cup, disc", None, 11, pytest.approx(1.1), MM2),
        Size(1, "cup, disc", 1, 9, pytest.approx(0.9), MM2),
        Size(1, "cup, disc", 2, 2, pytest.approx(0.2), MM2),
        Size(3, "label 3", None, 1, pytest.approx(0.1), MM2),
    ]
    assert [size[4:] for size in sizes_of(picture(), None, None)] == [(None, "")] * 4
    assert sizes_of(np.zeros((5, 5), np.uint8), None, (1, 1)) == []


def test_a_volume_is_measured_in_millilitres():
    mask = np.zeros((6, 5, 4), np.uint16)
    mask[0, 0, 0] = mask[1, 1, 1] = 300  # voxels that touch at a corner
    mask[4, 3, :2] = 300
    whole, *parts = sizes_of(mask, None, (5, 2, 2))
    assert whole == Size(300, "label 300", None, 4, pytest.approx(0.08), "ml")
    assert [part.pixels for part in parts] == [2, 2]
    with pytest.raises(InputError, match="not of 4 axes"):
        sizes_of(mask[None], None, None)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npz", ".nii.gz"])
@pytest.mark.parametrize("unit", ["um", "pixel"])
def test_a_mask_of_every_format_is_read_with_its_place(command, tmp_path, suffix, unit):
    """A layer of 500 um x 200 um a pixel; without a length only pixels are counted."""
    volume = suffix == ".nii.gz"
    mask = picture()[None] if volume else picture()
    scale = [1000.0, 500.0, 200.0] if volume else [500.0, 200.0]
    place = {"scale": scale, "units": [unit] * mask.ndim, "axis_labels": ["z", "y", "x"]}
    place |= {"world": np.diag([*scale, 1.0]).tolist(), "translate": [0.0] * mask.ndim}
    path = tmp_path / f"a_mask{suffix}"
    write_labels(path, mask, CLASSES, placement=place)
    status, out, _ = command(path, "--json")
    assert status == 0
    first = json.loads(out)["sizes"][0]
    assert (first["file"], first["name"], first["pixels"]) == (str(path), "cup, disc", 11)
    if unit == "um":
        assert (first["size"], first["unit"]) == (
            pytest.approx(0.0011 if volume else 1.1),
            "ml" if volume else "mm2",
        )
    else:
        assert (first["size"], first["unit"]) == (None, "")


def test_a_folder_becomes_a_table_that_a_spreadsheet_opens(command, tmp_path):
    for name in ("b_mask", "a_seg"):
        write_labels(tmp_path / f"{name}.png", picture(), CLASSES)
    (tmp_path / "a_seg_steps.json").write_text("{}")
    (tmp_path / "photo.png").write_bytes(b"no mask by its name")
    table = tmp_path / "sizes.csv"
    status, out, _ = command(tmp_path, "--output", table)
    assert (status, out) == (0, f"{table}: 8 rows\n")
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == ["a_seg.png"] * 4 + ["b_mask.png"] * 4
    assert rows[1] == {
        "file": str(tmp_path / "a_seg.png"),
        "label": "1",
        "class": "cup, disc",
        "object": "1",
        "pixels": "9",
        "size": "",
        "unit": "",
    }
    _, out, _ = command(tmp_path / "a_seg.png", "--classes", "--json")
    assert [row["pixels"] for row in json.loads(out)["sizes"]] == [11, 1]
    _, out, _ = command(tmp_path / "a_seg.png")
    assert "cup, disc" in out


def test_segmentations_of_dicom_in_one_folder_are_masks_each(command, tmp_path):
    mask = np.zeros((2, 7, 9), np.uint8)
    mask[0, 1:3, 1:4] = 1
    described = [{"SegmentNumber": 1, "SegmentLabel": "liver"}]
    for name in ("a_mask", "b_seg", "other"):
        write(tmp_path / name, segmented(mask, [1, 1], described=described))
        (tmp_path / name / "im000.dcm").rename(tmp_path / f"{name}.dcm")
    _, out, _ = command(tmp_path, "--json")
    rows = json.loads(out)["sizes"]
    assert [Path(row["file"]).name for row in rows] == ["a_mask.dcm", "b_seg.dcm"]
    assert {(row["name"], row["pixels"]) for row in rows} == {("liver", 6)}
    assert rows[0]["size"] == pytest.approx(6 * 2 * 0.8 * 0.6 / 1000)

    single = tmp_path / "single"
    single.mkdir()
    (tmp_path / "other.dcm").rename(single / "im000.dcm")
    _, out, _ = command(single, "--json")
    assert [row["pixels"] for row in json.loads(out)["sizes"]] == [6]


def test_a_name_is_no_formula_in_the_table(command, tmp_path):
    classes = (*CLASSES[:1], Label("=HYPERLINK(1)", "#ff0000"))
    write_labels(tmp_path / "a_mask.png", picture(), classes)
    command(tmp_path, "--output", tmp_path / "sizes.csv", "--classes")
    with (tmp_path / "sizes.csv").open(newline="", encoding="utf-8-sig") as file:
        assert next(csv.DictReader(file))["class"] == "'=HYPERLINK(1)"


def test_what_is_no_mask_is_one_line(command, tmp_path):
    np.savez(tmp_path / "grey.npz", mask=np.linspace(0, 1, 60).reshape(3, 4, 5))
    (tmp_path / "empty").mkdir()
    Image.fromarray(picture() * 80).save(tmp_path / "a_mask.jpg")
    for path, line in (
        (tmp_path / "grey.npz", "grey.npz: is no mask, which has whole numbers"),
        (tmp_path / "empty", "no file in this folder is named as a mask"),
        (tmp_path / "none.png", "none.png: no such file"),
        (tmp_path / "a_mask.jpg", "JPEG blurs labels"),
    ):
        status, out, err = command(path)
        assert (status, out) == (2, "")
        assert line in " ".join(err.split())
        assert len(err.strip().splitlines()) == 1
