"""What ends a training with one line: places and disks that cannot be written to, data that nothing
can be learned from, and a run that is resumed with other masks or settings."""

import contextlib
import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from PIL import Image
from trainings import run, tiny

from napari_hidiff.errors import InputError
from napari_hidiff.training import case_cache
from napari_hidiff.training.checkpoint import load_checkpoint, save_checkpoint
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.datasets.check import check
from napari_hidiff.training.progress import Watch
from napari_hidiff.training.run import check_cases, check_folder, note_recipe
from napari_hidiff.training.trainer import read_cases, train

resource = pytest.importorskip("resource", reason="limits of a process are of POSIX")


@contextlib.contextmanager
def room_for(most):
    """Every file may have so many bytes; what is written beyond is a real OSError."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def short(**changes):
    return tiny(
        **(
            {"folds": 0, "pretrain_iterations": 1, "iterations": 1, "validate_every": 1}
            | {"rounds": 0, "corrections": 0.0, "validate_cases": 1}
            | changes
        )
    )


@pytest.fixture
def data(tmp_path):
    return layouts.write_folder(tmp_path / "data")


def halves(folder):
    return [path for path in folder.rglob("*") if path.name.endswith((".part", ".partial"))]


@pytest.mark.parametrize("inside", ["", "/run"])
def test_an_output_that_is_a_file_is_refused_before_anything_is_read(data, tmp_path, inside):
    file = tmp_path / "taken"
    file.write_text("mine")
    dataset, folder = open_dataset("folder", data), Path(f"{file}{inside}")
    with pytest.raises(InputError) as error:
        train(short(), dataset, folder, device="cpu")
    assert str(error.value) == f"{file}: is a file where a folder is wanted"
    assert file.read_text() == "mine"
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_is_a_file_is_refused(data, tmp_path):
    (tmp_path / "cache").write_text("mine")
    with pytest.raises(InputError, match="cache: is a file where a folder is wanted"):
        train(short(), open_dataset("folder", data), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_ends_a_run_with_a_line_and_it_goes_on(data, tmp_path):
    folder, cache = tmp_path / "run", tmp_path / "cache"
    dataset = open_dataset("folder", data)

    def go(resume):
        return train(short(), dataset, folder, "cpu", resume, cache=cache)

    with room_for(20_000), pytest.raises(InputError) as first:
        go(resume=False)
    assert str(first.value).startswith(str(cache))
    assert "the same command goes on once that is put right" in str(first.value)
    assert not folder.exists()
    with room_for(1_000_000), pytest.raises(InputError) as second:
        go(resume=False)
    with room_for(30_000_000), pytest.raises(InputError) as third:
        go(resume=True)
    for error, file in ((second, "segmentor.pt"), (third, "last.pt")):
        line = str(error.value)
        assert line.startswith(f"{folder / file}: cannot be written: File too large")
        assert line.endswith("--resume goes on once that is put right")
        assert "\n" not in line
    assert not (folder / "segmentor.pt").with_suffix(".part").exists()
    assert not halves(tmp_path)
    assert go(resume=True).is_file()
    for line in (folder / "progress.jsonl").read_text().splitlines():
        json.loads(line)


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.ones(10)})
    for most in (0, 100, 5_000, 100_000):  # torch writes in parts of several sizes
        with room_for(most), pytest.raises(InputError, match=r"last\.pt: cannot be written"):
            save_checkpoint(path, {"weights": torch.ones(100_000)})
    assert torch.equal(load_checkpoint(path)["weights"], torch.ones(10))
    assert os.listdir(tmp_path) == ["last.pt"]


def test_a_line_of_progress_is_whole_or_not_there(tmp_path):
    watch = Watch(tmp_path)
    watch.note(stage="one")
    whole = watch.file.read_bytes()
    with room_for(len(whole) + 5), pytest.raises(OSError, match=r"."):
        watch.note(stage="two")
    assert watch.file.read_bytes() == whole
    watch.note(stage="three")
    assert [json.loads(line)["stage"] for line in watch.file.open()] == ["one", "three"]


def test_curves_that_do_not_fit_end_in_an_error_of_the_run_alone(tmp_path, capsys, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    watch = Watch(tmp_path)

    def go_on():
        for number in range(10_000):
            watch.scalar("loss", 1.0, number)
            watch.writer.flush()

    with room_for(200), pytest.raises(OSError, match="File too large"):
        go_on()
    with room_for(200):
        watch.close()
    assert not told
    assert "Traceback" not in capsys.readouterr().err


def test_what_a_killed_run_left_half_is_cleared(tmp_path):
    left = [tmp_path / ".last.pt.1234.part", tmp_path / "priors" / ".a.npy.1234.part"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    note_recipe(tmp_path, tiny())
    assert not halves(tmp_path)


def paint(path, label, size=(60, 64)):
    mask = np.zeros(size, np.uint8)
    mask[10:20, 10:30] = label
    Image.fromarray(mask).save(path)


def test_masks_without_any_foreground_are_refused_before_training(data, tmp_path):
    dataset = open_dataset("folder", data)
    for case in dataset.splits["train"]:
        paint(case.mask, 0)
    with pytest.raises(InputError) as error:
        train(short(), dataset, tmp_path / "run", device="cpu")
    first = dataset.splits["train"][0].id
    line = f"all training masks have no foreground at all, {first} first: there is nothing to learn"
    assert str(error.value) == line
    assert not (tmp_path / "run").exists()
    assert check(dataset)["refused"] == line
    done = run("--dataset", "folder", "--data", data, "--check")
    assert done.returncode == 2
    assert done.stderr == f"napari-hidiff-train: {line}\n"
    paint(dataset.splits["train"][0].mask, 1)
    assert check(dataset)["refused"] is None
    read_cases(dataset, tmp_path / "cache", False, Watch(tmp_path, shown=False))


def test_a_class_that_only_val_has_is_said(tmp_path, capsys):
    root = layouts.write_folder(tmp_path / "data", labels=3, classes="disc\nvessel\nscar")
    dataset = open_dataset("folder", root)
    val = dataset.splits["val"][0]
    paint(val.mask, 3)
    read_cases(dataset, tmp_path / "cache", False, Watch(tmp_path))
    line = (
        f"class 'scar' is in the val masks ({val.id}) and in no training mask: nothing is learned "
        "of it; --split-file decides what trains"
    )
    assert line in capsys.readouterr().err.splitlines()
    assert line in check(dataset)["odd"]


@pytest.fixture
def begun(data, tmp_path):
    """A run that has noted its cases, and what reads them as they are now."""
    folder, dataset = tmp_path / "run", open_dataset("folder", data)

    def resumed(dataset=dataset):
        kept = case_cache.build(dataset, ("train", "val"), tmp_path / "cache")
        check_cases(folder, kept.splits, writes=True)

    note_recipe(folder, tiny())
    resumed()
    return folder, dataset, resumed


def test_masks_that_changed_since_the_run_began_are_noticed(begun):
    folder, dataset, resumed = begun
    resumed()
    case = dataset.splits["train"][2]
    before = case.mask.read_bytes()
    paint(case.mask, 255)
    with pytest.raises(InputError) as error:
        resumed()
    assert str(error.value) == (
        f"{folder}: the mask of case {case.id} (train) has changed since the run began: bring back "
        "what was there, or start a new run in another folder"
    )
    case.mask.write_bytes(before)  # the same content at another time
    resumed()


def test_a_copy_of_the_data_elsewhere_goes_on(begun, data, tmp_path):
    _, _, resumed = begun
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    resumed(open_dataset("folder", tmp_path / "copy"))


def test_other_images_groups_and_cases_are_noticed(begun):
    _, dataset, resumed = begun
    first, *rest = dataset.splits["train"]
    splits = dict(dataset.splits)

    def told(train):
        with pytest.raises(InputError) as error:
            resumed(dataclasses.replace(dataset, splits=splits | {"train": tuple(train)}))
        return str(error.value)

    assert f"case {first.id} was taken from train" in told(rest)
    extra = dataset.splits["test"][0]
    assert f"case {extra.id} was added to train" in told([first, *rest, extra])
    grouped = dataclasses.replace(first, group="another")
    assert f"the group of case {first.id} (train) has changed" in told([grouped, *rest])
    image = np.array(Image.open(first.images[0]))
    image[0, 0] += 1
    Image.fromarray(image).save(first.images[0])
    assert f"the image of case {first.id} (train) has changed" in told([first, *rest])


def test_a_note_of_the_cases_that_is_damaged_is_named(begun):
    folder, _, resumed = begun
    (folder / "cases.json").write_text("{")
    with pytest.raises(InputError, match=r"cases\.json: cannot be read"):
        resumed()


def test_other_settings_are_named_with_both_values(tmp_path):
    note_recipe(tmp_path, tiny())
    check_folder(tmp_path, tiny(), resume=True)
    other = tiny(lr=0.1, batch=4, segmentor_layers="x", flips=False)
    with pytest.raises(InputError) as error:
        check_folder(tmp_path, other, resume=True)
    assert str(error.value) == (
        f"{tmp_path} was trained with other settings: --segmentor-layers not given, now x; "
        f"--lr {tiny().lr}, now 0.1; --flips True, now False; --batch 2, now 4"
    )
    with pytest.raises(InputError, match="--from not given, now chase-vessels"):
        check_folder(tmp_path, tiny(start="chase-vessels"), resume=True)
    (tmp_path / "recipe.json").write_text("[]")
    with pytest.raises(InputError, match=r"recipe\.json: is not what a run writes there"):
        check_folder(tmp_path, tiny(), resume=True)


def test_a_run_that_noted_names_alone_goes_on_with_the_same_cases(tmp_path):
    case = case_cache.Stored(
        "a", "g", tmp_path, (1, 1, 8, 8), (0,), (1,), ("image", "mask"), looks={}
    )
    (tmp_path / "cases.json").write_text(json.dumps({"train": ["a"], "val": []}))
    check_cases(tmp_path, {"train": [case], "val": []}, writes=True)
    with pytest.raises(InputError, match="case a was taken from train"):
        check_cases(tmp_path, {"train": [], "val": []}, writes=True)
