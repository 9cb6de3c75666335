"""Tiles and surroundings: what they cover, and that they change (almost) nothing."""

import numpy as np
import pytest

import napari_hidiff
from napari_hidiff.errors import InputError
from napari_hidiff.inference import tiling
from napari_hidiff.inference.card import LocalRegion
from napari_hidiff.inference.tiling import GRID, cut, surroundings


@pytest.fixture(scope="module")
def model():
    return napari_hidiff.load_model("chase-vessels", device="cpu")


@pytest.mark.parametrize("size", [(32, 32), (2048, 2048), (2080, 4992), (4992, 3200)])
def test_inner_parts_are_the_image_once_and_outer_ones_start_on_the_grid(size):
    count = np.zeros(size, np.uint8)
    for tile in cut(*size, tiling.HALO):
        count[tile.inner] += 1
        for inner, outer, side in zip(tile.inner, tile.outer, size, strict=True):
            assert outer.start % GRID == 0
            assert outer.start <= inner.start < inner.stop <= outer.stop <= side
        result = np.zeros(size)[tile.outer][tile.kept]
        assert result.shape == count[tile.inner].shape
    assert (count == 1).all()
    assert (len(cut(*size, tiling.HALO)) == 1) == (np.prod(size) <= tiling.WHOLE)


def test_tiled_equals_untiled(model, sample_pair, monkeypatch):
    image = sample_pair[0][100:644, 300:844]
    whole = model.refine(image, sampler="ddim", steps=2, samples=1, seed=1)
    fresh = napari_hidiff.load_model("chase-vessels", device="cpu")
    for name, value in (("SIDE", GRID), ("WHOLE", 0)):
        monkeypatch.setattr(tiling, name, value)
    tiled = fresh.refine(image, sampler="ddim", steps=2, samples=1, seed=1)
    assert len(cut(*image.shape[:2], tiling.HALO)) == 9, "one has others on all sides"
    np.testing.assert_allclose(tiled.probability, whole.probability, atol=1e-5)
    assert whole.mask.any()


@pytest.fixture(scope="module")
def corrected(model, _sample):
    """The sample, where a stroke is, and what is refined without it and with it."""
    image = _sample[0][100:868, 100:868]
    where = np.zeros(image.shape[:2], bool)
    where[300:310, 420:430] = True
    again = {"fixed": np.where(where, 1, -1), "sampler": "one-step"}
    first, whole = model.refine(image, sampler="one-step"), model.refine(image, **again)
    return image, where, again, first, whole


@pytest.mark.parametrize(("reach", "fade"), [(48, 16), (9, 5)])
def test_only_the_surroundings_of_a_stroke_are_computed(model, corrected, reach, fade):
    """48 and 16 pixels, or what the model's card says."""
    image, where, again, first, whole = corrected
    if reach != 48:
        model = model.with_card(local={"reach": reach, "fade": fade})
    local = model.refine(image, **again, local=LocalRegion(where, first.probability))
    rows, columns = (np.arange(side) for side in where.shape)
    beyond = np.maximum(
        np.maximum(300 - rows, rows - 309)[:, None], np.maximum(420 - columns, columns - 429)
    )
    far, near = beyond > reach + fade, beyond <= reach
    np.testing.assert_array_equal(local.probability[0][far], first.probability[0][far])
    assert (local.mask[where] == 1).all()
    assert (local.mask[near] == whole.mask[near]).mean() > 0.95
    assert (local.mask != first.mask).any()


def test_what_is_no_smaller_than_the_image_is_no_surroundings():
    standing = np.full((1, 300, 300), 0.5, np.float32)
    where = np.zeros((300, 300), bool)
    assert surroundings(LocalRegion(where, standing), 48, 16) is None, "nothing is marked"
    where[150, 150] = True
    assert surroundings(LocalRegion(where, standing), 48, 16) is None
    wide = np.zeros((2048, 2048), bool)
    wide[1000, 300] = True
    found = surroundings(LocalRegion(wide, np.zeros((1, 2048, 2048), np.float32)), 48, 16)
    assert found is not None
    assert found.weight.max() == 1
    assert found.weight.min() < 0.1
    assert all(side.stop - side.start <= 2 * GRID for side in found.tile.outer)


def test_a_local_refinement_of_another_size_is_refused(model, sample_pair):
    where = np.zeros((10, 10), bool)
    with pytest.raises(InputError, match="local refinement"):
        model.steps(sample_pair[0], local=LocalRegion(where, np.zeros((1, 10, 10), np.float32)))
