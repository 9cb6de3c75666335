"""Cases on disk: what is written, when it is read anew, and what happens to bad ones."""

import dataclasses
import os
import pickle
import shutil

import layouts
import numpy as np
import pytest

from napari_hidiff.errors import InputError
from napari_hidiff.inference.preprocessing import Intensity, with_neighbours
from napari_hidiff.training import case_cache
from napari_hidiff.training.datasets import Case, Dataset, Sample, open_dataset


def volume(sample_image, truth, **changes):
    """A data set of one volume in memory; its source is any file."""

    def reader(dataset, case):
        return Sample(case, sample_image, truth, None, (1.0, 1.0, 1.0))

    def make(path):
        case = Case("a/b", "a", (path,), path)
        dataset = Dataset(
            "made",
            ("background", "organ"),
            ("t1", "t2"),
            ("#000000", "#ff0000"),
            "",
            "",
            {"train": (case,), "val": (), "test": ()},
            intensity={"rule": "zscore"},
            reader=reader,
        )
        return dataclasses.replace(dataset, **changes)

    return make


@pytest.fixture
def brain(tmp_path):
    """A volume with a brain in a corner of nothing, and a file that it claims to come from."""
    rng = np.random.default_rng(0)
    image = np.zeros((12, 60, 50, 2), np.int16)
    image[2:9, 5:40, 10:44] = rng.integers(1, 500, (7, 35, 34, 2))
    truth = np.zeros(image.shape[:3], np.uint8)
    truth[4:6, 10:20, 20:30] = 1
    source = tmp_path / "source.nii"
    source.write_bytes(b"any")
    return image, truth, volume(image, truth)(source), source


def test_a_volume_is_normalised_as_a_whole_and_cut_to_the_brain(brain, tmp_path):
    image, truth, dataset, _ = brain
    stored = case_cache.build(dataset, ("train",), tmp_path / "cache").splits["train"][0]
    expected = Intensity("zscore")(image)[2:9, 5:40, 10:44].transpose(0, 3, 1, 2)
    assert stored.shape == expected.shape == (7, 2, 35, 34)
    np.testing.assert_allclose(stored.image, expected, atol=2e-3)
    assert stored.image.dtype == np.float16
    assert isinstance(stored.image, np.memmap)
    np.testing.assert_array_equal(stored.truth, truth[2:9, 5:40, 10:44])
    assert stored.foreground == (2, 3)
    assert stored.prior is None
    assert len(pickle.dumps(stored)) < 1000  # travels to worker processes without its arrays


def test_a_slice_is_seen_with_its_neighbours(brain, tmp_path):
    dataset = dataclasses.replace(brain[2], slices=3)
    case = case_cache.build(dataset, ("train",), tmp_path / "cache").splits["train"][0]
    planes = np.stack([case.plane(at) for at in range(case.shape[0])])
    image = case.image.astype(np.float32).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(planes.transpose(0, 2, 3, 1), with_neighbours(image, 3))
    assert pickle.loads(pickle.dumps(case)).slices == 3


def test_the_spacing_of_slices_is_kept(brain, tmp_path):
    for _ in range(2):  # read, and found again
        stored = case_cache.put(brain[2], brain[2].splits["train"][0], tmp_path)
        assert stored.spacing == (1.0, 1.0)


def test_truth_outside_the_brain_is_never_cut_off(brain, tmp_path):
    image, truth, _, source = brain
    truth[11, 58, 0] = 1
    dataset = volume(image, truth)(source)
    stored = case_cache.build(dataset, ("train",), tmp_path / "cache").splits["train"][0]
    assert stored.truth.sum() == truth.sum()


def test_a_picture_is_a_volume_of_one_plane(tmp_path):
    dataset = open_dataset("folder", layouts.write_folder(tmp_path / "data"))
    kept = case_cache.build(dataset, ("train", "val"), tmp_path / "cache")
    case, first = kept.splits["train"][0], dataset.splits["train"][0]
    sample = dataset.load(first)
    expected = Intensity()(sample.image).transpose(2, 0, 1)
    assert case.shape == (1, *expected.shape)
    np.testing.assert_allclose(case.image[0], expected, atol=2e-3)
    np.testing.assert_array_equal(case.truth[0], sample.mask)
    assert [c.id for c in kept.splits["val"]] == [c.id for c in dataset.splits["val"]]


def unreadable(dataset, case):
    raise AssertionError("read again")


def test_a_case_is_read_once_until_its_source_or_rule_changes(brain, tmp_path):
    _, _, dataset, source = brain
    folder = tmp_path / "cache"
    first = case_cache.put(dataset, dataset.splits["train"][0], folder_of(folder))
    sealed = dataclasses.replace(dataset, reader=unreadable)
    case = sealed.splits["train"][0]
    assert case_cache.put(sealed, case, folder) == first
    with pytest.raises(AssertionError, match="read again"):
        case_cache.put(dataclasses.replace(sealed, intensity={"rule": "standardize"}), case, folder)
    os.utime(source, ns=(1, 1))
    with pytest.raises(AssertionError, match="read again"):
        case_cache.put(sealed, case, folder)


def folder_of(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_an_interrupted_case_is_read_again(brain, tmp_path, monkeypatch):
    _, _, dataset, _ = brain
    folder, case = folder_of(tmp_path / "cache"), dataset.splits["train"][0]
    whole = np.save

    def cut(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        case_cache.put(dataset, case, folder)
    monkeypatch.setattr(np, "save", whole)
    assert case_cache.put(dataset, case, folder).truth.any()


def test_two_trainings_may_fill_one_cache_at_the_same_time(brain, tmp_path, monkeypatch):
    _, _, dataset, _ = brain
    folder, case = folder_of(tmp_path / "cache"), dataset.splits["train"][0]
    whole, mine, other = np.save, os.getpid(), []

    def save(file, array):
        """Another process stores the case while this one is about to."""
        if not other:
            other.append(True)
            monkeypatch.setattr(os, "getpid", lambda: mine + 1)
            other.append(case_cache.put(dataset, case, folder))
            monkeypatch.setattr(os, "getpid", lambda: mine)
        whole(file, array)

    monkeypatch.setattr(np, "save", save)
    stored = case_cache.put(dataset, case, folder)
    assert other[1].truth.any()
    np.testing.assert_array_equal(stored.image, other[1].image)
    assert not list(folder.glob("*.part"))


def test_a_bad_case_ends_it_or_is_skipped_and_counted(tmp_path):
    data = layouts.write_folder(tmp_path / "data")
    bad = open_dataset("folder", data).splits["train"][1]
    bad.images[0].write_bytes(bad.images[0].read_bytes()[:200])
    dataset = open_dataset("folder", data)
    with pytest.raises(InputError, match=bad.images[0].name):
        case_cache.build(dataset, ("train", "val"), tmp_path / "cache")
    kept = case_cache.build(dataset, ("train", "val"), tmp_path / "cache", skip_bad=True)
    assert len(kept.splits["train"]) == len(dataset.splits["train"]) - 1
    assert len(kept.skipped) == 1
    assert bad.images[0].name in kept.skipped[0]
    for case in dataset.splits["train"]:
        case.images[0].write_bytes(b"")
    with pytest.raises(InputError, match="none of the train cases can be used"):
        case_cache.build(dataset, ("train", "val"), tmp_path / "cache", skip_bad=True)


def test_a_full_disk_is_one_clear_error(brain, tmp_path, monkeypatch):
    _, _, dataset, _ = brain
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(InputError, match="--cache"):
        case_cache.build(dataset, ("train",), tmp_path / "cache")


def test_thin_slices_are_refused_by_name(brain, tmp_path):
    image, truth, _, source = brain
    dataset = volume(image[:, :, :10], truth[:, :, :10])(source)
    with pytest.raises(InputError, match=r"source.nii: slices of 60 x 10"):
        case_cache.build(dataset, ("train",), tmp_path / "cache")
