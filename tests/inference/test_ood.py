"""An image unlike those of the model is doubted; the test images of the bundled models are not."""

import json

import numpy as np
import pytest
from skimage.data import camera

from napari_hidiff.inference import catalog
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.ood import features, fitting, image_statistics, merged, ood_reasons
from napari_hidiff.training.datasets import open_dataset


def card(name):
    return catalog.read_card(catalog.find_model(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dataset", "folder"),
    [
        ("chase-vessels", "chase", "CHASEDB1"),
        ("hippocampus", "msd", "Task04_Hippocampus"),
        ("polyps", "kvasir", "Kvasir-SEG"),
    ],
)
def test_no_false_alarm_on_test_images(real_data, name, dataset, folder):
    known, found = card(name), open_dataset(dataset, real_data(folder))
    for case in found.split("test"):
        image = found.load(case).image
        for plane in [image] if image.ndim == 3 else image:
            if plane.max() > plane.min():  # some slices are empty
                scale = known.scale(plane.shape[:2])
                assert ood_reasons(plane, known.channels, known.looks, scale=scale) == [], case.id


@pytest.mark.slow
def test_a_picture_is_offered_to_the_model_of_its_kind(real_data, chase_data):
    """Both models read colours; the ranges of 792 polyps alone would take a fundus for a colon."""
    cards = {name: card(name) for name in ("chase-vessels", "polyps")}
    sets = {"chase-vessels": ("chase", chase_data), "polyps": ("kvasir", real_data("Kvasir-SEG"))}
    for name, (dataset, folder) in sets.items():
        found = open_dataset(dataset, folder)
        for case in found.split("test")[::4]:
            image = found.load(case).image
            offered = fitting({known: (cards[known], image) for known in cards})
            assert offered[0] == name, case.id
            assert name == "polyps" or "polyps" not in offered, case.id
    slice_of_ct = np.stack([camera()] * 3, -1)
    assert fitting({"polyps": (cards["polyps"], slice_of_ct)}) == []


def test_features_of_many_pictures_are_judged_together():
    """Two features that go up and down together: each value is usual, the pair is not."""
    rng = np.random.default_rng(0)
    shade = rng.uniform(0.2, 0.8, 150)
    pictures = [ramp(value) for value in shade]
    looks = json.loads(json.dumps(image_statistics(pictures, ("r", "g"))))
    rows = np.array([[*features(picture, ("r", "g")).values()] for picture in pictures])
    joint = looks["joint"]
    np.testing.assert_allclose(joint["mean"], rows.mean(0), atol=1e-4)
    np.testing.assert_allclose(
        joint["covariance"], np.cov(rows.T) + 0.02**2 * np.eye(rows.shape[1]), atol=1e-4
    )
    away = rows - rows.mean(0)
    inverse = np.linalg.inv(np.cov(rows.T) + 0.02**2 * np.eye(rows.shape[1]))
    distances = np.sqrt([row @ inverse @ row for row in away])
    assert joint["limit"] == pytest.approx(np.quantile(distances, 0.995), rel=0.05)
    assert ood_reasons(ramp(0.5), ("r", "g"), looks) == []
    odd = np.stack([ramp(0.4)[..., 0], ramp(0.6)[..., 1]], -1)
    alone = {name: value for name, value in looks.items() if name != "joint"}
    assert ood_reasons(odd, ("r", "g"), alone) == []
    assert ood_reasons(odd, ("r", "g"), looks) == ["its tones and colours differ"]
    assert "joint" not in image_statistics(pictures[:99], ("r", "g"))


def ramp(shade):
    """A picture [32, 32, 2] of which a share is dark, the same in both channels."""
    values = np.linspace(0, 1, 1024) ** (0.5 + 2 * shade)
    noise = np.random.default_rng(int(1e6 * shade)).normal(0, 0.01, (1024, 2))
    return (values[:, None] + noise).reshape(32, 32, 2)


@pytest.mark.slow
def test_alarm_on_what_is_no_fundus(chase_data):
    known, found = card("chase-vessels"), open_dataset("chase", chase_data)
    photograph = np.stack([camera()] * 3, -1)
    for case in found.split("test")[::2]:  # one eye of each child
        sample = found.load(case)
        assert alarm(known, 255 - sample.image) == "bright and dark seem exchanged"
        assert alarm(known, np.stack([sample.mask * 255] * 3, -1)).endswith("a mask?")
    deep = sample.image.astype(np.uint16) * 257
    assert ood_reasons(deep, known.channels, known.looks) == []  # bit depth does not matter
    assert alarm(known, photograph).endswith("grey?")
    assert "same value everywhere" in alarm(known, np.full((960, 999, 3), 7, np.uint8))
    assert "has 96 x 100 pixels" in alarm(known, sample.image[::10, ::10])


def test_alarm_on_what_is_no_hippocampus():
    known = card("hippocampus")
    assert "512 x 512 pixels, training images 40-59 x 31-43" in alarm(known, camera())
    mask = np.zeros((50, 36), np.uint8)
    mask[20:30, 10:20] = 2
    assert alarm(known, mask).endswith("a mask?")


def alarm(known, image):
    (first, *_) = ood_reasons(image, known.channels, known.looks)
    return first


def test_windowed_values_are_compared_as_they_are():
    rng = np.random.default_rng(0)
    hounsfield = rng.normal(0, 300, (64, 64, 1)).clip(-1000, 1500)
    looks = image_statistics([hounsfield], ("CT",))
    assert ood_reasons(hounsfield, ("CT",), looks, windowed=True) == []
    eight_bit = ((hounsfield + 1000) / 10).astype(np.uint8)
    assert "its values are" in ood_reasons(eight_bit, ("CT",), looks, windowed=True)[0]


def test_looks_of_parts_are_those_of_the_whole(sample_pair):
    image, _ = sample_pair
    parts = [image[:480], image[480:]]
    whole = image_statistics(parts, ("r", "g", "b"))
    assert merged([image_statistics([part], ("r", "g", "b")) for part in parts] + [{}]) == whole
    assert json.loads(json.dumps(whole)) == whole
    assert image_statistics([np.zeros((20, 20, 1))], ("g",)) == {}
    assert set(features(image, ("r", "g", "b"))) == set(whole["features"])


def test_a_card_without_looks_still_loads_and_doubts_little(sample_pair):
    image, truth = sample_pair
    old = json.loads(card("chase-vessels").to_json())
    old.pop("looks")
    known = Card.from_json(json.dumps(old))
    assert known.looks == {}
    assert ood_reasons(255 - image, known.channels, known.looks) == []
    assert alarm(known, np.stack([truth * 255] * 3, -1)).endswith("a mask?")
