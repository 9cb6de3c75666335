"""What an own segmentor learns from: the finished pictures of a queue."""

import json

import numpy as np
import pytest
from PIL import Image

from napari_hidiff.annotation.fine_tuning import VARIABLE, Progress
from napari_hidiff.annotation.folder.own_model import fill, finished, training_set
from napari_hidiff.annotation.folder.queue import Queue
from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import find_model, read_card
from napari_hidiff.io.images import read_image, read_mask

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
