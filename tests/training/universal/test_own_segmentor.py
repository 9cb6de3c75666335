"""A segmentor of one's own for a prompted model, through the command."""

import json

import numpy as np
import pytest
from blobs import disc, picture
from commands import call
from PIL import Image

from napari_hidiff.annotation.folder.drafts import draft
from napari_hidiff.cli import refine_main
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.masks import dice
from napari_hidiff.training import cli

SIZE = (96, 128)
SHORT = ("--pretrain-iterations", 25, "--crop", 96, "--batch", 2, "--device", "cpu")


def place(number):
    return 40 + 3 * (number % 5), 50 + 4 * (number % 7), 22


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Eight pictures with a bright disc each; labels are 1 or 2, and some pictures are grey."""
    folder = tmp_path_factory.mktemp("mine")
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(8):
        image, mask = picture(SIZE, [place(number)]), disc(SIZE, place(number))
        name = f"disc{number}.png"
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / name)
        Image.fromarray((mask * (1 + number % 2)).astype(np.uint8)).save(folder / "masks" / name)
    return folder


def train(data, folder, *more):
    given = ("--dataset", "folder", "--data", data, "--from", "universal", "--output", folder)
    return call(cli.main, *given, *SHORT, *more)


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    done = train(data, folder, "--name", "discs")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_model_finds_such_objects_without_a_prompt(trained, tmp_path):
    model = load_model(trained / "model.safetensors", device="cpu")
    assert (model.card.name, model.card.needs_prompt, model.card.prompted) == ("discs", False, True)
    assert model.card.training["from"]["root"] == "universal"
    at = (50, 60, 22)
    image, truth = picture(SIZE, [at]).astype(np.uint8), disc(SIZE, at)
    alone = model.refine(image).mask
    assert dice(alone, truth) > 0.8
    mask, benefit = draft(model, image[None])
    np.testing.assert_array_equal(mask[0], alone)
    assert benefit > 0
    Image.fromarray(image).save(tmp_path / "new.png")
    words = tmp_path / "new.png", "--model", trained / "model.safetensors", "--output", tmp_path
    done = call(refine_main, *words)
    assert done.returncode == 0, done.stderr
    assert dice(np.asarray(Image.open(tmp_path / "new_mask.png")) > 0, truth) > 0.8


def test_held_out_images_say_what_it_is_worth(trained):
    report = json.loads((trained / "report.json").read_text())["held_out"]
    assert len(report["cases"]) == 2
    assert report["mean"]["before"]["first mask"] == 0
    assert report["mean"]["after"]["first mask"] > 0.5
    worth = [np.mean(list(report["mean"][when].values())[1:]) for when in ("before", "after")]
    assert report["better"] == (worth[1] > worth[0])
    card = load_model(trained / "model.safetensors", prepare=False).card
    seen = card.training["cases"]
    assert (len(seen["train"]), len(seen["val"])) == (6, 2)
    assert {row["id"] for row in report["cases"]} == set(seen["val"])
    assert card.training["held_out"] == report


def test_the_refiner_and_its_encoder_stay_as_they_are(trained):
    before = load_model("universal", device="cpu", prepare=False)
    after = load_model(trained / "model.safetensors", device="cpu", prepare=False)
    for one, other in (
        (before.refiner, after.refiner),
        (before.segmentor, after.segmentor.encoder),
    ):
        for (name, old), new in zip(
            one.state_dict().items(), other.state_dict().values(), strict=True
        ):
            assert np.array_equal(old.numpy(), new.numpy()), name


def test_training_goes_on_from_a_model_that_has_one(data, trained, tmp_path):
    done = train(data, tmp_path / "again", "--from", trained / "model.safetensors")
    assert done.returncode == 0, done.stderr
    card = load_model(tmp_path / "again" / "model.safetensors", prepare=False).card
    assert card.training["recipe"]["start"] == str(trained / "model.safetensors")
    assert card.training["from"]["root"] == "universal"
    held = set(
        load_model(trained / "model.safetensors", prepare=False).card.training["cases"]["val"]
    )
    assert set(card.training["cases"]["val"]) == held, "what was trained on scores nothing"


def test_what_does_not_go_with_it_is_refused(data, tmp_path):
    for option, value in (("--iterations", 5), ("--width", 64), ("--longest-side", 100)):
        done = train(data, tmp_path / "no", option, value)
        assert done.returncode == 2
        assert f"{option} does not go with --from universal" in done.stderr
        assert not (tmp_path / "no").exists()
