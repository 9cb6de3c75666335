"""``napari-hidiff-evaluate --experiment first-images``: strokes until a whole set is good."""

import json

import numpy as np
import pytest
from blobs import disc, picture
from commands import evaluate
from PIL import Image

from napari_hidiff import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.interactive import first_images
from napari_hidiff.training.evaluate.interactive.first_images import GOAL, to_goal
from napari_hidiff.training.evaluate.interactive.subjects import LazyCase
from napari_hidiff.training.evaluate.objects import unseen_pictures
from napari_hidiff.training.evaluate.study import unpack_array
from napari_hidiff.training.universal import own_segmentor

SIZE, COUNT = (72, 96), 7
QUICK = {"pretrain_iterations": 12, "crop": 64, "batch": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A set of pictures with two discs, of two labels; and one that was trained on."""
    folder = tmp_path_factory.mktemp("collection")
    for name in ("discs", "octa_faz"):
        for part in ("images", "masks"):
            (folder / name / part).mkdir(parents=True)
        for number in range(COUNT):
            discs = [(25 + number, 24, 14), (44, 66 + number, 16)]
            labels = np.zeros(SIZE, np.uint8)
            for label, at in enumerate(discs, 1):
                labels[disc(SIZE, at)] = label
            image = picture(SIZE, discs, number).astype(np.uint8)
            Image.fromarray(labels).save(folder / name / "masks" / f"{number}.png")
            Image.fromarray(image).save(folder / name / "images" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model():
    return load_model("universal", device="cpu", engine="packed")


def test_whole_pictures_of_sets_that_were_not_trained_on(root, model):
    found = unseen_pictures(open_dataset("collection", root), model.card, most=5)
    assert len({case.id for case in found.split("test")}) == 5
    assert {case.id.partition("/")[0] for case in found.split("test")} == {"discs"}
    sample = found.load(found.split("test")[0])
    assert set(np.unique(sample.mask)) == {0, 1}
    assert sample.mask.sum() > 1.5 * disc(SIZE, (44, 66, 16)).sum(), "both labels are the object"


def test_painting_goes_on_until_the_mask_is_good(root, model):
    found = unseen_pictures(open_dataset("collection", root), model.card, most=1)
    case = LazyCase(found.split("test")[0], found, model)
    subject = case.subject(case.subjects(1, "auto")[0])
    record = to_goal(subject, None, 100)
    assert record["reached"]
    assert record["strokes"] == len(record["dice"]) - 1
    assert record["dice"][-1] >= GOAL > max(record["dice"][:-1])
    mask = unpack_array(record["mask"], SIZE)
    assert dice(mask, subject.truth) == pytest.approx(record["dice"][-1])
    few = to_goal(subject, None, 3)
    assert (few["strokes"], few["reached"], few["dice"]) == (3, False, record["dice"][:4])


def test_a_poor_first_mask_is_cleared(root, model, monkeypatch):
    found = unseen_pictures(open_dataset("collection", root), model.card, most=1)
    case = LazyCase(found.split("test")[0], found, model)
    subject = case.subject(case.subjects(1, "auto")[0])
    everything = np.ones((1, *SIZE), np.float32)
    monkeypatch.setattr(HiDiff, "prior", lambda *_, **__: everything)
    monkeypatch.setattr(first_images, "POOR", 0.99)
    record = to_goal(subject, lambda workspace: None, 5)
    assert (record["cleared"], record["strokes"]) == (True, 0)


@pytest.mark.slow
def test_all_arms_through_the_command(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(first_images, "EVERY", 4)
    for name, value in QUICK.items():
        monkeypatch.setitem(own_segmentor.OWN_RECIPE, name, value)
    words = ["--experiment", "first-images", "--model", "universal", "--dataset", "collection"]
    words += ["--data", root, "--seeds", 2, "--strokes", 4, "--images", 6, "--device", "cpu"]
    words += ["--state", tmp_path / "state", "--json"]
    status, out, err = evaluate(capsys, monkeypatch, *words)
    assert status == 0, err
    content = json.loads(out)
    one = content["sets"]["discs"]
    assert one["n"] == content["n"] == 6
    assert list(one["arms"]) == ["paint", "walker-strokes", "refine", "own"]
    for arm in one["arms"].values():
        assert arm["curve"][-1] == pytest.approx(arm["mean"])
        assert np.all(np.diff([0, *arm["curve"]]) >= 0)
        assert arm["low"] == min(arm["strokes"])
        assert arm["high"] == max(arm["strokes"]) <= 6 * 4
    assert [len(rounds) for rounds in one["trainings"]] == [1, 1]
    assert one["arms"]["own"]["curve"][:4] == one["arms"]["refine"]["curve"][:4], "nothing yet"
    shares = np.divide(one["arms"]["own"]["strokes"], one["arms"]["refine"]["strokes"])
    assert one["shares"]["refine"]["mean"] == pytest.approx(shares.mean(), abs=1e-6)
    wanted = shares.mean() <= 2 / 3 and one["shares"]["walker-strokes"]["mean"] <= 1 / 3
    assert (content["met"] == ["discs"]) == one["met"] == wanted
    assert (tmp_path / "state" / "curves.png").is_file()
    before = sorted((tmp_path / "state").rglob("*"))
    status, out, err = evaluate(capsys, monkeypatch, *words)
    assert status == 0, err
    assert json.loads(out)["sets"] == content["sets"], "a second call computes nothing"
    assert sorted((tmp_path / "state").rglob("*")) == before
    assert "training on" not in err or "segmentor segmentor" not in err


def test_a_model_that_finds_by_itself_and_unknown_arms_are_refused(
    root, tmp_path, capsys, monkeypatch
):
    words = ["--experiment", "first-images", "--dataset", "collection", "--data", root]
    words += ["--state", tmp_path / "state", "--device", "cpu"]
    status, _, err = evaluate(capsys, monkeypatch, *words, "--model", "universal", "--arms", "once")
    assert status == 2
    assert "unknown arm 'once'" in err
    words += ["--split", "val", "--model", "chase-vessels"]
    status, _, err = evaluate(capsys, monkeypatch, *words)
    assert status == 2
    assert "a model that needs a prompt" in err
