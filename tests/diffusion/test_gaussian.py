"""The Gaussian kernel against its formulas and against numerical integration."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from napari_hidiff.diffusion import process_of
from napari_hidiff.diffusion.gaussian import GaussianDiffusion, normal
from napari_hidiff.diffusion.process import noise_for
from napari_hidiff.diffusion.samplers import stream
from napari_hidiff.training.losses import draw, walked

TEN = GaussianDiffusion(10)
SIDE = 200
FREE = torch.full((SIDE, SIDE), -1)


def drawn(seed, *shape):
    return noise_for(torch.empty(shape), torch.Generator().manual_seed(seed))


def test_the_card_s_entry_names_the_kernel():
    assert process_of({"steps": 7}).binary
    process = process_of({"steps": 7, "schedule": "alpha-bar-linear", "kernel": "gaussian"})
    assert isinstance(process, GaussianDiffusion)
    assert not process.binary
    bernoulli = process_of({"steps": 7, "schedule": "alpha-bar-linear"})
    assert torch.equal(process.alphas_bar, bernoulli.alphas_bar)
    assert process.timesteps(3) == bernoulli.timesteps(3)
    with pytest.raises(ValueError, match=r"kernel must be one of .*'gaussian'.*, not 'poisson'"):
        process_of({"kernel": "poisson"})


def test_uniform_noise_becomes_normal_at_its_edges_too():
    last = 1 - 2.0**-24
    edges = normal(torch.tensor([0.0, 2.0**-24, 0.5 - 2.0**-24, 0.5, last]))
    middles = np.array([0.0, 2.0**-24, 0.5 - 2.0**-24, 0.5, last]) + 2.0**-25
    np.testing.assert_allclose(edges, stats.norm.ppf(middles), rtol=1e-3, atol=1e-7)
    assert edges[0] == -edges[-1]
    assert edges[2] == -edges[3]
    many = normal(drawn(0, 1, 1, 400, 400)).flatten()
    assert stats.kstest(many.numpy(), "norm").pvalue > 0.01


@pytest.mark.parametrize("y0", [0.0, 1.0])
@pytest.mark.parametrize("t", [1, 4, 10])
def test_forward_mean_and_variance(y0, t):
    shape = (1, 1, 500, 500)
    state = TEN.noisy(y0, torch.full(shape, 0.9, dtype=torch.float64), t, drawn(t, *shape))
    abar = float(TEN.alphas_bar[t])
    mean, variance = 0.5 + 0.5 * math.sqrt(abar) * (2 * y0 - 1), (1 - abar) / 4
    assert state.dtype == torch.float64
    assert abs(float(state.mean()) - mean) < 4 * math.sqrt(variance) / 500
    assert abs(float(state.var()) / variance - 1) < 4 * math.sqrt(2) / 500


def test_states_are_a_mean_and_so_much_noise():
    """To the last digits, where the tests below look at a thousand draws."""
    shape = (3, 1, 4, 5)
    noise, y0, y_t = drawn(0, *shape), drawn(1, *shape).double(), drawn(2, *shape).double()
    n = stats.norm.ppf(noise.double().numpy() + 2.0**-25)
    t, s = torch.tensor([10, 7, 2]), torch.tensor([4, 1, 1])
    abar, abar_s = (TEN.alphas_bar[time].numpy().reshape(3, 1, 1, 1) for time in (t, s))
    expected = 0.5 + np.sqrt(abar) * (y0.numpy() - 0.5) + np.sqrt(1 - abar) / 2 * n
    np.testing.assert_allclose(TEN.noisy(y0, y0, t, noise), expected, atol=2e-6)
    np.testing.assert_allclose(TEN.start(y0, noise), 0.5 + n / 2, atol=2e-6)
    mean, variance = TEN.posterior(y0, y_t, t, s)
    beta = (1 - abar_s) / (1 - abar) * (1 - abar / abar_s)  # of DDPM, in the scale of x = 2 y - 1
    np.testing.assert_allclose(variance, beta / 4)
    state = TEN.ancestral(y0, y_t, y0, t, s, noise)
    np.testing.assert_allclose(state, mean + np.sqrt(beta) / 2 * n, atol=2e-6)


def test_the_process_ends_in_noise_whatever_the_prior():
    noise = drawn(0, 2, 1, SIDE, SIDE)
    states = [TEN.start(torch.full(noise.shape, prior), noise) for prior in (0.1, 0.9)]
    assert torch.equal(*states)
    assert abs(float(states[0].mean()) - 0.5) < 4 * 0.5 / math.sqrt(2 * SIDE**2)
    assert abs(float(states[0].std()) - 0.5) < 0.01


@pytest.mark.parametrize(("t", "s"), [(10, 9), (10, 4), (7, 4), (2, 1)])
@pytest.mark.parametrize("y0", [0.0, 0.3, 1.0])
def test_the_posterior_is_the_normalised_product_of_densities(y0, t, s):
    """By integration over y_s, with the densities in the scale of x = 2 y - 1."""
    abar_t, abar_s = (float(TEN.alphas_bar[time]) for time in (t, s))
    y_t, grid = 0.8, np.linspace(-8, 9, 200_001)
    x_s, x_t, x_0 = 2 * grid - 1, 2 * y_t - 1, 2 * y0 - 1
    alpha = abar_t / abar_s
    density = stats.norm.pdf(x_s, math.sqrt(abar_s) * x_0, math.sqrt(1 - abar_s))
    density *= stats.norm.pdf(x_t, math.sqrt(alpha) * x_s, math.sqrt(1 - alpha))
    density /= density.sum()
    mean = (density * grid).sum()
    found = TEN.posterior(y0, y_t, t, s)
    assert float(found[0]) == pytest.approx(mean, abs=1e-6)
    assert float(found[1]) == pytest.approx((density * (grid - mean) ** 2).sum(), rel=1e-5)


def test_the_last_step_returns_y0_hat_and_ddim_draws_nothing():
    y0_hat, y_t = torch.rand(2, 3, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    one, other = drawn(0, 3, 1, 8, 9), drawn(1, 3, 1, 8, 9)
    for t in (1, 5, 10):
        for state in (
            TEN.ddim(y0_hat, y_t, t, 0, one),
            TEN.ancestral(y0_hat, y_t, y_t, t, 0, one),
        ):
            torch.testing.assert_close(state, y0_hat)
    assert torch.equal(TEN.ddim(y0_hat, y_t, 7, 4, one), TEN.ddim(y0_hat, y_t, 7, 4, other))
    moved = TEN.ancestral(y0_hat, y_t, y_t, 7, 4, one) - TEN.ancestral(
        y0_hat, y_t, y_t, 7, 4, other
    )
    assert moved.abs().mean() > 0.05


def test_ddim_with_the_truth_follows_the_forward_process():
    y0 = (torch.rand(3, 1, 8, 9, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    noise, t, s = drawn(0, 3, 1, 8, 9), torch.tensor([10, 7, 2]), torch.tensor([4, 0, 1])
    state = TEN.ddim(y0, TEN.noisy(y0, y0, t, noise), t, s, noise)
    torch.testing.assert_close(state, TEN.noisy(y0, y0, s, noise))
    for i in range(3):  # a time per image equals one time at a time
        alone = TEN.noisy(y0[i], y0[i], int(s[i]), noise[i])
        torch.testing.assert_close(state[i], alone)


def oracle(process, truth):
    """The exact denoiser of one pixel with P(y0 = 1) = truth, as a function of (y_t, t)."""

    def denoise(y_t, t):
        abar = float(process.alphas_bar[t])
        likely = [
            torch.exp(-((2 * y_t.double() - 1 - math.sqrt(abar) * x) ** 2) / (2 * (1 - abar)))
            for x in (-1, 1)
        ]
        return truth * likely[1] / (truth * likely[1] + (1 - truth) * likely[0])

    return denoise


def share(process, sampler, steps, truth):
    """The share of ones among 200 x 200 pixels under the exact denoiser."""
    prior = torch.full((1, SIDE, SIDE), 0.7, dtype=torch.float64)
    run = stream(process, oracle(process, truth), prior, FREE, sampler, steps, 1, seed=0)
    *_, last = run
    return float(last.sample.mean())


@pytest.mark.parametrize("truth", [0.05, 0.3])
@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_samples_follow_the_true_distribution_in_many_steps(sampler, truth):
    found = share(GaussianDiffusion(200), sampler, 200, truth)
    assert abs(found - truth) < 4 * math.sqrt(truth * (1 - truth)) / SIDE


@pytest.mark.parametrize("steps", [4, 10])
def test_ancestral_samples_follow_the_chain_by_integration(steps):
    """In few steps the mean in the place of y0 costs the rarer class: .277 of .3 are left in ten.
    The chain on a grid of states says how much it has to be."""
    truth, grid = 0.3, np.linspace(-2.5, 3.5, 2001)
    density, denoise = stats.norm.pdf(grid, 0.5, 0.5), oracle(TEN, truth)
    for t, s in pairwise([*TEN.timesteps(steps), 0]):
        y0_hat = denoise(torch.from_numpy(grid), t).numpy()
        abar_t, abar_s = (float(TEN.alphas_bar[time]) for time in (t, s))
        if s == 0:
            break
        a = abar_t / abar_s
        weights = math.sqrt(abar_s) * (1 - a), math.sqrt(a) * (1 - abar_s)
        x_s = (weights[0] * (2 * y0_hat - 1) + weights[1] * (2 * grid - 1)) / (1 - abar_t)
        spread = math.sqrt((1 - abar_s) * (1 - a) / (1 - abar_t)) / 2
        moves = stats.norm.pdf(grid[:, None], (0.5 + x_s / 2)[None], spread)
        density = moves @ density * (grid[1] - grid[0])
    expected = density[y0_hat >= 0.5].sum() / density.sum()
    assert expected < truth - 0.02
    found = share(TEN, "ancestral", steps, truth)
    assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected)) / SIDE + 1e-3


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_slices_of_a_volume_see_the_noise_that_each_would_see_alone(sampler):
    priors = torch.rand(3, 2, 20, 30, generator=torch.Generator().manual_seed(0))
    free = torch.full((20, 30), -1)

    def denoise(y_t, t):
        return (0.3 * y_t + 0.4).clamp(0, 1)

    together = list(stream(TEN, denoise, priors, free, sampler, 4, 2, seed=3))
    for number, prior in enumerate(priors):
        alone = list(stream(TEN, denoise, prior, free, sampler, 4, 2, seed=3))
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one.sample, many.sample[number])
            np.testing.assert_array_equal(one.each, many.each[number])


def test_a_start_is_noised_by_the_process():
    mask = (torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    prior, free, seen = torch.full_like(mask, 0.2), torch.full((20, 30), -1), []

    def denoise(y_t, t):
        seen.append((t, y_t))
        return torch.full_like(y_t, 0.5)

    list(stream(TEN, denoise, prior, free, "ddim", 4, 2, seed=3, start=(mask, 4)))
    assert [t for t, _ in seen] == [4, 1]
    noise = noise_for(seen[0][1], torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        seen[0][1], TEN.noisy(mask[None], prior[None].expand(2, -1, -1, -1), 4, noise)
    )


def test_training_draws_follow_the_process():
    numbers = torch.arange(300)
    y0 = torch.zeros(300, 1, 16, 16)
    y0[..., 8:] = 1
    prior = torch.full_like(y0, 0.8)
    fixed = torch.full((300, 16, 16), -1)
    fixed[:, :2] = y0[:, 0, :2].long()
    noisy = draw(TEN, y0, prior, fixed, 0.3, numbers, 0)
    again = draw(TEN, y0, prior, fixed, 0.3, numbers, 0)
    assert torch.equal(noisy.y_t, again.y_t)
    assert noisy.y_t.dtype == y0.dtype
    assert torch.equal(noisy.y_t[:, :, :2], y0[:, :, :2])
    inner, clean = noisy.y_t[:, :, 2:], y0[:, :, 2:]
    start = (inner == 1).flatten(1).all(1)  # [f >= .5] everywhere
    assert float(start.float().mean()) == pytest.approx(0.3, abs=0.1)
    assert (noisy.t[start] == 10).all()
    abar = TEN.alphas_bar[noisy.t].float().reshape(-1, 1, 1, 1)
    n = ((inner - 0.5 - abar.sqrt() * (clean - 0.5)) * 2 / (1 - abar).sqrt())[~start]
    assert abs(float(n.mean())) < 4 / math.sqrt(n.numel())
    assert abs(float(n.var()) - 1) < 4 * math.sqrt(2 / n.numel())


def test_a_share_of_the_draws_comes_from_the_network_s_own_trajectory():
    numbers = torch.arange(60)
    y0 = torch.zeros(60, 1, 16, 16)
    prior, fixed = torch.full_like(y0, 0.2), torch.full((60, 16, 16), -1)
    fixed[:, :2] = 0
    noisy, ends = draw(TEN, y0, prior, fixed, 0.2, numbers, 0), []

    def answer(y_t, given):
        ends.append(y_t)
        assert (y_t[:, :, :2] == 0).all()
        return torch.ones_like(y_t)

    found = walked(TEN, answer, noisy, prior, fixed, 1.0, numbers, 4)
    below = noisy.t < 10
    assert torch.equal(found.y_t[~below], noisy.y_t[~below])
    assert torch.equal(found.t, noisy.t)
    wanted = TEN.ddim(torch.ones_like(y0), ends[0], torch.full((60,), 10), noisy.t.clamp(max=9), y0)
    torch.testing.assert_close(found.y_t[below][:, :, 2:], wanted[below][:, :, 2:])
    assert (found.y_t[:, :, :2] == 0).all()
