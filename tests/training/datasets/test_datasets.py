"""Fundus images, and what all data sets have in common: where they are found, their rules."""

import os

import layouts
import numpy as np
import pytest
from cases import assert_no_group_divided, bad_cases, ids, message

from napari_hidiff.training.datasets import DATASETS, open_dataset


@pytest.fixture(scope="module")
def chase(tmp_path_factory):
    return layouts.write_chase(tmp_path_factory.mktemp("chase") / "CHASEDB1")


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return layouts.write_drive(tmp_path_factory.mktemp("drive") / "DRIVE")


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


def test_missing_truth_is_named_when_its_case_is_loaded(tmp_path):
    chase = layouts.write_chase(tmp_path / "CHASEDB1", children=2)
    (chase / "Image_02L_1stHO.png").unlink()
    bad = bad_cases(open_dataset("chase", chase))
    assert bad == {"Image_02L": "Image_02L_1stHO.png: missing"}
    drive = layouts.write_drive(tmp_path / "DRIVE", range(21, 23))
    (drive / "training" / "mask" / "22_training_mask.gif").unlink()
    assert bad_cases(open_dataset("drive", drive)) == {"22": "22_training_mask.gif: missing"}


def test_a_split_rule_is_one_of_the_data_set(chase):
    by_rule = open_dataset("chase", chase, split_rule="official")
    assert by_rule.splits == open_dataset("chase", chase).splits
    text = message(open_dataset, "cvc", chase, split_rule="random")
    assert "sequences, paper" in text


def test_the_folder_that_was_found_is_known(chase):
    assert open_dataset("chase", chase.parent).root == chase


def test_an_unknown_split_is_refused(chase):
    assert "train" in message(open_dataset("chase", chase).split, "all")
