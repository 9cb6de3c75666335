"""Images of another scale: what the networks see, and what comes back at full size."""

from dataclasses import replace

import numpy as np
import pytest
from blobs import disc

from napari_hidiff import load_model
from napari_hidiff.errors import InputError
from napari_hidiff.inference import resampling, volumes
from napari_hidiff.inference.card import Card, LocalRegion
from napari_hidiff.masks import dice

SIZE = (96, 128)
SAMPLERS = ("one-step", "ddim", "ancestral")


@pytest.fixture
def trained(tiny):
    """``trained(labels, side)``: a tiny model, trained on pictures of so many pixels."""

    def make(labels=2, side=32):
        return tiny(labels).with_card(longest_side=side)

    return make


def photo(size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)


def strokes(labels=2, size=SIZE):
    """Lines of one pixel beside each other, and a scatter: a small picture has no room for them."""
    fixed = np.full(size, -1)
    for label in range(labels):
        fixed[10:80, 20 + label] = label
    rng = np.random.default_rng(1)
    fixed[rng.random(size) < 0.02] = labels - 1
    return fixed


def looking(low, high, **changes):
    """A card whose training images were of these sizes."""
    looks = {"size": [low, high]}
    return replace(Card("one", (), ("red", "green", "blue")), looks=looks, **changes)


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("side", [32, 256])
def test_every_painted_pixel_stays_at_full_size(trained, labels, sampler, side):
    model, fixed = trained(labels, side), strokes(labels)
    kept = fixed >= 0
    prior = model.prior(photo())
    assert prior.shape == (model.classes, *SIZE)
    start = None if sampler == "one-step" else (model.mask_of(prior), 5)
    steps = list(model.steps(photo(), prior, fixed, sampler, samples=2, start=start))
    for step in steps:
        assert step.mask.shape == SIZE
        assert step.each.shape[1:] == step.sample.shape[1:] == (model.classes, *SIZE)
        for masks in (step.probability, *step.each, *step.sample):
            assert np.array_equal(model.mask_of(masks)[kept], fixed[kept])
    if labels > 2:
        np.testing.assert_allclose(steps[-1].probability.sum(0), 1, atol=1e-5)
    result = model.refine(photo(), prior, fixed, sampler, samples=2)
    assert result.uncertainty.shape == SIZE
    assert result.uncertainty[kept].max() < 1e-4


def test_the_networks_see_the_scale_of_training(trained):
    model = trained()
    seen = resampling.whole(model.card, SIZE, None)
    assert seen.size == (24, 32)
    small = seen.image(photo().astype(np.float32))
    alone = model.prior(small, scale=1)
    np.testing.assert_array_equal(model.prior(photo()), seen.back(alone))
    assert model.prior(photo(), scale=1).std() != model.prior(photo()).std()


def test_nothing_is_resampled_where_scales_are_alike_or_it_is_turned_off(tiny, trained):
    plain, fixed = tiny(), strokes()
    for side, scale in ((128, None), (86, None), (191, None), (32, 1)):
        model = trained(side=side)
        np.testing.assert_array_equal(model.prior(photo(), scale=scale), plain.prior(photo()))
        one, other = (m.refine(photo(), fixed=fixed, scale=scale) for m in (model, plain))
        np.testing.assert_array_equal(one.probability, other.probability)
    assert trained(side=85).card.scale(SIZE) == 85 / 128
    assert trained(side=193).card.scale(SIZE) == 193 / 128
    for scale in (0, -1, 17):
        with pytest.raises(InputError, match="a scale lies between 0 and 16"):
            plain.refine(photo(), scale=scale)


def test_a_slice_alone_is_a_slice_of_a_volume(trained):
    model = trained(3)
    planes = volumes.normalise(model, np.stack([photo(seed=n) for n in range(3)]))
    fixed = [strokes(3), None, strokes(3)]
    mask = np.random.default_rng(3).integers(0, 3, SIZE)
    found = volumes.together(model, planes, [None, mask, None], fixed)
    np.testing.assert_allclose(found.prior[:, 0], volumes.prior(model, planes)[:, 0], atol=1e-5)
    for number, given in enumerate((None, mask, None)):
        alone = model.refine(planes[number], given, fixed[number], normalised=True)
        close = np.abs(found.probability[:, number] - alone.probability) < 1e-4
        assert close.mean() > 0.98
        if fixed[number] is not None:
            kept = fixed[number] >= 0
            mine = model.mask_of(found.probability[:, number])
            assert np.array_equal(mine[kept], fixed[number][kept])


def test_around_a_local_refinement_everything_stays_exactly(trained):
    model = trained(side=384).with_card(local={"reach": 8, "fade": 8})
    image, size = photo((1152, 1152)), (1152, 1152)
    standing = model.prior(image)
    where = np.zeros(size, bool)
    where[60:80, 60:70] = True
    fixed = np.where(where, 1, -1)
    *_, last = model.steps(image, standing, fixed, local=LocalRegion(where, standing))
    moved = (last.probability != standing).any(0)
    assert moved[where].all()
    assert moved[40:110, 40:110].mean() > 0.9
    assert not moved[200:].any()
    assert not moved[:, 200:].any()


def test_a_mask_keeps_its_form_through_the_scale_of_training():
    view = resampling.whole(looking([30, 40], [30, 40]), (300, 400), None)
    assert view.size == (30, 40)
    for labels in (2, 3):
        mask = disc((300, 400), (150, 200, 90)).astype(int) * (labels - 1)
        small = view.mask(mask, 1 if labels == 2 else labels)
        onehot = (small == labels - 1).astype(np.float32)[None]
        assert dice(view.back(onehot)[0] >= 0.5, mask > 0) > 0.97


def test_the_card_knows_the_scale():
    fundus = looking([960, 999], [960, 999])
    assert fundus.trained_side == 999
    assert fundus.scale((3321, 3456)) == 999 / 3456
    assert fundus.scale((565, 584)) == 999 / 584
    assert fundus.scale((640, 1400)) == fundus.scale((700, 700)) == 1
    assert looking([500, 500], [600, 700]).trained_side == 592
    polyps = looking([500, 500], [1000, 1300])
    assert polyps.trained_side == 0
    assert replace(polyps, longest_side=256).scale((1000, 1300)) == 256 / 1300
    for rule in ("zscore", "window"):  # a larger slice of MRI or CT shows more
        assert looking([40, 50], [40, 50], intensity={"rule": rule}).scale((400, 400)) == 1
    assert replace(fundus, prompted=True).scale((3000, 3000)) == 1
    brain = replace(fundus, spacing=(3.0, 1.0, 1.0))
    assert brain.scale((400, 400), (0.5, 0.5)) == 0.5
    assert brain.scale((400, 400), (0.9, 0.9)) == brain.scale((4000, 4000)) == 1
    assert Card.from_json(brain.to_json()).scale((9, 9), (2, 2)) == 2
    assert fundus.scale((20, 20)) == 16


def test_the_bundled_model_finds_the_same_in_a_larger_photo(sample_pair):
    """Vessels of a photo of three times the side (9 times the pixels)."""
    whole = sample_pair[0].shape[:2]
    image, truth = (array[300:700, 300:700] for array in sample_pair)
    model = load_model("chase-vessels", device="cpu", engine="packed")
    large, drawn = (
        np.kron(a, np.ones((3, 3, *[1] * (a.ndim - 2)), np.uint8)) for a in (image, truth)
    )
    assert model.view(whole, None) is None, "the sample has the scale of training"
    assert load_model("hippocampus", device="cpu").view((240, 240), None) is None
    model = model.with_card(longest_side=400)
    before = model.refine(image)
    after = model.refine(large)
    assert after.mask.shape == drawn.shape
    assert dice(after.mask > 0, drawn > 0) > dice(before.mask > 0, truth > 0) - 0.02
