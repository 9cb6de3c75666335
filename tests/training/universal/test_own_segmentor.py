"""A segmentor of one's own for a prompted model, through the command."""

import dataclasses
import json

import nibabel
import numpy as np
import pytest
import torch
from blobs import disc, picture
from commands import call
from PIL import Image
from volume_files import write_nifti

from napari_hidiff.annotation.folder.drafts import draft
from napari_hidiff.annotation.folder.own_model import learned_slices
from napari_hidiff.cli import refine_main
from napari_hidiff.inference.catalog import find_model, load_model, read_card
from napari_hidiff.masks import dice
from napari_hidiff.training import case_cache, cli
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.universal import own_segmentor

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


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Five volumes [i, j, k] of 40 slices each; slices 10 and 11 hold labels 1 and 2."""
    folder = tmp_path_factory.mktemp("volumes")
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(5):
        rng = np.random.default_rng(number)
        slope = np.linspace(1, 50, 40)  # every slice has grey values of its own
        image, mask = rng.normal(slope * 10, slope, (32, 24, 40)), np.zeros((32, 24, 40), np.uint8)
        mask[8:20, 6:18, 10:12] = [1, 2]
        write_nifti(folder / "images" / f"v{number}.nii.gz", image.astype(np.int16), np.eye(4))
        write_nifti(folder / "masks" / f"v{number}.nii.gz", mask, np.eye(4))
    return folder


def test_slices_of_a_volume_are_normalised_one_by_one_as_they_are_used(volumes, tmp_path):
    model = load_model("universal", device="cpu", prepare=False)
    dataset = own_segmentor.of_objects(open_dataset("folder", volumes), model.card)
    dataset = dataclasses.replace(dataset, longest_side=64)
    case = dataset.splits["train"][0]
    stored = case_cache.put(dataset, case, tmp_path)
    whole = np.moveaxis(nibabel.load(case.images[0]).get_fdata(), -1, 0)
    truth = np.moveaxis(nibabel.load(case.mask).get_fdata(), -1, 0)
    places = learned_slices(truth)
    assert stored.shape == (len(places), 3, 64, 48) or stored.shape == (len(places), 3, 48, 64)
    assert stored.spacing is None, "a prompted model has a scale of its own"
    assert stored.foreground == tuple(places.index(at) for at in (10, 11))
    assert stored.labels == (1,), "every label is the object"
    np.testing.assert_allclose(np.mean(stored.image, (2, 3)), 0, atol=2e-3)
    np.testing.assert_allclose(np.std(stored.image.astype(float), (2, 3)), 1, atol=2e-3)
    assert whole[places].std((1, 2)).max() > 5 * whole[places].std((1, 2)).min()


def test_volumes_are_held_out_as_a_whole(volumes):
    card = read_card(find_model("universal"))
    _, dataset = cli.fine_tuning(open_dataset("folder", volumes), "universal", False, {})
    ids = {split: {case.id for case in cases} for split, cases in dataset.splits.items()}
    assert (len(ids["train"]), len(ids["val"])) == (4, 1)
    assert own_segmentor.of_objects(dataset, card).splits == dataset.splits


def universal_with_own():
    """`universal`, and a card of it with a segmentor of its own."""
    start = load_model("universal", device="cpu", prepare=False)
    segmentor = {
        "name": "own",
        "encoder": start.card.segmentor,
        "own": {"name": "encoder-decoder"},
    }
    return start, dataclasses.replace(start.card, segmentor=segmentor)


def test_training_begins_with_the_same_weights_for_a_seed():
    start, card = universal_with_own()
    torch.manual_seed(1)
    first = own_segmentor.beginning(start, card, seed=0).state_dict()
    again, other = (own_segmentor.beginning(start, card, seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    trained = {f"encoder.{name}" for name in start.segmentor.state_dict()}
    assert trained < set(first), "the encoder's are those of the model"
    assert all(torch.equal(first[name], other[name]) for name in trained)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_slices_of_one_volume_are_scored_together(tmp_path, monkeypatch):
    """Cases of a group, and the slices of a case, give one Dice of all their pixels."""
    start, card = universal_with_own()
    model = own_segmentor.joined(start, card, own_segmentor.beginning(start, card, seed=0))
    one = np.zeros((2, 16, 16), np.uint8)
    one[0, :8] = 1  # and the second slice is empty
    found = {"first mask": np.ones((16, 16), np.uint8), "1 stroke": np.zeros((16, 16), np.uint8)}
    monkeypatch.setattr(own_segmentor, "_slice_after_strokes", lambda *_: found)

    def stored(name, group, truth):
        path = tmp_path / name
        np.save(f"{path}.truth.npy", truth)
        shape = (len(truth), 3, *truth.shape[1:])
        return case_cache.Stored(name, group, path, shape, (0,), (1,), ("", ""))

    cases = [stored("a", "x", one[:1]), stored("b", "x", one[1:]), stored("c", "c", one)]
    rows = own_segmentor.compared(model, cases)["cases"]
    assert [(row["id"], row["slices"]) for row in rows] == [("x", 2), ("c", 2)]
    for row in rows:  # 128 of 512 pixels are the object
        assert row["after"] == {"first mask": 2 * 128 / (512 + 128), "1 stroke": 0}
