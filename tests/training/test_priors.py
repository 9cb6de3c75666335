"""Priors with errors, and corrections as an annotator would make them."""

import numpy as np
import pytest
import torch

from napari_hidiff.diffusion.bernoulli import BernoulliDiffusion
from napari_hidiff.masks import dice, mask_of
from napari_hidiff.training.losses import draw, one_hot, walked
from napari_hidiff.training.priors import corrupt
from napari_hidiff.training.simulated_annotator import simulate_corrections


def blobs(seed=0, labels=2, size=96):
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:size, :size]
    truth = np.zeros((size, size), np.int64)
    for i in range(6):
        y, x, r = (int(rng.integers(*bounds)) for bounds in ((0, size), (0, size), (5, 14)))
        truth[(rows - y) ** 2 + (columns - x) ** 2 < r**2] = 1 + i % (labels - 1)
    onehot = (truth == np.arange(labels)[:, None, None]).astype(np.float32)
    soft = 0.05 + (1 - 0.05 * labels) * onehot
    return truth, (soft[1:] if labels == 2 else soft)


@pytest.mark.parametrize("labels", [2, 3])
def test_corruption_lowers_dice_and_stays_a_prior(labels):
    scores = []
    for seed in range(20):
        truth, prior = blobs(seed, labels)
        damaged = corrupt(prior, np.random.default_rng(seed))
        assert damaged.dtype == np.float32
        assert damaged.shape == prior.shape
        assert ((damaged >= 0) & (damaged <= 1)).all()
        if labels > 2:
            np.testing.assert_allclose(damaged.sum(0), 1, atol=1e-5)
        scores.append(dice(mask_of(damaged), truth))
    assert 0.3 < np.mean(scores) < 0.95
    truth, prior = blobs()
    again = [corrupt(prior, np.random.default_rng(7)) for _ in range(2)]
    assert np.array_equal(*again)


def test_corrections_are_true_and_lie_on_errors():
    touched = []
    for seed in range(20):
        truth, prior = blobs(seed, 3)
        mask = mask_of(corrupt(prior, np.random.default_rng(seed)))
        fixed = simulate_corrections(mask, truth, np.random.default_rng(seed))
        where = fixed >= 0
        assert (fixed[where] == truth[where]).all()
        errors = mask != truth
        assert where.any() == errors.any()
        touched.append((where & errors).any() or not errors.any())
        assert where.mean() < 0.5
    assert all(touched)


def test_a_perfect_mask_needs_no_correction():
    truth, _ = blobs()
    assert (simulate_corrections(truth, truth, np.random.default_rng(0)) == -1).all()


@pytest.mark.parametrize("one_step", [0.0, 0.5, 1.0])
def test_the_forward_draw_keeps_fixed_pixels_and_starts_where_the_sampler_does(one_step):
    truth = torch.from_numpy(np.stack([blobs(seed)[0] for seed in range(40)]))
    y0 = one_hot(truth, 1)
    generator = torch.Generator().manual_seed(0)
    prior = torch.rand(y0.shape, generator=generator)
    fixed = torch.where(torch.rand(truth.shape, generator=generator) < 0.1, truth, -1)
    noisy = draw(BernoulliDiffusion(10), y0, prior, fixed, one_step, torch.arange(40), 0)
    assert noisy.y_t.shape == y0.shape
    where = fixed >= 0
    assert (noisy.y_t[:, 0][where] == truth[where]).all()
    assert int(noisy.t.min()) >= 1
    assert int(noisy.t.max()) == 10
    free = ~where
    started = [
        bool((y[0][f] == (p[0] >= 0.5)[f].float()).all())
        for y, f, p in zip(noisy.y_t, free, prior, strict=True)
    ]
    assert abs(np.mean(started) - one_step) < 0.25
    assert (noisy.t[torch.tensor(started)] == 10).all()


def test_one_hot():
    truth = torch.tensor([[[0, 2], [1, 0]]])
    assert one_hot(truth, 3)[0, :, 0, 1].tolist() == [0, 0, 1]
    assert one_hot(truth.clamp(max=1), 1).shape == (1, 1, 2, 2)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_draws_comes_from_the_network_s_own_trajectory(share):
    """A network that answers 1 everywhere leads to more ones than the truth, which is 0."""
    process, numbers = BernoulliDiffusion(10), torch.arange(60)
    y0 = torch.zeros(60, 1, 32, 32)
    prior = torch.full_like(y0, 0.2)
    fixed = torch.full((60, 32, 32), -1)
    fixed[:, :4] = 0
    noisy = draw(process, y0, prior, fixed, 0.2, numbers, 0)

    def answer(y_t, given):
        assert ((y_t == 0) | (y_t == 1)).all()
        assert torch.equal(given, fixed)
        return torch.ones_like(y_t)

    one, again = (walked(process, answer, noisy, prior, fixed, share, numbers, 4) for _ in range(2))
    assert torch.equal(one.y_t, again.y_t)
    assert torch.equal(one.t, noisy.t)
    assert (one.y_t[:, :, :4] == 0).all()
    changed = (one.y_t != noisy.y_t).flatten(1).any(1)
    below = noisy.t < 10
    assert not changed[~below].any()
    assert float(changed[below].float().mean()) == pytest.approx(share, abs=0.2)
    sigma = (1 - process.alphas_bar[noisy.t]) / (1 - process.alphas_bar[10])
    wanted = (sigma * 0.2 + 1 - sigma)[changed]
    found = one.y_t[changed][:, :, 4:].mean((1, 2, 3))
    torch.testing.assert_close(found, wanted.to(found), atol=0.06, rtol=0)
