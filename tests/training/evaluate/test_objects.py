"""A prompted model on a collection: an object a case, strokes from an empty mask, foreign masks."""

import numpy as np
import pytest
from blobs import disc, picture
from PIL import Image

from napari_hidiff import load_model
from napari_hidiff.errors import InputError
from napari_hidiff.masks import dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.analyses import foreign_priors
from napari_hidiff.training.evaluate.interactive import experiment, policies
from napari_hidiff.training.evaluate.objects import unseen_objects
from napari_hidiff.training.evaluate.study import Options

SIZE = (120, 150)
PLACES = [[(40, 40, 18), (80, 100, 25)], [(60, 70, 30)], [(50, 90, 22), (90, 30, 14), (20, 20, 12)]]


@pytest.fixture(scope="module")
def model():
    return load_model("universal", device="cpu", engine="packed")


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """A set of discs; one of rings of label 1 around label 2; one of a name that was trained on."""
    root = tmp_path_factory.mktemp("collection")
    for name in ("discs", "rings", "octa_faz"):
        for part in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
        for number, discs in enumerate(PLACES):
            labels = np.zeros(SIZE, np.uint8)
            for label, at in enumerate(discs, 1):
                labels[disc(SIZE, at)] = 1 if name == "rings" else label
                if name == "rings":
                    labels[disc(SIZE, (at[0], at[1], at[2] // 2))] = 2
            Image.fromarray(labels).save(root / name / "masks" / f"{number}.png")
            Image.fromarray(picture(SIZE, discs, number)).save(
                root / name / "images" / f"{number}.png"
            )
    return open_dataset("collection", root)


def test_objects_of_sets_that_were_not_trained_on(model, collection):
    found = unseen_objects(collection, model.card, most=20)
    assert not found.splits["train"]
    assert "octa_faz" not in {case.id.split("/")[0] for case in found.split("test")}
    assert any("trained on are left out" in note for note in found.notes)
    own = {case.id: found.load(case).mask for case in found.split("test")}
    assert sorted(own) == [
        *("discs/0:1", "discs/0:2", "discs/1:1", "discs/2:1", "discs/2:2"),
        *("rings/0:1", "rings/0:2", "rings/1:1", "rings/1:2", "rings/2:1", "rings/2:2"),
    ]
    assert np.array_equal(own["discs/0:2"], disc(SIZE, PLACES[0][1]))
    whole = disc(SIZE, PLACES[1][0])
    assert np.array_equal(own["rings/1:1"], whole), "a ring is drawn with what it encloses"
    few = unseen_objects(collection, model.card, most=2)
    assert len(few.split("test")) == 4


def test_the_walker_has_the_border_until_there_is_a_background_stroke():
    image = picture(SIZE, [(60, 70, 30)])
    fixed = np.full(SIZE, -1)
    assert not policies.walked_from_strokes(image, fixed).any()
    fixed[disc(SIZE, (60, 70, 8))] = 1
    mask = policies.walked_from_strokes(image, fixed)
    assert dice(mask, disc(SIZE, (60, 70, 30))) > 0.9
    assert not mask[0].any()
    fixed[10:12, 10:40] = 0
    again = policies.walked_from_strokes(picture(SIZE, [(60, 70, 60)]), fixed)
    assert again[-1].any(), "with a background stroke the border is free"


def test_strokes_from_an_empty_mask(model, collection, tmp_path):
    found = unseen_objects(collection, model.card, most=1)
    options = Options(seeds=(0,), strokes=3, split="test")
    content = experiment.run(model, found, found.split("test"), options, tmp_path)
    assert list(content["arms"]) == list(policies.PROMPTED)
    for arm in content["arms"].values():
        assert arm["dice"][0] == 0
        assert arm["fixed_changed"] == 0
    assert content["arms"]["refine"]["dice"][2] > content["arms"]["paint"]["dice"][2]
    assert sorted(content["by_set"]) == ["discs", "rings"]


def test_made_masks_have_the_error_that_they_are_named_for():
    truth, rng = disc(SIZE, (60, 70, 30)), np.random.default_rng(0)
    made = {name: make(truth, rng) for name, make in foreign_priors.MAKERS.items()}
    assert np.array_equal(made["exact"], truth)
    assert (made["grown"] & truth).sum() == truth.sum() < made["grown"].sum()
    assert (made["shrunk"] & ~truth).sum() == 0 < made["shrunk"].sum() < truth.sum()
    assert made["shifted"].sum() == pytest.approx(truth.sum(), rel=0.02)
    ratio = made["scaled"].sum() / truth.sum()
    assert min(abs(ratio - factor) for factor in (1.25**2, 1.25**-2)) < 0.1
    for name in ("grown", "shrunk", "shifted", "scaled", "holes"):
        assert 0.5 < dice(made[name], truth) < 0.99, name
    line = np.zeros(SIZE, bool)
    line[40, 20:60] = True
    assert foreign_priors.shrunk(line, rng).any()


def test_foreign_masks_before_and_after(model, collection, tmp_path):
    found = unseen_objects(collection, model.card, most=2)
    cases = found.split("test")
    content = foreign_priors.run(model, found, cases, Options(seeds=(0,)), tmp_path)
    assert list(content["kinds"]) == [*foreign_priors.MAKERS, foreign_priors.BOX]
    for name, row in content["kinds"].items():
        assert row["n"] == len(cases)
        assert row["difference"]["mean"] == pytest.approx(row["after"] - row["before"], abs=2e-6)
        assert 0 <= row["better"] + row["worse"] <= 1, name
    assert content["kinds"]["exact"]["before"] == 1
    assert content["kinds"]["exact"]["better"] == 0
    assert content["kinds"]["shifted"]["after"] > content["kinds"]["shifted"]["before"]
    assert foreign_priors.run(model, found, cases, Options(seeds=(0,)), tmp_path) == content


def test_masks_of_a_second_model(model, tiny_file, collection, tmp_path):
    found = unseen_objects(collection, model.card, most=1)
    options = Options(seeds=(0,), control=tiny_file)
    content = foreign_priors.run(model, found, found.split("test"), options, tmp_path)
    rows = [row for row in content["images"] if foreign_priors.MODEL in row]
    assert content["kinds"].get(foreign_priors.MODEL, {"n": 0})["n"] == len(rows)


def test_a_model_of_several_classes_is_refused(tiny, collection, tmp_path):
    with pytest.raises(InputError, match="several classes"):
        foreign_priors.run(tiny(3), collection, (), Options(), tmp_path)
