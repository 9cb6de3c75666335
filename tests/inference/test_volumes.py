"""A volume through a model of slices: the same as slice by slice, in batches."""

import numpy as np
import pytest
import torch

from napari_hidiff.diffusion.bernoulli import bernoulli
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes


def same(probability, other):
    """Equal up to float rounding, but for the few pixels that it pushes over a threshold: a sign
    in a binary layer, a draw of the noise."""
    return (np.abs(probability - other) > 1e-5).mean() < 0.01


def scan(depth=5, height=37, width=50, channels=1, seed=0):
    """A volume whose slices differ in level, int16 [D, H, W, C]."""
    rng = np.random.default_rng(seed)
    level = 200 * np.arange(depth)[:, None, None, None]
    return (level + rng.normal(500, 90, (depth, height, width, channels))).astype(np.int16)


@pytest.fixture(autouse=True)
def batches(monkeypatch):
    """Two of the padded slices at a time, so that five make chunks of 2, 2 and 1."""
    monkeypatch.setattr(volumes, "PIXELS_AT_ONCE", 2 * 64 * 64)


@pytest.mark.parametrize(
    ("labels", "sampler", "kind"),
    [
        (2, "one-step", "mask"),
        (3, "one-step", "own"),
        (2, "ddim", "own"),
        (3, "ddim", "mask"),
        (2, "ancestral", "probabilities"),
        (3, "ancestral", "probabilities"),
    ],
)
def test_a_volume_is_refined_as_its_slices_are(tiny, labels, sampler, kind):
    model = tiny(labels, 1)
    volume = volumes.normalise(model, scan())
    rng = np.random.default_rng(1)
    start = None
    if kind == "mask":
        start = rng.integers(0, labels, volume.shape[:3])
    elif kind == "probabilities":
        drawn = rng.random((model.classes, *volume.shape[:3]), np.float32)
        start = drawn if labels == 2 else drawn / drawn.sum(0)
    seen = []
    settings = {"sampler": sampler, "steps": 3, "samples": 2, "seed": 7}
    refined = volumes.refine(model, volume, start, seen.append, model.sampling(**settings))
    assert seen == [0, 2, 4]
    assert refined.shape == (model.classes, *volume.shape[:3])
    assert refined.dtype == np.float32
    for index, plane in enumerate(volume):
        alone = None if start is None else start[..., index, :, :]
        result = model.refine(plane, alone, normalised=True, **settings)
        assert same(refined[:, index], result.probability)
    other = volumes.refine(model, volume, start, sampling=model.sampling(**settings | {"seed": 8}))
    assert same(other, refined) == (sampler == "one-step")


@pytest.mark.parametrize("labels", [2, 3])
def test_the_prior_of_a_volume_is_that_of_its_slices(tiny, labels):
    model = tiny(labels, 2)
    volume = volumes.normalise(model, scan(channels=2))
    prior = volumes.prior(model, volume)
    assert prior.shape == (model.classes, *volume.shape[:3])
    for index, plane in enumerate(volume):
        alone = model.prior(plane, normalised=True)
        assert np.abs(prior[:, index] - alone).max() < 1e-5


def test_the_chunks_make_no_difference(tiny, monkeypatch):
    model = tiny(3, 1)
    volume = volumes.normalise(model, scan(depth=7))
    runs = []
    for together in (1, 3, 100):
        monkeypatch.setattr(volumes, "PIXELS_AT_ONCE", together * 64 * 64)
        sizes = []
        hook = model.segmentor.register_forward_pre_hook(
            lambda module, inputs, sizes=sizes: sizes.append(len(inputs[0]))
        )
        runs.append(volumes.refine(model, volume, sampling=model.sampling("one-step")))
        hook.remove()
        assert max(sizes) == min(together, 7)
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])


def test_the_statistics_are_those_of_the_whole_volume(tiny):
    model = tiny(2, 1)
    volume = scan()
    normalised = volumes.normalise(model, volume)
    assert normalised.dtype == np.float32
    assert normalised.mean() == pytest.approx(0, abs=1e-5)
    assert normalised.std() == pytest.approx(1, abs=1e-5)
    values = volume.astype(np.float64)
    expected = (values - values.mean()) / values.std()
    assert np.abs(normalised - expected).max() < 1e-5
    assert np.ptp(normalised.mean((1, 2, 3))) > 1  # slices keep their differences


def test_slices_share_one_draw_of_noise():
    mean = torch.rand(4, 2, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    together = bernoulli(mean, torch.Generator().manual_seed(9))
    for index in range(4):
        alone = bernoulli(mean[index], torch.Generator().manual_seed(9))
        assert torch.equal(together[index], alone)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"prior": np.zeros((4, 37, 50), int)}, "4 slices"),
        ({"prior": np.zeros((5, 37, 51), int)}, "shape"),
        ({"prior": np.full((5, 37, 50), 2)}, "label 2"),
        ({"prior": np.full((1, 5, 37, 50), 1.5)}, "between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, change, part):
    model = tiny(2, 1)
    volume = volumes.normalise(model, scan())
    with pytest.raises(InputError, match=part):
        volumes.refine(model, volume, **change)


@pytest.mark.parametrize(
    ("change", "part"),
    [({"sampler": "euler"}, "one-step"), ({"steps": 99}, "steps"), ({"samples": 0}, "samples")],
)
def test_a_sampling_that_no_model_knows_is_refused(tiny, change, part):
    with pytest.raises(InputError, match=part):
        tiny(2, 1).sampling(**change)


def test_a_volume_that_the_model_cannot_read_is_refused(tiny):
    model = tiny(2, 1)
    broken = scan().astype(np.float32)
    broken[3, 2, 2] = np.nan
    for volume, part in ((broken, "NaN"), (scan(height=9), "9 x 50"), (scan(channels=2), "2 ch")):
        with pytest.raises(InputError, match=part):
            volumes.normalise(model, volume)
