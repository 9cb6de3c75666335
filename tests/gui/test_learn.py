"""Learning from corrections through the window, with the real process; and the model manager."""

import json
import os

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_hidiff._qt.controls import settings
from napari_hidiff.annotation.fine_tuning import TrainingSet
from napari_hidiff.errors import InputError
from napari_hidiff.inference import catalog
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.io.images import read_image, read_mask

SHORT = ["--pretrain-iterations", "3", "--iterations", "4", "--crop", "32", "--batch", "2"]
LONG = ["--pretrain-iterations", "2000", "--iterations", "20", "--crop", "32", "--batch", "2"]
"""Too long to end by itself within a test, so that Stop has something to stop."""


def another(picture, number):
    """A picture of its own: the same branches, other noise."""
    noise = np.random.default_rng(number).integers(0, 20, picture.shape)
    return (picture // 2 + noise).astype(np.uint8)


def accept(hand, layer):
    """Segment a layer and accept what comes."""
    hand.widget.choose.image.value = layer
    hand.known()
    hand.click("segment")
    hand.click("accept")


def add(hand):
    hand.click("add_example", wait=False)
    hand.wait(lambda: hand.control("add_example").isEnabled(), "the image to be stored")


@pytest.fixture
def taught(hand, picture):
    """Four accepted masks in the training set."""
    hand.widget.panel.settings.learn.expand(animate=False)
    hand.offers("fine_tune", False)
    layers = [hand.viewer.layers["image"]]
    layers += [hand.viewer.add_image(another(picture, n), name=f"eye {n}") for n in (1, 2, 3)]
    hand.offers("add_example", False)  # only accepted masks are added
    for layer in layers:
        accept(hand, layer)
        add(hand)
    return hand


def test_only_accepted_masks_and_the_same_image_replaces_itself(hand):
    hand.widget.panel.settings.learn.expand(animate=False)
    accept(hand, hand.viewer.layers["image"])
    hand.click("add_example", wait=False)
    hand.widget.learning.refresh()
    hand.offers("add_example", False)  # until it is stored, whatever is looked at meanwhile
    hand.wait(lambda: hand.control("add_example").isEnabled(), "the image to be stored")
    kept = TrainingSet("tiny")
    (stem,) = kept.stems
    hand.says("1 image in", "learn_set")
    np.testing.assert_array_equal(
        read_image(kept.root / "images" / f"{stem}.png"), hand.widget.image.data
    )
    first = hand.mask.data.copy()
    np.testing.assert_array_equal(read_mask(kept.root / "masks" / f"{stem}.png"), first)
    painted = hand.stroke((20, 30), (26, 60))
    assert painted.any()
    hand.click("add_example", wait=False)
    assert "tick Done again" in hand.said()
    np.testing.assert_array_equal(read_mask(kept.root / "masks" / f"{stem}.png"), first)
    hand.click("accept")
    hand.widget.image.name = "renamed"
    add(hand)
    (renamed,) = kept.stems
    assert renamed.startswith("renamed-")
    assert len(list((kept.root / "images").iterdir())) == 1
    stored = read_mask(kept.root / "masks" / f"{renamed}.png")
    np.testing.assert_array_equal(stored, hand.mask.data)
    assert (stored[painted] == 1).all()


@pytest.mark.slow
def test_fail_tune_use_stop_resume_and_close(taught):
    hand, learning = taught, taught.widget.learning
    hand.says("4 images in", "learn_set")
    hand.says("1 of them held out", "learn_set")
    assert learning.run is None, "training never starts by itself"
    learning.options = ["--width", "64"]
    hand.click("fine_tune", wait=False)
    hand.wait(lambda: learning.run is None, "the process to end")
    hand.says("--width cannot be changed with --from", "tune_line")
    hand.offers("fine_tune")

    learning.options = SHORT
    old = catalog.find_model(hand.widget.models.chosen).read_bytes()
    hand.click("fine_tune", wait=False)
    painted = hand.stroke((20, 30), (26, 60))  # annotating goes on
    assert painted.any()
    assert (hand.fixed[painted] == 1).all()
    hand.wait(lambda: hand.control("use_tuned").isVisible(), "the tuned model")
    table = hand.control("tune_table").text()
    assert "1 held-out image, never trained on" in table
    assert "before" in table
    name = catalog.available_models()[-1]
    assert name == "tiny-tuned-1"
    assert catalog.find_model(hand.widget.models.chosen).read_bytes() == old
    hand.click("use_tuned", wait=False)
    hand.wait(lambda: hand.widget.models.model is not None, "the tuned model")
    hand.known()
    card = hand.widget.models.model.card
    assert (card.name, card.training["from"]["root"]) == (name, "tiny")
    held = set(card.training["cases"]["val"])
    assert len(held) == 1
    assert not held & set(card.training["cases"]["train"])
    hand.click("run")
    assert (hand.fixed[painted] == 1).all()
    hand.says("4 images in", "learn_set")  # the set is that of the first model

    learning.options = LONG
    hand.click("fine_tune", wait=False)
    run = learning.run
    hand.wait(lambda: run.progress.stage == "segmentor" and run.progress.done > 3, "progress")
    assert hand.control("tune_progress").value() > 0
    assert hand.control("tune_curve").losses
    hand.click("tune_stop", wait=False)
    hand.wait(lambda: learning.run is None, "the end of the process")
    hand.says("with a checkpoint: press Resume", "tune_line")
    assert (run.folder / "segmentor.pt").exists()
    hand.click("tune_go_on", wait=False)
    again = learning.run
    hand.wait(lambda: again.progress.done > run.progress.done + 1, "progress after the stop")
    hand.widget.shut_down()
    hand.wait(lambda: not again.running, "the process to end by itself")
    assert again.poll().stopped
    assert again.problem() is None


def test_slices_of_a_volume_are_images_of_one_group(open_hand, picture, tiny, tmp_path):
    grey = tiny(channels=1)
    file = tmp_path / "grey.safetensors"
    grey.save(file)
    volume = np.stack([another(picture, n)[..., 0] for n in range(4)]).astype(np.uint16)
    hand = open_hand(volume, model=file)
    hand.widget.panel.settings.learn.expand(animate=False)
    for at in (1, 3):
        hand.viewer.dims.set_point(0, at)
        hand.known()
        hand.click("segment")
        hand.click("accept")
    add(hand)
    kept = TrainingSet("grey")
    assert [stem[-10:] for stem in kept.stems] == ["-slice-001", "-slice-003"]
    assert kept.images == 1
    stored = read_image(kept.root / "images" / f"{kept.stems[1]}.tif")
    np.testing.assert_array_equal(stored, volume[3])
    assert stored.dtype == np.uint16
    assert len(set(json.loads((kept.root / "groups.json").read_text()).values())) == 1
    hand.says("1 image (2 slices)", "learn_set")


def test_the_manager_shows_adds_uses_and_removes(hand, tiny_file, tmp_path):
    hand.widget.choose.model.value = settings.MANAGE
    dialog = hand.widget.models._manager
    assert dialog.isVisible()
    assert hand.widget.choose.model.value == str(tiny_file)  # the entry is no choice
    names = [dialog.list.item(i).text() for i in range(dialog.list.count())]
    assert names == [
        "chase-vessels  (bundled)",
        "hippocampus  (bundled)",
        "polyps  (bundled)",
        "universal  (bundled)",
        "tiny.safetensors  (file)",
    ]
    dialog.list.setCurrentRow(1)
    text = dialog.card.toPlainText()
    for word in ("anterior", "CC-BY-SA 4.0", "40 to 59 x 31 to 43 pixels", "0.861", "6.6 MB"):
        assert word in text
    assert not dialog.remove.isEnabled()
    wrong = tmp_path / "wrong.pt"
    wrong.write_bytes(b"PK\x03\x04")
    dialog.add_file(wrong)
    hand.wait(lambda: "is a pickle" in hand.said(), "the refusal")
    dialog.add_file(tiny_file)
    hand.wait(lambda: "tiny" in catalog.available_models(), "the copy")
    hand.wait(lambda: dialog.selected().name == "tiny", "the list")
    assert "tiny" in hand.widget.choose.model.choices
    QTest.mouseClick(dialog.use, Qt.MouseButton.LeftButton)
    assert not dialog.isVisible()
    hand.wait(lambda: hand.widget.models.model is not None, "the model")
    assert hand.widget.models.chosen == "tiny"
    dialog = hand.widget.models.manage()
    QTest.mouseClick(dialog.remove, Qt.MouseButton.LeftButton)
    assert "tiny" in catalog.available_models(), "one click does not delete"
    QTest.mouseClick(dialog.remove, Qt.MouseButton.LeftButton)
    assert "tiny" not in catalog.available_models()
    assert "tiny" not in hand.widget.choose.model.choices
    with pytest.raises(InputError, match="is bundled"):
        catalog.remove("hippocampus")
    assert os.path.exists(tiny_file)


def test_an_image_unlike_the_model_s_is_doubted_not_refused(open_hand, sample_pair):
    image, truth = sample_pair
    hand = open_hand(image[::2, ::2], rgb=True, model="chase-vessels")
    hand.says("Fits this image")
    inverted = hand.viewer.add_image(255 - image[::2, ::2], rgb=True, name="inverted")
    hand.widget.choose.image.value = inverted
    hand.says("bright and dark seem exchanged")
    hand.offers("segment")
    mask = hand.viewer.add_image(np.stack([truth[::2, ::2] * 255] * 3, -1), rgb=True, name="mask")
    hand.widget.choose.image.value = mask
    hand.says("a mask?")
    assert load_model("chase-vessels", prepare=False).card.looks["n"] == 16
