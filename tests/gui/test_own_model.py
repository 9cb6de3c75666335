"""A segmentor of one's own in the window: offered, trained in its process, used where it helps."""

import numpy as np
import pytest
from blobs import disc, picture
from PIL import Image

from napari_hidiff.annotation.folder.queue import Queue
from napari_hidiff.inference import catalog
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
