"""Endoscopy: Kvasir-SEG, CVC-ClinicDB and PraNet's benchmark as they are distributed."""

import layouts
import numpy as np
import pytest
from cases import assert_no_group_divided, every, ids
from PIL import Image

from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import SPLITS, open_dataset
from napari_hidiff.training.datasets.polyps import LAST_FRAMES, sequence


def groups(dataset):
    return {name: {case.group for case in dataset.splits[name]} for name in SPLITS}


def test_kvasir_follows_the_authors_lists(tmp_path):
    dataset = open_dataset("kvasir", layouts.write_kvasir(tmp_path / "Kvasir-SEG").parent)
    # 16 of 20 names train, written from the last to the first; the last two of them choose.
    assert ids(dataset.splits["test"]) == ["cju000", "cju001", "cju002", "cju003"]
    assert ids(dataset.splits["val"]) == ["cju004", "cju005"]
    assert len(dataset.splits["train"]) == 14
    assert dataset.notes == ()
    case = dataset.splits["test"][1]
    sample = dataset.load(case)
    assert sample.image.shape == (41, 49, 3)
    # The mask is a JPEG of an RGB picture: cut at 127 it is nearly what was drawn.
    assert np.array_equal(np.unique(sample.mask), [0, 1])
    assert (sample.mask == layouts.polyp(1, 41, 49)[1]).mean() > 0.98


def test_kvasir_without_lists_or_beside_them(tmp_path):
    plain = open_dataset("kvasir", layouts.write_kvasir(tmp_path / "a", 50, lists=False))
    assert [len(plain.splits[name]) for name in SPLITS] == [40, 4, 6]
    root = layouts.write_kvasir(tmp_path / "b", 50)
    assert len(open_dataset("kvasir", root).splits["test"]) == 10
    dealt = open_dataset("kvasir", root, split_rule="random")
    assert ids(dealt.splits["test"]) == ids(plain.splits["test"])


def test_kvasir_lists_and_images_that_differ_are_noted(tmp_path):
    root = layouts.write_kvasir(tmp_path / "Kvasir-SEG")
    for folder in ("images", "masks"):
        (root / folder / "cju010.jpg").unlink()
        (root / folder / "cju011.jpg").rename(root / folder / "more.jpg")
    dataset = open_dataset("kvasir", root)
    assert any("1 images are in neither list" in note for note in dataset.notes)
    assert any("2 of 20 listed images are missing, cju010" in note for note in dataset.notes)
    assert "more" not in ids(every(dataset).values())


def test_kvasir_masks_saved_anew_as_png_are_cut_too(tmp_path):
    root = layouts.write_kvasir(tmp_path / "Kvasir-SEG", 1, lists=False)
    (root / "masks" / "cju000.jpg").unlink()
    grey = np.zeros((40, 48), np.uint8)
    grey[0, :3] = 100, 128, 255
    Image.fromarray(grey).save(root / "masks" / "cju000.png")
    dataset = open_dataset("kvasir", root)
    mask = dataset.load(dataset.split("train")[0]).mask
    assert mask[0, :4].tolist() == [0, 1, 1, 0]


def test_kvasir_real(real_data):
    dataset = open_dataset("kvasir", real_data("Kvasir-SEG"))
    root = dataset.root
    train = (root / "splits" / "train.txt").read_text().split()
    test = (root / "splits" / "val.txt").read_text().split()
    assert set(ids(dataset.splits["test"])) == set(test)
    assert set(ids(dataset.splits["val"])) == set(train[-88:])
    assert set(ids(dataset.splits["train"])) == set(train[:-88])
    sample = dataset.load(dataset.splits["test"][0])
    assert sample.image.dtype == np.uint8
    assert sample.image.shape == (*sample.mask.shape, 3)
    assert 0 < sample.mask.mean() < 0.9


@pytest.fixture(scope="module")
def cvc(tmp_path_factory):
    return layouts.write_cvc(tmp_path_factory.mktemp("cvc") / "CVC-ClinicDB")


def test_cvc_deals_whole_sequences(cvc):
    dataset = open_dataset("cvc", cvc.parent)
    assert_no_group_divided(dataset.splits)
    assert [len(part) for part in groups(dataset).values()] == [23, 3, 3]
    assert sum(map(len, dataset.splits.values())) == 612
    assert dataset.notes == ()
    # The first and last frames of the second and of the last sequence.
    of = {case.id: case.group for case in every(dataset).values()}
    assert of["25"] != of["26"] == of["50"] != of["51"]
    assert of["591"] != of["592"] == of["612"] == "sequence29"
    assert sequence(1) == "sequence01"
    assert len(LAST_FRAMES) == 29


def test_cvc_in_the_paper_s_way_divides_sequences_and_says_so(cvc):
    dataset = open_dataset("cvc", cvc, split_rule="paper")
    assert [len(dataset.splits[name]) for name in SPLITS] == [490, 61, 61]
    assert "sequence" in dataset.notes[0]
    parts = [{sequence(int(id_)) for id_ in ids(dataset.splits[name])} for name in SPLITS]
    assert parts[0] & parts[2]


@pytest.mark.parametrize(("suffix", "parent"), [(".tif", "TIF"), (".png", "PNG"), (".png", ".")])
def test_cvc_masks_in_either_format_and_place(tmp_path, suffix, parent):
    layouts.write_cvc(tmp_path / "CVC-ClinicDB" / parent, range(1, 60), suffix)
    dataset = open_dataset("cvc", tmp_path)
    assert any("553 of 612" in note for note in dataset.notes)
    sample = dataset.load(dataset.split("train")[0])
    expected = layouts.polyp(int(sample.case.id))[1]
    expected[0, :2] = False, True  # greys of 100 and 200
    assert np.array_equal(sample.mask, expected)


def test_cvc_frames_that_are_none_are_left_out(tmp_path):
    root = layouts.write_cvc(tmp_path, range(1, 4))
    for folder in ("Original", "Ground Truth"):
        (root / folder / "3.tif").rename(root / folder / "overview.tif")
    dataset = open_dataset("cvc", root)
    assert set(ids(every(dataset).values())) == {"1", "2"}
    assert any("not named" in note for note in dataset.notes)


@pytest.mark.parametrize("plural", [True, False])
def test_polyp_benchmark(tmp_path, plural):
    dataset = open_dataset("polyp", layouts.write_polyp(tmp_path / "polyp", plural))
    assert_no_group_divided(dataset.splits)
    expected = [f"{name}/{id_}" for name, all_ in layouts.POLYP_TESTS.items() for id_ in all_]
    assert ids(dataset.splits["test"]) == expected
    dealt = [id_ for cases in dataset.splits.values() for id_ in ids(cases)]
    assert len(dealt) == len(set(dealt)) == len(expected) + len(layouts.POLYP_TRAIN)
    assert dataset.splits["val"]
    # Numbered training frames are CVC-ClinicDB's: their sequences stay on one side.
    of = {case.id: case.group for case in (*dataset.splits["train"], *dataset.splits["val"])}
    assert of["TrainDataset/2"] == of["TrainDataset/23"] != of["TrainDataset/26"]
    assert of["TrainDataset/cju5"] == "TrainDataset/cju5"
    case = next(case for case in dataset.splits["test"] if case.id == "ETIS-LaribPolypDB/150")
    assert np.array_equal(dataset.load(case).mask, layouts.polyp(1)[1])


def test_one_polyp_test_set_alone(tmp_path):
    root = layouts.write_polyp(tmp_path / "polyp")
    whole = open_dataset("polyp", root)
    single = open_dataset("polyp", root, split_rule="CVC-300")
    assert ids(single.splits["test"]) == ["CVC-300/149", "CVC-300/150"]
    assert single.splits["train"] == whole.splits["train"]


def test_a_polyp_copy_without_its_training_set_can_be_reported_on(tmp_path):
    root = layouts.write_polyp(tmp_path / "polyp")
    (root / "TrainDataset").rename(tmp_path / "elsewhere")
    dataset = open_dataset("polyp", root)
    assert len(dataset.split("test")) == 9
    assert "TrainDataset is missing" in dataset.notes


@pytest.mark.parametrize("gone", ["Original/2.tif", "Ground Truth/2.tif"])
def test_half_a_pair_is_named_when_it_is_loaded(tmp_path, gone):
    root = layouts.write_cvc(tmp_path, range(1, 4))
    (root / gone).unlink()
    dataset = open_dataset("cvc", root)
    case = next(case for case in every(dataset).values() if case.id == "2")
    with pytest.raises(InputError) as caught:
        dataset.load(case)
    assert str(caught.value).startswith(f"{root / gone}: missing")


def test_empty_folders_are_named(tmp_path):
    root = layouts.write_kvasir(tmp_path / "Kvasir-SEG", 2)
    for path in (root / "masks").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="masks: empty"):
        open_dataset("kvasir", root)


def test_a_coloured_mask_is_refused(tmp_path):
    root = layouts.write_kvasir(tmp_path / "Kvasir-SEG", 1)
    Image.fromarray(layouts.polyp(0)[0]).save(root / "masks" / "cju000.jpg")
    dataset = open_dataset("kvasir", root)
    with pytest.raises(InputError, match=r"cju000\.jpg: is a colour picture"):
        dataset.load(dataset.split("train")[0])
