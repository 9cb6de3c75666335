"""Between two steps of a sampler nothing but the noise comes from the CPU."""

import pytest
import torch
from crossings import watched

from napari_hidiff.diffusion import process_of
from napari_hidiff.diffusion.process import noise_for
from napari_hidiff.diffusion.samplers import ancestral, clamp_fixed, ddim, one_step


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("kernel", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("sampler", [ddim, ancestral])
def test_steps_stay_on_the_device(sampler, kernel, classes):
    process = process_of({"kernel": kernel})
    prior = torch.rand(5, classes, 32, 64, device="meta")
    fixed = torch.zeros(32, 64, dtype=torch.int16, device="meta")
    generator = torch.Generator().manual_seed(0)
    times = process.timesteps(3)
    drawn = []

    def noise():
        drawn.append(noise_for(prior, generator))
        return torch.rand_like(prior)

    def clamp(x):
        return clamp_fixed(x, fixed)

    with torch.inference_mode():
        process._table(prior.device)
        with watched() as found:
            states = list(sampler(process, lambda y, t: prior, prior, prior, clamp, times, noise))
    assert [t for t, _, _ in states] == times
    assert len(found) == len(drawn) == 3, "the noise alone"


def test_one_step_stays_on_the_device():
    process = process_of({})
    prior = torch.rand(1, 1, 32, 64, device="meta")
    with torch.inference_mode(), watched() as found:
        ((_, mask, _),) = one_step(process, lambda y, t: prior, prior, lambda x: x)
    assert mask.shape == prior.shape
    assert found == []
