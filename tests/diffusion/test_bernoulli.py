"""The process against numbers that were computed independently from the paper's formulas."""

import json
import math
from itertools import pairwise, product

import pytest
import torch
from paths import VECTORS

from napari_hidiff.diffusion.bernoulli import BernoulliDiffusion, bernoulli

NUMBERS = json.loads(VECTORS.read_text())
COSINE = BernoulliDiffusion(10, "cosine")
NAMES = {
    "cosine": "cosine_squared_T10",
    "cosine-unsquared": "cosine_unsquared_T10",
    "alpha-bar-linear": "alpha_bar_linear_T10",
}


def close(value, expected, prior=0.5):
    """1e-12, and 1e-8 relative on the rows that the file names for cancellation in 1 - f."""
    edge = 0 < min(prior, 1 - prior) < 2e-6
    return math.isclose(
        float(value), expected, rel_tol=1e-8 if edge else 1e-12, abs_tol=0 if edge else 1e-12
    )


@pytest.mark.parametrize("schedule", NAMES)
def test_schedules(schedule):
    key = next(k for k in NUMBERS["schedules"] if k.startswith(NAMES[schedule]))
    expected = torch.tensor(NUMBERS["schedules"][key]["alphas_bar"], dtype=torch.float64)
    process = BernoulliDiffusion(10, schedule)
    assert process.alphas_bar.dtype == torch.float64
    assert process.alphas_bar.shape == (11,)
    assert process.alphas_bar[0] == 1
    torch.testing.assert_close(process.alphas_bar[1:], expected, rtol=0, atol=1e-12)


def test_a_linear_schedule_needs_twenty_steps():
    with pytest.raises(ValueError, match=r"betas up to 2; betas must not pass 1.*20 steps"):
        BernoulliDiffusion(10, "linear")
    assert BernoulliDiffusion(20, "linear").alphas_bar[-1] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "at least 1"),
        ({"schedule": "sine"}, "schedule must be one of .*'sine'"),
        ({"centre": "noise"}, "centre must be one of .*'noise'"),
    ],
)
def test_wrong_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        BernoulliDiffusion(**arguments)


def test_forward():
    for row in NUMBERS["eq6_forward"]["vectors"]:
        mean = COSINE.forward_mean(row["y0"], row["f"], row["t"])
        assert close(mean, row["q_mean"], row["f"])
        flip = COSINE.forward_mean(0.0, abs(row["f"] - row["y0"]), row["t"])
        assert close(flip, row["P_flip(eps=1)=(1-abar)|f-y0|"], row["f"])


def test_posterior():
    for row in NUMBERS["eq7_posterior_hard_y0"]["vectors"]:
        mean = COSINE.posterior_mean(row["y0"], row["yt"], row["f"], row["t"])
        if row["undefined_0_over_0"]:
            assert mean == row["y0"]
        else:
            assert close(mean, row["posterior_mean"], row["f"]), row


def test_reverse_means():
    for row in NUMBERS["calibration_FC"]["vectors"]:
        arguments = (row["y0_hat"], row["yt"], row["f"], row["t"])
        for posterior, key in [
            ("plugin", "mu_hat_FC (plug-in)"),
            ("mixture", "mu_true_mixture E_y0[posterior]"),
        ]:
            value = COSINE.reverse_mean(*arguments, posterior=posterior)
            if row[key] is None:
                assert torch.isfinite(value)
            else:
                assert close(value, row[key], row["f"]), (row, float(value))


def test_plugin_and_mixture_agree_where_the_file_says_so():
    for row in NUMBERS["plugin_vs_mixture"]["vectors"]:
        arguments = (row["y0_hat"], row["yt"], row["f"], row["t"])
        assert close(COSINE.posterior_mean(1, *arguments[1:]), row["q(y0=1)"])
        assert close(COSINE.posterior_mean(0, *arguments[1:]), row["q(y0=0)"])
        assert close(COSINE.reverse_mean(*arguments, posterior="plugin"), row["plug_in"])
        assert close(COSINE.reverse_mean(*arguments, posterior="mixture"), row["mixture"])
        weight = row["y0_hat_that_makes_plug_in_equal_mixture"]
        same = COSINE.reverse_mean(weight, *arguments[1:], posterior="plugin")
        assert math.isclose(float(same), row["mixture"], abs_tol=1e-9)


def test_ddim():
    for row in NUMBERS["ddim"]["vectors"]:
        assert close(
            COSINE.ddim_mean(row["y0_hat"], row["yt"], row["t"], row["t_prev"]), row["mean"]
        )
    assert COSINE.ddim_mean(0.3, 1, 7, 0) == 0.3


def test_the_last_step_returns_y0_hat():
    for row in NUMBERS["t_equals_1"]["vectors"]:
        for posterior in ("mixture", "plugin"):
            value = COSINE.reverse_mean(row["y0_hat"], row["yt"], row["f"], 1, posterior=posterior)
            assert close(value, row["required_output(y0_hat)"])


def test_degenerate_priors():
    for row in NUMBERS["degenerate_prior"]["vectors"]:
        mean = COSINE.posterior_mean(row["y0_hat"], row["yt"], row["f"], row["t"])
        if row["mean"] is None:
            assert torch.isfinite(mean)
            assert mean == row["y0_hat"]
        else:
            assert close(mean, row["mean"], row["f"]), row
    for row in NUMBERS["degenerate_prior"]["limits_f_to_y0"]:
        mean = COSINE.posterior_mean(row["y0"], row["yt"], row["f"], row["t"])
        assert math.isclose(float(mean), row["mean"], rel_tol=1e-7)


def test_a_fixed_pixel_has_no_noise():
    for row in NUMBERS["clamping"]["vectors"]:
        if "f" in row:
            mean = COSINE.forward_mean(row["u"], row["f"], row["t"])
            assert close(mean, row["q_mean_with_f_unchanged"], row["f"])
        else:
            mean = COSINE.forward_mean(row["u"], float(row["u"]), row["t"])
            assert mean == row["q_mean_with_f=u,y0=u"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("posterior", ["mixture", "plugin"])
@pytest.mark.parametrize("clamp", [0.0, 1e-6])
def test_neither_values_nor_gradients_are_nan_on_the_grid(dtype, posterior, clamp):
    grid = (0.0, 1e-7, 0.5, 1 - 1e-7, 1.0)
    points = torch.tensor(list(product(grid, grid, grid)), dtype=dtype)
    for t in range(1, 11):
        y0_hat, y_t, prior = (
            points[:, i].clamp(clamp, 1 - clamp).requires_grad_() for i in range(3)
        )
        mean = COSINE.reverse_mean(y0_hat, y_t, prior, t, posterior=posterior)
        assert mean.dtype == dtype
        assert ((mean >= 0) & (mean <= 1)).all()
        for gradient in torch.autograd.grad(mean.sum(), [y0_hat, y_t, prior], allow_unused=True):
            assert gradient is None or torch.isfinite(gradient).all()


def _marginal(truth, prior, sampler, times):
    """P(y_0 = 1) at the end of a chain, in closed form, with the exact denoiser of the process."""
    one = prior
    for t, s in pairwise([*times, 0]):
        probabilities = []
        for y_t in (0.0, 1.0):
            likelihood = [
                abs(1 - y_t - float(COSINE.forward_mean(y0, prior, t))) for y0 in (0.0, 1.0)
            ]
            evidence = truth * likelihood[1] + (1 - truth) * likelihood[0]
            y0_hat = truth * likelihood[1] / evidence
            if sampler == "ddim":
                mean = COSINE.ddim_mean(y0_hat, y_t, t, s)
            else:
                mean = COSINE.reverse_mean(y0_hat, y_t, prior, t, posterior=sampler, s=s)
            probabilities.append(float(mean))
        one = (1 - one) * probabilities[0] + one * probabilities[1]
    return one


@pytest.mark.parametrize(
    ("sampler", "times", "key"),
    [
        ("mixture", range(10, 0, -1), "mixture_T10"),
        ("plugin", range(10, 0, -1), "plugin_T10"),
        ("ddim", range(10, 0, -1), "ddim_T10"),
        ("mixture", (10, 7, 4, 1), "mixture_respaced[10,7,4,1]"),
        ("ddim", (10, 7, 4, 1), "ddim_respaced[10,7,4,1]"),
        ("ddim", (10, 1), "ddim_2steps[10,1]"),
        ("ddim", (10,), "ddim_1step[10]"),
    ],
)
def test_samplers_return_the_true_marginal(sampler, times, key):
    for row in NUMBERS["sampler_marginal_test"]["vectors"]:
        truth, prior = row["pi=P(y0=1|x)"], row["f"]
        value = _marginal(truth, prior, sampler, list(times))
        assert math.isclose(value, row[key], abs_tol=1e-9), row
        if sampler != "plugin":
            assert abs(value - truth) <= 2.4e-5


@pytest.mark.parametrize(("classes", "chance"), [(1, 1 / 2), (2, 1 / 2), (3, 1 / 3), (5, 1 / 5)])
def test_the_process_ends_in_the_prior_or_in_even_chances(classes, chance):
    prior = torch.full((2, classes, 3, 4), 0.9, dtype=torch.float64)
    assert torch.equal(COSINE.end(prior), prior)
    even = BernoulliDiffusion(10, centre="even").end(prior)
    assert torch.equal(even, torch.full_like(prior, chance))


@pytest.mark.parametrize("centre", ["prior", "even"])
def test_a_state_is_1_where_the_noise_is_below_its_mean(centre):
    process = BernoulliDiffusion(10, centre=centre)
    generator = torch.Generator().manual_seed(0)
    y0_hat, prior = torch.rand(2, 2, 3, 4, 5, generator=generator)
    y_t, end = bernoulli(prior, generator), process.end(prior)
    for mean, state in (
        (end, lambda noise: process.start(prior, noise)),
        (process.forward_mean(y_t, end, 7), lambda noise: process.noisy(y_t, prior, 7, noise)),
        (
            process.ddim_mean(y0_hat, y_t, 7, 4),
            lambda noise: process.ddim(y0_hat, y_t, 7, 4, noise),
        ),
        (
            process.reverse_mean(y0_hat, y_t, end, 7, s=4),
            lambda noise: process.ancestral(y0_hat, y_t, prior, 7, 4, noise),
        ),
    ):
        assert state(mean).dtype == torch.uint8
        assert not state(mean).any()
        assert state(mean - 1e-6).all()


def test_an_unknown_posterior_is_named():
    with pytest.raises(ValueError, match=r"one of .*'mixture', 'plugin'.*, not 'exact'"):
        COSINE.reverse_mean(0.5, 1, 0.5, 4, posterior="exact")


def test_timesteps_start_at_the_end_and_decrease():
    for n in range(1, 11):
        times = COSINE.timesteps(n)
        assert len(times) == n
        assert times[0] == 10
        assert all(a > b >= 1 for a, b in pairwise(times))
    assert COSINE.timesteps(4) == [10, 7, 4, 1]
    for n in (0, 11):
        with pytest.raises(ValueError, match=rf"1\.\.10, not {n}"):
            COSINE.timesteps(n)


def test_a_time_per_image_equals_one_time_at_a_time():
    generator = torch.Generator().manual_seed(0)
    y0_hat, prior = torch.rand(2, 3, 1, 4, 5, generator=generator)
    y_t = bernoulli(prior, generator)
    times = torch.tensor([1, 4, 10])
    for call in (
        lambda i, t: COSINE.forward_mean(y_t[i], prior[i], t),
        lambda i, t: COSINE.posterior_mean(y_t[i], y_t[i], prior[i], t),
        lambda i, t: COSINE.reverse_mean(y0_hat[i], y_t[i], prior[i], t),
        lambda i, t: COSINE.ddim_mean(y0_hat[i], y_t[i], t, t - 1),
    ):
        together = call(slice(None), times)
        assert together.dtype == torch.float32
        for i, t in enumerate(times.tolist()):
            torch.testing.assert_close(together[i : i + 1], call(slice(i, i + 1), t))


def test_draws_have_the_mean_and_the_seed_decides():
    mean = torch.tensor([0.0, 0.1, 0.5, 1.0]).repeat(50_000, 1)
    draws = [bernoulli(mean, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert draws[0].dtype == torch.uint8
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    observed = draws[0].double().mean(0)
    assert observed[0] == 0
    assert observed[3] == 1
    torch.testing.assert_close(observed, mean[0].double(), atol=0.01, rtol=0)
