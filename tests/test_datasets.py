"""Data sets: every layout as the owner distributes it, its splits, and what is refused."""

import os

import layouts
import numpy as np
import pytest
from PIL import Image

from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import DATASETS, SPLITS, open_dataset


@pytest.fixture(scope="module")
def chase(tmp_path_factory):
    return layouts.write_chase(tmp_path_factory.mktemp("chase") / "CHASEDB1")


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return layouts.write_drive(tmp_path_factory.mktemp("drive") / "DRIVE")


def ids(cases):
    return [case.id for case in cases]


def message(call, *args, **kwargs):
    """The one line that a refused input gets."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert text.strip()
    assert "\n" not in text
    return text


def assert_no_group_divided(splits):
    groups = [{case.group for case in splits[name]} for name in SPLITS]
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])


def check_chase(dataset):
    assert ids(dataset.splits["train"]) == [f"Image_{i:02}{e}" for i in range(1, 9) for e in "LR"]
    assert ids(dataset.splits["val"]) == ["Image_09L", "Image_09R", "Image_10L", "Image_10R"]
    assert ids(dataset.splits["test"]) == [f"Image_{i}{e}" for i in range(11, 15) for e in "LR"]
    assert_no_group_divided(dataset.splits)
    assert dataset.notes == ()
    sample = dataset.load(dataset.split("test")[0])
    assert sample.image.dtype == np.uint8
    assert sample.image.shape == (*sample.mask.shape, 3)
    assert sample.field_of_view is None
    second = dataset.load_second(sample)
    for mask in (sample.mask, second):
        assert mask.dtype == np.uint8
        assert np.array_equal(np.unique(mask), [0, 1])
    assert not np.array_equal(sample.mask, second)


def test_chase_as_distributed(chase):
    check_chase(open_dataset("chase", chase))


def test_chase_real(real_data):
    dataset = open_dataset("chase", real_data("CHASEDB1"))
    check_chase(dataset)
    assert dataset.load(dataset.split("val")[0]).image.shape == (960, 999, 3)


def test_drive_as_distributed(drive):
    dataset = open_dataset("drive", drive)
    assert ids(dataset.splits["train"]) == [f"{i}" for i in range(21, 37)]
    assert ids(dataset.splits["val"]) == ["37", "38", "39", "40"]
    assert ids(dataset.splits["test"]) == [f"{i:02}" for i in range(1, 21)]
    _, vessels, retina = layouts.fundus(1)
    sample = dataset.load(dataset.split("test")[0])
    assert np.array_equal(sample.mask, vessels)
    assert np.array_equal(sample.field_of_view, retina)
    assert sample.field_of_view.dtype == bool
    # The second observer's gif holds {0, 1} where the first one's holds {0, 255}.
    assert np.array_equal(dataset.load_second(sample), layouts.second_opinion(vessels, 1))
    assert dataset.load_second(dataset.load(dataset.split("train")[0])) is None


def test_drive_without_test_truth(tmp_path):
    dataset = open_dataset("drive", layouts.write_drive(tmp_path / "DRIVE", test_truth=False))
    assert len(dataset.split("train")) == 16
    assert len(dataset.split("val")) == 4
    assert "1st_manual" in message(dataset.split, "test")


def test_incomplete_copies_are_noted_and_still_choose(tmp_path):
    chase = open_dataset("chase", layouts.write_chase(tmp_path / "CHASEDB1", children=3))
    assert ids(chase.splits["train"]) == ["Image_01L", "Image_01R", "Image_02L", "Image_02R"]
    assert ids(chase.splits["val"]) == ["Image_03L", "Image_03R"]
    assert any("22 of 28" in note for note in chase.notes)
    drive = open_dataset("drive", layouts.write_drive(tmp_path / "DRIVE", range(21, 24)))
    assert ids(drive.splits["val"]) == ["23"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_folder_of_ones_own(tmp_path, suffix):
    root = layouts.write_folder(tmp_path / "mine", count=20, suffix=suffix)
    dataset = open_dataset("folder", root)
    assert [len(dataset.splits[name]) for name in SPLITS] == [14, 3, 3]
    assert_no_group_divided(dataset.splits)
    assert dataset.classes == ("background", "foreground")
    assert dataset.channels == ("red", "green", "blue")
    case = dataset.split("test")[0]
    _, vessels, _ = layouts.fundus(int(case.id.removeprefix("case")))
    assert np.array_equal(dataset.load(case).mask, vessels)


def test_folder_split_follows_the_seed_alone(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=20)
    splits = [open_dataset("folder", root, seed=seed).splits for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("background\nretina\nvessel\n", ("background", "retina", "vessel")),
        ("retina\n\n vessel", ("background", "retina", "vessel")),
        (None, ("background", "class 1", "class 2")),
    ],
)
def test_folder_class_names(tmp_path, text, classes):
    root = layouts.write_folder(tmp_path / "mine", labels=3, masks="labels", classes=text)
    dataset = open_dataset("folder", root)
    assert dataset.classes == classes
    assert len(dataset.colors) == 3
    case = dataset.split("train")[0]
    _, vessels, retina = layouts.fundus(int(case.id.removeprefix("case")))
    assert np.array_equal(dataset.load(case).mask, retina * 1 + vessels * 1)


def test_folder_with_jpeg_masks(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=3)
    for path in (root / "masks").iterdir():
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"), quality=60)
        path.unlink()
    dataset = open_dataset("folder", root)
    case = dataset.split("train")[0]
    _, vessels, _ = layouts.fundus(int(case.id.removeprefix("case")))
    assert dataset.classes == ("background", "foreground")
    assert (dataset.load(case).mask == vessels).mean() > 0.97


def test_a_folder_is_found_from_its_parent_and_the_environment(chase, monkeypatch, tmp_path):
    expected = open_dataset("chase", chase).splits
    assert open_dataset("chase", chase.parent).splits == expected
    (tmp_path / "chase").symlink_to(chase.parent)
    monkeypatch.setenv("NAPARI_HIDIFF_DATA", str(tmp_path))
    assert ids(open_dataset("chase").splits["val"]) == ids(expected["val"])
    monkeypatch.delenv("NAPARI_HIDIFF_DATA")
    monkeypatch.chdir(tmp_path)
    assert "data/chase" in message(open_dataset, "chase").replace(os.sep, "/")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chase").symlink_to(chase)
    assert ids(open_dataset("chase").splits["test"]) == ids(expected["test"])


@pytest.mark.parametrize("name", DATASETS)
def test_nothing_found_says_what_is_wanted(name, tmp_path):
    text = message(open_dataset, name, tmp_path)
    assert str(tmp_path) in text
    assert DATASETS[name].layout in text
    assert DATASETS[name].offered in text


def test_unknown_data_set():
    assert "chase" in message(open_dataset, "chase2")


def spoil_size(root):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(root / "masks" / "case01.png")


def spoil_label(root):
    Image.fromarray(np.full((layouts.HEIGHT, layouts.WIDTH), 7, np.uint8)).save(
        root / "masks" / "case01.png"
    )
    (root / "classes.txt").write_text("vessel", encoding="utf-8")


def spoil_image(root):
    (root / "images" / "case01.png").write_bytes(b"no picture")


def spoil_channels(root):
    Image.open(root / "images" / "case01.png").convert("L").save(root / "images" / "case01.png")


def spoil_by_removing_a_mask(root):
    (root / "masks" / "case01.png").unlink()


def spoil_by_removing_an_image(root):
    (root / "images" / "case01.png").unlink()


def spoil_by_a_second_image(root):
    image = Image.open(root / "images" / "case01.png")
    image.save(root / "images" / "case01.jpg")


def spoil_by_a_volume(root):
    (root / "images" / "case01.nii.gz").write_bytes(b"")


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_size,
        spoil_label,
        spoil_image,
        spoil_channels,
        spoil_by_removing_a_mask,
        spoil_by_removing_an_image,
        spoil_by_a_second_image,
        spoil_by_a_volume,
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path, spoil):
    root = layouts.write_folder(tmp_path / "mine", count=4)
    spoil(root)

    def load_everything():
        dataset = open_dataset("folder", root)
        for cases in dataset.splits.values():
            for case in cases:
                dataset.load(case)

    assert "case01" in message(load_everything)


def test_nan_in_an_image_is_refused(tmp_path):
    import tifffile

    root = layouts.write_folder(tmp_path / "mine", count=1)
    (root / "images" / "case00.png").unlink()
    image = np.zeros((layouts.HEIGHT, layouts.WIDTH), np.float32)
    image[3, 4] = np.nan
    tifffile.imwrite(root / "images" / "case00.tif", image)
    dataset = open_dataset("folder", root)
    assert "case00.tif" in message(dataset.load, dataset.split("train")[0])


def test_folders_that_hold_nothing_useful(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert "empty" in message(open_dataset, "folder", tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    assert "labels" in message(open_dataset, "folder", tmp_path)


@pytest.mark.parametrize("text", ["", "background", "vessel\nvessel"])
def test_class_files_that_are_refused(tmp_path, text):
    root = layouts.write_folder(tmp_path / "mine", count=3, classes=text)
    assert "classes.txt" in message(open_dataset, "folder", root)


def test_a_class_file_that_is_no_text(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=3)
    (root / "classes.txt").write_bytes(b"\xff\xfe\x00vessel")
    assert "classes.txt" in message(open_dataset, "folder", root)


def test_too_many_labels_without_names(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=3)
    Image.fromarray(np.full((60, 64), 200, np.uint8)).save(root / "masks" / "case01.png")
    assert "case01.png" in message(open_dataset, "folder", root)


def test_missing_truth_is_named(tmp_path):
    chase = layouts.write_chase(tmp_path / "CHASEDB1", children=2)
    (chase / "Image_02L_1stHO.png").unlink()
    assert "Image_02L_1stHO.png" in message(open_dataset, "chase", chase)
    drive = layouts.write_drive(tmp_path / "DRIVE", range(21, 23))
    (drive / "training" / "mask" / "22_training_mask.gif").unlink()
    assert "22_training_mask.gif" in message(open_dataset, "drive", drive)


def test_an_unknown_split_is_refused(chase):
    assert "train" in message(open_dataset("chase", chase).split, "all")
