"""A prompted model: an encoder without an opinion, hypotheses, and its card."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_hidiff.engine.packed_refiner import compile_refiner
from napari_hidiff.inference.card import Card, Label
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.networks import Refiner, build_segmentor

CARD = Card(
    name="universal",
    classes=(Label("background", "#000000"), Label("object", "#ff4040")),
    channels=("red", "green", "blue"),
    segmentor={"name": "encoder"},
    refiner={"width": 32, "stem": 2, "hypotheses": 3},
    defaults={"sampler": "one-step", "steps": 3, "samples": 5},
    prompted=True,
    longest_side=256,
)


@pytest.fixture(scope="module")
def model():
    """A model whose weights are drawn, statistics and last layer too, so that it says something."""
    made = HiDiff.create(CARD)
    torch.manual_seed(1)
    for module in made.refiner.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(made.refiner.head.weight, std=0.05)
    return made


@pytest.fixture(scope="module")
def asked():
    """An image uint8 [75, 90, 3] and a fixed map with a stroke of either kind."""
    rng = np.random.default_rng(0)
    fixed = np.full((75, 90), -1)
    fixed[20:30, 40:50], fixed[60:64, 5:20] = 1, 0
    return rng.integers(0, 256, (75, 90, 3)).astype(np.uint8), fixed


def test_an_encoder_has_features_and_no_opinion():
    encoder = build_segmentor("encoder", channels=3, classes=1).eval()
    logits, features = encoder(torch.randn(2, 3, 75, 90))
    assert logits.shape == (2, 1, 75, 90)
    assert not logits.any()
    sides = [(feature.shape[1], *feature.shape[2:]) for feature in features]
    strides = (4, 8, 16, 32)
    wanted = [(c, 96 // s, 96 // s) for c, s in zip(encoder.feature_channels, strides, strict=True)]
    assert sides == wanted


def test_the_segmentor_has_no_opinion_and_the_model_no_mask(model, asked):
    logits, _ = model.segmentor(torch.randn(1, 3, 64, 64))
    assert (logits == 0).all(), "a prior of 1/2"
    assert not model.prior(asked[0]).any()


def test_the_first_channel_of_the_answers_is_the_answer(model, asked):
    image = torch.randn(1, 3, 64, 64)
    _, features = model.segmentor(image)
    prior, free = torch.full((1, 1, 64, 64), 0.5), torch.full((1, 64, 64), -1)
    condition = model.refiner.condition(image, prior, free, features)
    y_t = torch.ones(1, 1, 64, 64)
    answers = model.refiner.answers(y_t, 10, condition)
    assert answers.shape == (1, 4, 64, 64)
    assert torch.equal(model.refiner(y_t, 10, condition), answers[:, :1])
    assert len({round(float(channel.sum()), 3) for channel in answers[0]}) == 4


def test_hypotheses_are_those_of_one_class():
    with pytest.raises(ValueError, match="3 classes cannot have 2 hypotheses"):
        Refiner(3, 3, [], hypotheses=2)


def test_packed_answers_are_those_of_torch(model, asked):
    """All channels, up to the rounding of the last real layer; masks are the same."""
    image = torch.randn(1, 3, 64, 96)
    _, features = model.segmentor(image)
    prior, fixed = torch.full((1, 1, 64, 96), 0.5), torch.full((1, 64, 96), -1)
    y_t = torch.ones(1, 1, 64, 96)
    packed = compile_refiner(model.refiner)
    both = [
        refiner.answers(y_t, 10, refiner.condition(image, prior, fixed, features))
        for refiner in (packed, model.refiner)
    ]
    torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("export", [False, True])
def test_a_saved_model_answers_the_same_on_both_engines(model, asked, tmp_path, export):
    image, fixed = asked
    path = tmp_path / "universal.safetensors"
    model.save(path, export=export)
    results = [
        load_model(path, "cpu", engine).refine(image, fixed=fixed) for engine in ("packed", "torch")
    ]
    assert [result.engine for result in results] == ["packed", "torch"]
    assert np.array_equal(results[0].mask, results[1].mask)
    assert 0 < results[0].mask.mean() < 1
    assert np.array_equal(results[0].mask[fixed >= 0], fixed[fixed >= 0])


def test_the_card_says_what_the_model_is(model, tmp_path):
    path = tmp_path / "universal.safetensors"
    model.save(path)
    card = load_model(path, "cpu", "torch").card
    assert (card.prompted, card.longest_side, card.hypotheses) == (True, 256, 3)


def test_cards_of_earlier_versions_open_unchanged():
    card = replace(CARD, refiner={"width": 32}, prompted=False, longest_side=0)
    written = json.loads(card.to_json())
    older = {k: v for k, v in written.items() if k not in ("prompted", "longest_side")}
    assert Card.from_json(json.dumps(older)) == card
    assert Card.from_json(json.dumps(older)).hypotheses == 0
