"""What a refiner is trained on, by numbers: which sample is what, at which time, in which order."""

import numpy as np
import pytest
import torch

from napari_hidiff.diffusion.bernoulli import BernoulliDiffusion
from napari_hidiff.diffusion.gaussian import GaussianDiffusion
from napari_hidiff.training.losses import Noisy, draw, one_hot, to_device, uniform, walked

TEN = BernoulliDiffusion(10)
COUNT = 200
NUMBERS = torch.arange(COUNT)
SHAPE = (COUNT, 2, 3, 4)
FREE = torch.full((COUNT, 3, 4), -1)


def scene():
    generator = torch.Generator().manual_seed(0)
    y0 = one_hot(torch.randint(0, 2, (COUNT, 3, 4), generator=generator), 2)
    return y0, torch.rand(SHAPE, generator=generator)


def test_masks_become_channels():
    truth = torch.tensor([[[0, 2], [1, 0]]])
    three = one_hot(truth, 3)
    assert three.dtype == torch.float32
    assert three.tolist() == [[[[1, 0], [0, 1]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]]]
    two = one_hot(truth.clamp(max=1), 2)
    assert two.tolist() == [[[[1, 0], [0, 1]], [[0, 1], [1, 0]]]]
    assert one_hot(truth.clamp(max=1), 1).tolist() == [[[[0, 1], [1, 0]]]]
    assert one_hot(truth, 1).dtype == torch.float32


@pytest.mark.parametrize("real", [torch.float32, torch.float64])
def test_only_real_numbers_of_a_batch_change_their_dtype(real):
    batch = {
        "image": torch.rand(2, 3, 4, 5, dtype=torch.float16),
        "truth": torch.ones(2, 4, 5, dtype=torch.int64),
    }
    moved = to_device(batch, torch.device("cpu"), real)
    assert moved["image"].dtype == real
    assert moved["image"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved["image"], batch["image"].to(real))
    assert moved["truth"].dtype == torch.int64


@pytest.mark.parametrize("stream", [0, 3])
def test_numbers_and_stream_decide_a_draw(stream):
    """The chance of a start and the time come from stream 2 n, the noise from stream 2 n + 1."""
    y0, prior = scene()
    noisy = draw(TEN, y0, prior, FREE, 0.25, NUMBERS, stream)
    started, time = uniform(NUMBERS, 2 * stream, (2,)).T
    below = started >= 0.25
    expected = np.floor(time.numpy() * 10) + 1
    np.testing.assert_array_equal(noisy.t, np.where(below, expected, 10))
    assert 0.15 < 1 - below.float().mean() < 0.35
    assert set(noisy.t[below].tolist()) == set(range(1, 11))
    noise = uniform(NUMBERS, 2 * stream + 1, SHAPE[1:])
    assert torch.equal(noisy.y_t[below], TEN.noisy(y0, prior, noisy.t, noise)[below].float())
    labels = (prior[:, 1] > prior[:, 0]).long()
    assert torch.equal(noisy.y_t[~below], one_hot(labels, 2)[~below])
    assert noisy.y_t.dtype == y0.dtype


def test_a_share_takes_the_samples_whose_chance_is_below_it():
    y0, prior = scene()
    t = torch.ones(COUNT, dtype=torch.int64)
    chance = uniform(NUMBERS, 0, (1,))[:, 0]
    share = float(chance.sort().values[COUNT // 2])
    noisy = draw(TEN, y0, prior, FREE, share, NUMBERS, 0)
    hard = one_hot((prior[:, 1] > prior[:, 0]).long(), 2)
    started = (noisy.y_t == hard).flatten(1).all(1) & (noisy.t == 10)
    assert int(started.sum()) == COUNT // 2
    before = Noisy(torch.full(SHAPE, 0.5), t)
    after = walked(TEN, lambda y, _: y * 1.0, before, prior, FREE, share, NUMBERS, 0)
    assert int((after.y_t != 0.5).flatten(1).any(1).sum()) == COUNT // 2


def test_two_draws_with_the_same_numbers_share_no_noise():
    half = torch.full((COUNT, 1, 8, 8), 0.5)
    free = torch.full((COUNT, 8, 8), -1)
    states = [draw(TEN, half, half, free, 0.0, NUMBERS, stream).y_t for stream in range(4)]
    for n, one in enumerate(states):
        for other in states[:n]:
            assert 0.47 < float((one == other).float().mean()) < 0.53


@pytest.mark.parametrize("process", [TEN, GaussianDiffusion(10)], ids=["bernoulli", "gaussian"])
@pytest.mark.parametrize("stream", [0, 3])
def test_a_walk_is_one_step_from_the_end_to_the_time_that_was_drawn(process, stream):
    _, prior = scene()
    fixed = FREE.clone()
    fixed[:, 0, 0] = 1
    t = 1 + NUMBERS % 10
    before = Noisy(torch.full(SHAPE, 0.5), t)
    asked = []

    def answer(y_t, given):
        asked.append(y_t.clone())
        assert torch.equal(given, fixed)
        return (0.25 + y_t / 2).clamp(0, 1)

    after = walked(process, answer, before, prior, fixed, 0.5, NUMBERS, stream)
    chosen = (uniform(NUMBERS, 2 * stream, (1,))[:, 0] < 0.5) & (t < 10)
    assert 0.3 < chosen.float().mean() < 0.6
    assert torch.equal(after.t, t)
    assert (after.y_t[~chosen] == 0.5).all()
    assert (after.y_t[:, 1, 0, 0][chosen] == 1).all()
    assert (after.y_t[:, 0, 0, 0][chosen] == 0).all()
    first, second = (uniform(NUMBERS, 2 * stream + n, SHAPE[1:]) for n in (1, 2))
    begin = process.start(prior, first).float()
    (y,) = asked
    assert torch.equal(y[..., 1:, :], begin[..., 1:, :])
    assert (y[:, :, 0, 0] == torch.tensor([0, 1])).all()
    y0_hat = (0.25 + begin / 2).clamp(0, 1)
    for n in torch.nonzero(chosen).ravel().tolist():
        state = process.ddim(y0_hat[n], begin[n], 10, int(t[n]), second[n])
        torch.testing.assert_close(after.y_t[n, :, 1:], state[:, 1:].float())


def test_a_walk_of_nobody_asks_nothing_and_no_gradient_comes_back():
    y0, prior = scene()
    noisy = Noisy(y0, torch.full((COUNT,), 10))
    assert walked(TEN, None, noisy, prior, FREE, 1.0, NUMBERS, 0) is noisy
    weight = torch.ones((), requires_grad=True)
    below = Noisy(y0, torch.ones(COUNT, dtype=torch.int64))
    found = walked(
        GaussianDiffusion(10), lambda y, _: y * weight, below, prior, FREE, 1.0, NUMBERS, 0
    )
    assert not found.y_t.requires_grad
    assert (found.y_t != y0).flatten(1).any(1).all(), "a share of 1 is all of them"
