"""A segmentor of one's own in the window: offered, trained in its process, used where it helps."""

import numpy as np
import pytest
from blobs import disc, picture
from PIL import Image
from volume_files import write_nifti

from napari_hidiff.annotation.folder.drafts import make_drafts
from napari_hidiff.annotation.folder.queue import DRAFTS, Queue
from napari_hidiff.inference import catalog
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.io.registry import read_labelled
from napari_hidiff.masks import dice

SIZE, COUNT = (96, 128), 9
SHORT = ["--pretrain-iterations", "25", "--crop", "96", "--batch", "2"]
LONG = ["--pretrain-iterations", "5000", "--crop", "96", "--batch", "2"]


def place(number):
    return 40 + 3 * (number % 5), 50 + 4 * (number % 7), 22


@pytest.fixture
def study(tmp_path):
    """Nine pictures with a bright disc each; seven are done."""
    folder = tmp_path / "discs"
    folder.mkdir()
    for number in range(COUNT):
        image = picture(SIZE, [place(number)], number).astype(np.uint8)
        Image.fromarray(image).save(folder / f"p{number}.png")
    queue = Queue(folder)
    for number in range(7):
        finish(queue, number)
    return folder


def finish(queue, number):
    item = queue[f"p{number}.png"]
    mask = disc(SIZE, place(number)).astype(np.uint8)
    Image.fromarray(mask).save(queue.claim(item))
    queue.keep(item, "done")


def open_folder(hand, folder):
    hand.widget.queue.open(folder)
    hand.wait(lambda: hand.widget.queue.item and not hand.widget.queue.busy, "the folder")
    hand.known()
    hand.idle()


@pytest.mark.slow
def test_offered_after_eight_trained_stopped_and_used(open_hand, study, monkeypatch):
    hand = open_hand(None, "universal", stepwise=False)
    own = hand.widget.own_model
    open_folder(hand, study)
    assert not hand.control("own_train").isVisibleTo(hand.widget), "seven are too few"
    finish(hand.widget.queue.queue, 7)
    own.refresh()
    assert own.run is None, "nothing starts by itself"
    hand.says("8 images are done", "own_line")

    own.options = LONG
    hand.click("own_train", wait=False)
    hand.wait(lambda: own.run is not None and own.run.poll().done > 0, "the training")
    hand.click("own_stop", wait=False)
    hand.wait(lambda: own.run is None, "the process to end")
    hand.says("Stopped. 8 images are done", "own_line")

    own.options = SHORT
    hand.click("own_train", wait=False)
    hand.wait(lambda: own.run is not None, "the process")
    hand.wait(lambda: own.run is None, "the training to end")
    hand.wait(lambda: hand.widget.models.chosen == "discs-own-1", "the new model")
    hand.says("Better than none: Dice after 3 strokes on 2 held-out images", "own_line")
    assert not hand.control("own_train").isVisibleTo(hand.widget), "offered again after eight more"
    assert not catalog.entry("discs-own-1").card.needs_prompt
    hand.wait(lambda: hand.widget.models.model is not None, "the model to be loaded")
    hand.known()
    hand.click("segment")
    assert dice(hand.mask.data > 0, disc(SIZE, place(8))) > 0.8


DEEP = 5
"""Slices of a volume; the object is in the middle ones."""


def balls(number):
    """Two balls as stored, bool [i, j, k]: one stroke in a slice points at one of them."""
    row, column, _ = place(number)
    slices = [
        disc(SIZE, (row - 18, column, radius)) | disc(SIZE, (row + 22, column, radius))
        if radius
        else np.zeros(SIZE, bool)
        for radius in (0, 12, 16, 12, 0)
    ]
    return np.stack(slices).T


@pytest.mark.slow
def test_four_volumes_are_learned_from_and_the_others_drafted(open_hand, tmp_path):
    """A volume counts as two images; one is held out; the rest comes with masks, slice by slice."""
    study = tmp_path / "balls"
    study.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        grey = 300 + 30 * rng.standard_normal((*SIZE[::-1], DEEP)) + 600 * balls(number)
        grey[-30:] = 0  # air: slices without balls have something in them, too
        write_nifti(study / f"v{number}.nii.gz", grey.astype(np.int16), np.eye(4))
    queue = Queue(study)
    for number in range(4):
        item = queue[f"v{number}.nii.gz"]
        write_nifti(queue.claim(item), balls(number).astype(np.uint8), np.eye(4))
        if number < 3:
            queue.keep(item, "done")
    queue.show(queue["v4.nii.gz"])
    hand = open_hand(None, "universal", stepwise=False)
    hand.widget.panel.queue.drafts.setChecked(False)  # made below, without another process
    own = hand.widget.own_model
    open_folder(hand, study)
    assert not hand.control("own_train").isVisibleTo(hand.widget), "three are too few"
    shown = hand.widget.queue.queue
    shown.keep(shown["v3.nii.gz"], "done")
    own.refresh()
    hand.says("4 images are done", "own_line")

    own.options = [*SHORT, "--pretrain-iterations", "60"]
    hand.click("own_train", wait=False)
    hand.wait(lambda: own.run is not None, "the process")
    hand.wait(lambda: own.run is None, "the training to end")
    hand.wait(lambda: hand.widget.models.chosen == "balls-own-1", "the new model")
    hand.says("Better than none: Dice after 3 strokes a slice on 1 held-out image", "own_line")
    seen = catalog.entry("balls-own-1").card.training["cases"]
    volumes = [{name.split("-")[0] for name in seen[split]} for split in ("train", "val")]
    assert list(map(len, volumes)) == [3, 1]
    assert not set.intersection(*volumes), "no volume is on both sides"
    assert not hand.control("own_train").isVisibleTo(hand.widget), "offered again after four more"

    hand.wait(lambda: hand.widget.models.model is not None, "the model to be loaded")
    hand.known()
    hand.click("segment_slices")
    truth = read_volume(study / "v4.nii.gz").array > 600
    assert dice(hand.mask.data > 0, truth) > 0.8
    model = hand.widget.models.model
    assert [one.left for one in make_drafts(model, shown.wanted(model.digest))] == ["", ""]
    drafted = read_labelled(study / DRAFTS / "v5.nii.gz.npz").mask
    assert dice(drafted > 0, balls(5).T) > 0.8
