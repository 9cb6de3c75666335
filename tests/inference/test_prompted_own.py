"""A prompted model with a segmentor of one's own: its prior, at any size, and files."""

import dataclasses

import numpy as np
import pytest
import torch
from blobs import disc, picture

from napari_hidiff import load_model
from napari_hidiff.inference import volumes
from napari_hidiff.inference.box import prior_in_box
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.prompted import TRUST
from napari_hidiff.masks import Box, dice
from napari_hidiff.networks.segmentor_registry import OwnSegmentor
from napari_hidiff.training.universal.own_segmentor import joined

SIZE, ONE = (180, 240), (90, 110, 32)


class Bright(torch.nn.Module):
    """Sure that what is brighter than the mean of the image is the object."""

    def forward(self, image):
        return 40 * image[:, :1], []


@pytest.fixture(scope="module")
def model():
    plain = load_model("universal", device="cpu", engine="torch")
    own = {"name": "own", "encoder": plain.card.segmentor, "own": {"name": "encoder-decoder"}}
    card = dataclasses.replace(plain.card, segmentor=own)
    made = HiDiff.create(card)
    assert isinstance(made.segmentor, OwnSegmentor)
    made = joined(plain, card, made.segmentor.own)
    made.segmentor.own = Bright()
    return made


def test_the_prior_is_that_of_its_own_segmentor_drawn_towards_a_half(model):
    image = np.zeros((300, 500, 3), np.uint8)
    image[60:200, 100:260] = 200
    prior = model.prior(image)
    assert prior.shape == (1, 300, 500)
    assert prior.max() == pytest.approx(0.5 + TRUST / 2, abs=1e-4)
    assert prior.min() == pytest.approx(0.5 - TRUST / 2, abs=1e-4)
    assert dice(model.mask_of(prior), image[..., 0] > 0) > 0.98


def test_it_finds_without_a_prompt_and_keeps_what_is_painted(model):
    image, truth = picture(SIZE, [ONE]), disc(SIZE, ONE)
    assert not model.card.needs_prompt
    assert dice(model.refine(image).mask, truth) > 0.8
    fixed = np.full(SIZE, -1)
    fixed[80:90, 100:110] = 0
    refined = model.refine(image, fixed=fixed).mask
    assert not refined[80:90, 100:110].any()
    given = np.zeros(SIZE, np.uint8)
    given[20:60, 20:60] = 1
    assert not np.array_equal(model.refine(image, given).mask, refined)


def test_a_box_is_answered_from_the_box_alone(model):
    image = picture(SIZE, [ONE, (40, 200, 20)])
    plain = load_model("universal", device="cpu", engine="torch")
    box = Box(56, 76, 125, 145)
    wanted = prior_in_box(plain, image, box).prior
    assert np.array_equal(prior_in_box(model, image, box).prior, wanted)


def test_every_slice_of_a_volume_starts_from_it(model):
    planes = np.stack([picture(SIZE, [ONE]), picture(SIZE, [(60, 80, 30)])])
    assert np.array_equal(volumes.prior(model, planes)[:, 1], model.prior(planes[1]))
    refined = volumes.refine(model, planes)
    assert np.array_equal(refined[:, 0], model.refine(planes[0]).probability)


def test_a_file_holds_it(tmp_path, model):
    plain = load_model("universal", device="cpu", engine="torch")
    made = joined(plain, model.card, HiDiff.create(model.card, seed=3).segmentor.own)
    made.save(tmp_path / "own.safetensors")
    read = load_model(tmp_path / "own.safetensors", device="cpu", engine="torch")
    image = picture(SIZE, [ONE])
    np.testing.assert_allclose(read.prior(image), made.prior(image), atol=2e-3)  # float16
    stroke = np.where(disc(SIZE, (90, 110, 9)), 1, -1)
    for told in ({"fixed": stroke, "prior": np.full((1, *SIZE), 0.5, np.float32)},):
        assert np.array_equal(read.refine(image, **told).mask, plain.refine(image, **told).mask)
