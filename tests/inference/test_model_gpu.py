"""Masks of a CUDA device against those of the CPU."""

import numpy as np
import pytest
import torch

from napari_hidiff.engine.graphs import GraphRefiner
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.io.images import sample

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture(scope="module")
def models():
    return [load_model("chase-vessels", where, engine="torch") for where in ("cpu", "cuda")]


def differing(models, **how):
    expected, found = (model.refine(sample()[0], scale=1, **how) for model in models)
    return np.mean(found.mask != expected.mask), found


def test_one_step_masks_differ_in_at_most_one_pixel_of_ten_thousand(models):
    share, _ = differing(models, sampler="one-step")
    assert share <= 1e-4


def test_a_seed_draws_the_same_mask_but_for_few_pixels(models):
    share, found = differing(models, sampler="ddim", steps=3, samples=5, seed=1)
    assert share <= 1e-3
    assert [step.each.shape[0] for step in found.steps] == [5, 5, 5]
    steps = models[1].backend.pick().refiner
    assert isinstance(steps, GraphRefiner)
    assert len(steps) >= 1
    assert models[1].backend.note == ""
