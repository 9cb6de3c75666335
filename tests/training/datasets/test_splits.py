"""Splits: by the owner, by chance, by a file; a group is never divided."""

import json
from pathlib import Path

import layouts
import pytest
from cases import assert_no_group_divided, ids

from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import SPLITS, open_dataset
from napari_hidiff.training.datasets.base import Case
from napari_hidiff.training.datasets.splits import fixed_split, random_split


@pytest.fixture(scope="module")
def chase(tmp_path_factory):
    return layouts.write_chase(tmp_path_factory.mktemp("chase") / "CHASEDB1")


def refused(folder, split_file):
    """The one line that a split file gets."""
    with pytest.raises(InputError) as caught:
        open_dataset("chase", folder, split_file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_split(path, **splits):
    path.write_text(json.dumps(splits), encoding="utf-8")
    return path


def test_split_file(chase, tmp_path):
    wanted = write_split(tmp_path / "s.json", train=["Image_14L", "Image_14R"], test=["Image_01R"])
    splits = open_dataset("chase", chase, split_file=wanted).splits
    assert {name: ids(cases) for name, cases in splits.items()} == {
        "train": ["Image_14L", "Image_14R"],
        "val": [],
        "test": ["Image_01R"],
    }


@pytest.mark.parametrize(
    ("splits", "part"),
    [
        ({"train": ["Image_01L"], "val": ["Image_01R"]}, "divided"),
        ({"train": ["Image_01L"], "test": ["Image_01L"]}, "again"),
        ({"train": ["Image_01L", "Image_01L"]}, "again"),
        ({"train": ["Image_99L"]}, "Image_99L"),
        ({"training": ["Image_01L"]}, "training"),
        ({"train": "Image_01L"}, "list"),
        ({"train": [1]}, "list"),
        ({}, "JSON"),
    ],
)
def test_split_files_that_are_refused(chase, tmp_path, splits, part):
    path = write_split(tmp_path / "s.json", **splits)
    text = refused(chase, path)
    assert part in text
    assert "s.json" in text


def test_split_files_that_cannot_be_read(chase, tmp_path):
    (tmp_path / "s.json").write_text("{", encoding="utf-8")
    assert "s.json" in refused(chase, tmp_path / "s.json")
    assert "none.json" in refused(chase, tmp_path / "none.json")


def test_random_split_never_divides_a_group():
    cases = [Case(f"{i}{e}", f"{i}", (Path("i"),), Path("m")) for i in range(11) for e in "LMR"]
    for seed in range(20):
        splits = random_split(cases, seed)
        assert_no_group_divided(splits)
        assert sorted(ids(sum(splits.values(), ()))) == sorted(ids(cases))
        assert [len(splits[name]) // 3 for name in SPLITS] == [7, 2, 2]


@pytest.mark.parametrize(("groups", "sizes"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])])
def test_random_split_of_few_groups(groups, sizes):
    cases = [Case(f"{i}", f"{i}", (Path("i"),), Path("m")) for i in range(groups)]
    assert [len(random_split(cases, 0)[name]) for name in SPLITS] == sizes


def test_a_share_of_nothing_holds_nothing_out():
    cases = [Case(f"{i}", f"{i}", (Path("i"),), Path("m")) for i in range(20)]
    splits = random_split(cases, 0, val=0.1, test=0.0)
    assert [len(splits[name]) for name in SPLITS] == [18, 2, 0]


def test_training_without_a_val_case_is_noted(tmp_path):
    dataset = open_dataset("folder", layouts.write_folder(tmp_path / "mine", count=1))
    assert [len(dataset.splits[name]) for name in SPLITS] == [1, 0, 0]
    assert "val" in dataset.notes[0]


def test_fixed_split_holds_out_a_whole_group():
    cases = [Case(f"{i}{e}", f"{i}", (Path("i"),), Path("m")) for i in range(3) for e in "LR"]
    splits, notes = fixed_split(cases, val=("9L",), test=("0L", "0R"))
    assert ids(splits["val"]) == ["2L", "2R"]
    assert len(notes) == 1
