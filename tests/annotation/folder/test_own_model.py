"""What an own segmentor learns from: the finished images of a queue, slices of volumes too."""

import json

import numpy as np
import pytest
from PIL import Image
from volume_files import affine_of, write_nifti

from napari_hidiff.annotation.fine_tuning import VARIABLE, Progress
from napari_hidiff.annotation.folder.own_model import (
    EMPTY,
    HELD,
    counted,
    fill,
    finished,
    learned,
    learned_slices,
    training_set,
)
from napari_hidiff.annotation.folder.queue import Queue
from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import find_model, read_card
from napari_hidiff.io.images import read_image, read_mask
from napari_hidiff.io.nifti import read_volume

CARD = read_card(find_model("universal"))


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Four grey pictures, of which two are done and one is begun."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "sets"))
    folder = tmp_path / "study"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        picture = rng.integers(0, 255, (40, 50), np.uint8)
        Image.fromarray(picture).save(folder / f"eye{number}.png")
    queue = Queue(folder)
    for number, state in ((0, "done"), (1, "begun"), (2, "done")):
        item = queue[f"eye{number}.png"]
        mask = np.zeros((40, 50), np.uint8)
        mask[5:15, 5:20], mask[20:30, 20:40] = 1, 2 + number
        Image.fromarray(mask).save(queue.claim(item))
        queue.keep(item, state)
    return queue


def test_done_pictures_are_learned_from_and_every_label_is_the_object(queue):
    assert [item.name for item in finished(queue)] == ["eye0.png", "eye2.png"]
    kept = fill(queue, CARD)
    assert len(kept.stems) == 2
    assert kept.root == training_set(queue).root
    for stem, item in zip(kept.stems, finished(queue), strict=True):
        image = read_image(kept.root / "images" / f"{stem}.png")
        assert image.shape == (40, 50, 3)
        assert np.array_equal(image[..., 1], read_image(item.path))
        mask = read_mask(kept.root / "masks" / f"{stem}.png")
        assert np.array_equal(mask, read_mask(item.mask) > 0)
    assert fill(queue, CARD).stems == kept.stems, "the same images again replace themselves"
    assert json.loads((kept.root / "groups.json").read_text()).keys() == set(kept.stems)


def test_every_folder_has_a_set_of_its_own(queue, tmp_path):
    other = tmp_path / "elsewhere" / "study"
    other.mkdir(parents=True)
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(other / "a.png")
    assert training_set(Queue(other)).root != training_set(queue).root


def test_a_mask_of_another_size_is_named(queue):
    item = queue["eye2.png"]
    Image.fromarray(np.zeros((40, 51), np.uint8)).save(item.mask)
    with pytest.raises(InputError, match=r"does not have the size of eye2\.png"):
        fill(queue, CARD)


def test_a_run_without_a_refiner_has_its_own_shares():
    progress = Progress(shares={"reading": 0.1, "segmentor": 0.9})
    progress.take({"stage": "segmentor segmentor", "done": 5, "total": 10})
    assert progress.share == pytest.approx(0.55)
    progress.take({"stage": "scoring"})
    assert progress.share == 1


@pytest.fixture
def volumes(queue):
    """The queue with two volumes, of which one is done: its slices 2 to 4 of 20 hold an object."""
    for name, size in (("head", (24, 30, 20)), ("knee", (24, 30, 6))):
        grey = np.random.default_rng(1).integers(-500, 500, size).astype(np.int16)
        write_nifti(queue.folder / f"{name}.nii.gz", grey, affine_of("LAS", size))
    queue = Queue(queue.folder)
    item, mask = queue["head.nii.gz"], np.zeros((24, 30, 20), np.uint8)
    mask[5:15, 8:20, 2:5] = 3
    write_nifti(queue.claim(item), mask, affine_of("LAS", mask.shape))
    queue.keep(item, "done")
    return queue


def test_slices_of_volumes_are_learned_from_beside_pictures(volumes):
    assert [item.name for item in finished(volumes)] == ["eye0.png", "eye2.png", "head.nii.gz"]
    kept = fill(volumes, CARD)
    assert kept.images == 3, "a volume is one image when some are held out"
    assert counted(finished(volumes)) == learned(kept) == 4, "and two where a training is offered"
    image = read_volume(volumes["head.nii.gz"].path).array
    truth = read_volume(volumes["head.nii.gz"].mask).array
    stems = [stem for stem in kept.stems if "slice" in stem]
    places = [int(stem[-3:]) for stem in stems]
    assert places == learned_slices(truth)
    assert {2, 3, 4} < set(places), "all that hold an object, and others"
    for at, stem in zip(places, stems, strict=True):
        seen = read_image(kept.root / "images" / f"{stem}.tif")
        assert np.array_equal(seen, np.repeat(image[at][..., None], 3, -1))
        assert np.array_equal(read_mask(kept.root / "masks" / f"{stem}.png"), truth[at] > 0)
    groups = json.loads((kept.root / "groups.json").read_text())
    assert len({groups[stem] for stem in stems}) == 1, "never on both sides"


def test_slices_that_are_not_learned_from_any_more_are_taken_away(volumes):
    kept = fill(volumes, CARD)
    before, mask = set(kept.stems), np.zeros((24, 30, 20), np.uint8)
    mask[5:15, 8:20, 15:18] = 1
    write_nifti(volumes["head.nii.gz"].mask, mask, affine_of("LAS", mask.shape))
    fill(volumes, CARD)
    truth = read_volume(volumes["head.nii.gz"].mask).array
    places = [int(stem[-3:]) for stem in kept.stems if "slice" in stem]
    assert places == learned_slices(truth)
    assert before - set(kept.stems)
    assert len(list((kept.root / "images").iterdir())) == len(kept.stems)


def test_a_volume_whose_mask_has_other_slices_is_named(volumes):
    mask = np.zeros((24, 30, 19), np.uint8)
    write_nifti(volumes["head.nii.gz"].mask, mask, affine_of("LAS", mask.shape))
    with pytest.raises(InputError, match=r"does not have the size of head\.nii\.gz"):
        fill(volumes, CARD)


def test_a_bounded_number_of_slices_is_learned_from_some_of_them_empty():
    mask = np.zeros((200, 4, 4), np.uint8)
    mask[50:150] = 1
    places = learned_slices(mask)
    holds = [at for at in places if mask[at].any()]
    empty = [at for at in places if not mask[at].any()]
    assert places == sorted(set(places))
    assert (len(holds), holds[0], holds[-1]) == (HELD, 50, 149)
    assert max(np.diff(holds)) - min(np.diff(holds)) <= 1, "evenly spaced"
    assert {49, 150} < set(empty), "those next to the object"
    assert {0, 199} < set(empty), "and far from it"
    assert len(empty) == EMPTY // 2 + 2
    assert learned_slices(np.ones((3, 4, 4))) == [0, 1, 2]
    assert len(learned_slices(np.zeros((60, 4, 4)))) == EMPTY // 2
