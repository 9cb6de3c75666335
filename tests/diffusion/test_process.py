"""What every diffusion process has: a noise schedule, times, and noise that a seed decides."""

import math

import numpy as np
import pytest
import torch

from napari_hidiff.diffusion.bernoulli import BernoulliDiffusion
from napari_hidiff.diffusion.process import noise_for, tensors


@pytest.mark.parametrize("steps", [1, 3, 25])
@pytest.mark.parametrize("s", [0.008, 0.1])
@pytest.mark.parametrize(("schedule", "power"), [("cosine", 2), ("cosine-unsquared", 1)])
def test_a_cosine_schedule_is_its_curve_until_the_last_step(schedule, power, s, steps):
    abar = BernoulliDiffusion(steps, schedule, s).alphas_bar.numpy()
    curve = np.cos((np.arange(steps + 1) / steps + s) / (1 + s) * np.pi / 2) ** power
    np.testing.assert_allclose(abar[:-1], curve[:-1] / curve[0], rtol=1e-12)
    assert abar[-1] == pytest.approx(abar[-2] * 0.001, rel=1e-9)


def test_linear_schedules():
    for steps in (1, 4):
        abar = BernoulliDiffusion(steps, "alpha-bar-linear").alphas_bar.numpy()
        np.testing.assert_allclose(abar, 1 - np.arange(steps + 1) / steps, atol=1e-12)
    for steps in (20, 50):
        abar = BernoulliDiffusion(steps, "linear").alphas_bar.numpy()
        betas = np.linspace(0.1, 20, steps) / steps
        np.testing.assert_allclose(abar, np.cumprod([1, *(1 - betas)]), rtol=1e-12)
    with pytest.raises(ValueError, match=r"19 steps has betas up to 1\.05263"):
        BernoulliDiffusion(19, "linear")


def test_the_defaults_are_ten_steps_of_the_squared_cosine():
    named = BernoulliDiffusion(10, "cosine", 0.008)
    assert torch.equal(BernoulliDiffusion().alphas_bar, named.alphas_bar)
    assert (named.steps, named.schedule, named.s) == (10, "cosine", 0.008)


@pytest.mark.parametrize(
    ("n", "times"), [(1, [10]), (2, [10, 1]), (3, [10, 6, 1]), (10, list(range(10, 0, -1)))]
)
def test_times_lie_evenly_between_the_end_and_1(n, times):
    assert BernoulliDiffusion(10).timesteps(n) == times
    assert BernoulliDiffusion(1).timesteps(1) == [1]


def test_noise_is_one_draw_of_the_last_four_axes():
    like = torch.empty(7, 2, 3, 4, 5, dtype=torch.float64)
    noise = noise_for(like, torch.Generator().manual_seed(3))
    assert noise.dtype == torch.float32
    expected = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(3))
    assert torch.equal(noise, expected)


def test_values_become_tensors_of_the_largest_float_dtype_among_them():
    byte, half, single = (torch.ones(2, dtype=d) for d in (torch.uint8, torch.half, torch.float))
    for given, dtype in (
        ((0.5, 1), torch.float64),
        ((byte, 1), torch.float64),
        ((byte, single, 0.5), torch.float32),
        ((half, single), torch.float32),
        ((single, half), torch.float32),
        ((single, single.double()), torch.float64),
    ):
        assert [value.dtype for value in tensors(*given)] == [dtype] * len(given)


def test_a_time_per_image_goes_along_the_first_axis_of_the_largest_argument():
    process = BernoulliDiffusion(10)
    prior = torch.full((3, 1, 2, 2), 0.25, dtype=torch.float64)
    mean = process.forward_mean(1.0, prior, torch.tensor([1, 5, 10]))
    assert mean.shape == prior.shape
    for image, t in zip(mean, (1, 5, 10), strict=True):
        abar = float(process.alphas_bar[t])
        assert math.isclose(float(image.min()), abar + (1 - abar) / 4)
        assert float(image.max() - image.min()) == 0
