"""Refinement with a real (untrained or perturbed) model: what must hold for every sampler."""

import numpy as np
import pytest
import torch

from napari_hidiff.diffusion import KERNELS
from napari_hidiff.diffusion.bernoulli import BernoulliDiffusion
from napari_hidiff.diffusion.gaussian import GaussianDiffusion
from napari_hidiff.diffusion.process import noise_for
from napari_hidiff.diffusion.samplers import clamp_fixed, stream, to_mask
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import SAMPLERS, Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.preprocessing import soften
from napari_hidiff.masks import EPSILON, Label, entropy, mask_of

COLORS = ("#000000", "#00d0ff", "#ffb000")


def opinionated(classes: int, output: str = "y0", kernel: str = "bernoulli") -> HiDiff:
    """A model whose refiner disagrees with its prior nearly everywhere."""
    labels = tuple(Label(f"class {i}", COLORS[i]) for i in range(classes))
    refiner = {"width": 32, "stem": 2, "output": output}
    card = Card("test", labels, ("gray",), refiner=refiner, diffusion={"kernel": kernel})
    model = HiDiff.create(card)
    with torch.no_grad():
        model.refiner.head.weight.normal_(std=2, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (45, 70), dtype=np.uint8)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("labels", "output", "kernel"),
    [
        *((labels, output, "bernoulli") for labels in (2, 3) for output in ("y0", "eps")),
        (2, "y0", "gaussian"),
        (3, "y0", "gaussian"),
    ],
)
def test_fixed_pixels_never_change(image, sampler, labels, output, kernel):
    model = opinionated(labels, output, kernel)
    fixed = np.random.default_rng(1).integers(-1, labels, image.shape)
    where = fixed >= 0
    for prior in (None, np.zeros(image.shape, np.uint8)):
        result = model.refine(image, prior, fixed, sampler=sampler, steps=4, samples=2)
        assert (result.mask[where] == fixed[where]).all()
        onehot = fixed == np.arange(labels)[:, None, None]
        expected = onehot[1:] if labels == 2 else onehot
        for step in result.steps:
            for array in (*step.sample, step.probability):
                assert (array[:, where] == expected[:, where]).all()
    assert (result.mask[~where] != 0).any()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_seed_decides_and_the_steps_are_streamed(image, sampler, kernel):
    model = opinionated(2, kernel=kernel)
    runs = [model.refine(image, sampler=sampler, steps=3, samples=2, seed=s) for s in (5, 5, 6)]
    assert np.array_equal(runs[0].probability, runs[1].probability)
    assert np.array_equal(runs[0].probability, runs[2].probability) == (sampler == "one-step")
    steps = runs[0].steps
    count = 1 if sampler == "one-step" else 3
    assert [(s.index, s.total) for s in steps] == [(i + 1, count) for i in range(count)]
    assert [s.t for s in steps] == model.process.timesteps(count)
    samples = 1 if sampler == "one-step" else 2
    for step in steps:
        assert step.sample.shape == (samples, 1, *image.shape)
        assert step.sample.dtype == np.uint8
        assert set(np.unique(step.sample)) <= {0, 1}
        assert step.probability.dtype == np.float32
    assert np.array_equal(runs[0].mask, steps[-1].mask)
    assert runs[0].engine == "torch"


def test_chunks_of_samples_change_nothing(image, monkeypatch):
    model = opinionated(2)
    together = model.refine(image, steps=2, samples=3)
    monkeypatch.setattr("napari_hidiff.inference.denoiser.PIXELS_AT_ONCE", 1)
    alone = model.refine(image, steps=2, samples=3)
    np.testing.assert_allclose(together.probability, alone.probability, atol=1e-5)


def test_a_stopped_stream_costs_nothing_more(image):
    model = opinionated(2)
    calls = []
    model.refiner.register_forward_hook(lambda *_: calls.append(1))
    run = model.steps(image, sampler="ddim", steps=5, samples=1)
    assert not calls
    next(run)
    run.close()
    assert len(calls) == 1


def oracle(truth, prior, centre):
    """The exact denoiser of one pixel with P(y0 = 1) = truth, as a function of (y_t, t)."""
    process = BernoulliDiffusion(10, centre=centre)
    prior = process.end(prior)
    assert centre == "prior" or (prior == 0.5).all()

    def denoise(y_t, t):
        one = process.forward_mean(1.0, prior, t)
        zero = process.forward_mean(0.0, prior, t)
        y_t = y_t.double()
        like_one = y_t * one + (1 - y_t) * (1 - one)
        like_zero = y_t * zero + (1 - y_t) * (1 - zero)
        return truth * like_one / (truth * like_one + (1 - truth) * like_zero)

    return process, denoise


@pytest.mark.parametrize("centre", ["prior", "even"])
@pytest.mark.parametrize("steps", [2, 4, 10])
@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_samples_follow_the_true_distribution(sampler, steps, centre):
    """200 x 200 pixels that all have P(y0 = 1) = .3 under a prior of .7, one sample each."""
    truth, prior = 0.3, torch.full((1, 200, 200), 0.7, dtype=torch.float64)
    process, denoise = oracle(truth, prior, centre)
    free = torch.full((200, 200), -1)
    *_, last = stream(process, denoise, prior, free, sampler, steps, 1, seed=0)
    assert abs(last.sample.mean() - truth) < 4 * np.sqrt(truth * (1 - truth) / 200**2)


def recorded(answer):
    """A denoiser that answers ``answer(y_t)``, and the states and times that it was asked about."""
    seen = []

    def denoise(y_t, t):
        seen.append((t, y_t.clone()))
        return answer(y_t)

    return denoise, seen


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
@pytest.mark.parametrize(
    ("start", "times"), [(None, [10, 7, 4, 1]), (6, [6, 4, 1]), (7, [7, 4, 1]), (1, [1])]
)
def test_a_sampler_goes_down_from_where_it_starts(sampler, start, times):
    """The noise is drawn in one order: for the first state, then for each step."""
    process, shape = BernoulliDiffusion(10), (3, 1, 4, 5)
    prior = torch.rand(shape[1:], generator=torch.Generator().manual_seed(1))
    mask = (prior < 0.3).to(prior.dtype)
    denoise, seen = recorded(lambda y_t: 0.25 + y_t.float() / 2)
    given = None if start is None else (mask, start)
    free = torch.full(shape[2:], -1)
    steps = list(stream(process, denoise, prior, free, sampler, 4, 3, 9, given))
    assert [step.t for step in steps] == [t for t, _ in seen] == times
    assert [(step.index, step.total) for step in steps] == [
        (n, len(times)) for n in range(1, len(times) + 1)
    ]
    generator = torch.Generator().manual_seed(9)
    many = prior.expand(shape)
    noise = noise_for(many, generator)
    state = process.start(many, noise)
    if start is not None:
        state = process.noisy(mask, many, start, noise)
    for (t, y_t), step, s in zip(seen, steps, [*times[1:], 0], strict=True):
        assert torch.equal(y_t.float(), state.float())
        y0_hat = 0.25 + y_t.float() / 2
        np.testing.assert_array_equal(step.each, y0_hat)
        np.testing.assert_allclose(step.probability, y0_hat.mean(0), atol=1e-6)
        noise = noise_for(many, generator)
        if sampler == "ddim":
            state = process.ddim(y0_hat, y_t, t, s, noise)
        else:
            state = process.ancestral(y0_hat, y_t, many, t, s, noise)
        np.testing.assert_array_equal(step.sample, state)


def test_one_step_starts_at_the_prior_s_mask_and_answers_are_kept_off_0_and_1():
    process = BernoulliDiffusion(10)
    prior = torch.tensor([[[0.0, 0.4999, 0.5, 1.0]]])
    free = torch.full((1, 4), -1)
    denoise, seen = recorded(lambda y_t: torch.tensor([[[[0.0, 1.0, 0.5, 0.25]]]]))
    (step,) = stream(process, denoise, prior, free, "one-step", 4, 3, 0)
    ((t, y_t),) = seen
    assert t == step.t == 10
    assert (step.index, step.total) == (1, 1)
    assert y_t.tolist() == [[[[0, 0, 1, 1]]]]
    np.testing.assert_allclose(step.probability, [[[EPSILON, 1 - EPSILON, 0.5, 0.25]]], rtol=1e-7)
    assert step.sample.tolist() == [[[[0, 1, 1, 0]]]]
    assert step.mask.tolist() == [[0, 1, 1, 0]]


def test_a_real_state_of_one_half_is_1_as_in_the_mask():
    prior, free = torch.full((1, 2, 3), 0.2), torch.full((2, 3), -1)
    (step,) = stream(
        GaussianDiffusion(10),
        lambda y_t, _: torch.full_like(y_t, 0.5),
        prior,
        free,
        "ddim",
        1,
        2,
        0,
    )
    assert (step.each == 0.5).all()
    assert step.mask.all()
    assert step.sample.all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_slice_of_a_volume_is_refined_as_it_would_be_alone(sampler):
    process = BernoulliDiffusion(10)
    prior = torch.rand(4, 2, 5, 6, generator=torch.Generator().manual_seed(2))  # [D, K, H, W]
    fixed = torch.full((5, 6), -1)
    fixed[1, 2] = 1

    def denoise(y_t, t):
        return 0.1 + 0.8 * y_t.float()

    together = list(stream(process, denoise, prior, fixed, sampler, 3, 2, 5))
    for n, one in enumerate(prior):
        alone = list(stream(process, denoise, one, fixed, sampler, 3, 2, 5))
        for step, other in zip(together, alone, strict=True):
            np.testing.assert_array_equal(step.sample[n], other.sample)
            np.testing.assert_array_equal(step.each[n], other.each)
            np.testing.assert_array_equal(step.probability[n], other.probability)


def test_a_hard_mask_has_one_class_everywhere():
    one = torch.tensor([[[0.4999, 0.5, 1.0]]])
    assert to_mask(one).tolist() == [[[0, 1, 1]]]
    three = torch.tensor([0.3, 0.3, 0.2, 0.5, 0.5, 0.4]).reshape(3, 1, 2)  # [K, H, W]
    assert to_mask(three)[:, 0].tolist() == [[0, 0], [0, 1], [1, 0]]
    assert to_mask(three).dtype == three.dtype


def test_stamp_sets_labels_and_nothing_else():
    x = torch.full((2, 3, 2, 2), 0.4)
    fixed = torch.tensor([[-1, 0], [2, -1]])
    out = clamp_fixed(x, fixed)
    assert out[0, :, 0, 1].tolist() == [1, 0, 0]
    assert out[1, :, 1, 0].tolist() == [0, 0, 1]
    assert (out[:, :, [0, 1], [0, 1]] == x[:, :, [0, 1], [0, 1]]).all()
    single = clamp_fixed(x[:, :1], torch.tensor([[-1, 0], [1, -1]]))
    assert single[0, 0].flatten().tolist() == pytest.approx([0.4, 0, 1, 0.4])


def test_mask_and_entropy():
    assert mask_of(np.array([[[0.49, 0.5]]])).tolist() == [[0, 1]]
    three = np.array([0.2, 0.5, 0.3]).reshape(3, 1, 1)
    assert mask_of(three).tolist() == [[1]]
    expected = -(0.2 * np.log(0.2) + 0.5 * np.log(0.5) + 0.3 * np.log(0.3))
    np.testing.assert_allclose(entropy(three), [[expected]], rtol=1e-6)
    np.testing.assert_allclose(entropy(np.full((1, 1, 1), 0.5)), [[np.log(2)]], rtol=1e-6)
    assert entropy(np.ones((1, 1, 1))).item() < 2e-5


def test_a_softened_mask_keeps_its_labels_and_says_how_sure_it_is():
    mask = np.zeros((20, 20), np.int64)
    mask[5:15, 5:15] = 1
    soft = soften(mask, 1, sigma=1, confidence=0.9)
    assert soft.shape == (1, 20, 20)
    assert soft.dtype == np.float32
    assert np.array_equal(mask_of(soft), mask)
    assert soft[0, 10, 10] == pytest.approx(0.9, abs=1e-3)
    assert 0.5 < soft[0, 5, 5] < 0.8
    assert soft[0, 0, 0] == pytest.approx(0.1, abs=1e-3)
    thin = np.eye(20, dtype=np.int64)
    assert np.array_equal(mask_of(soften(thin, 1, sigma=2, confidence=0.6)), thin)
    mask[5:10] *= 2
    several = soften(mask, 3, sigma=1, confidence=0.8)
    np.testing.assert_allclose(several.sum(0), 1, atol=1e-6)
    assert np.array_equal(mask_of(several), mask)
    assert several[2, 7, 10] == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prior": np.zeros((3, 3), np.uint8)}, r"prior mask has shape \(3, 3\), the image"),
        ({"prior": np.full((45, 70), 2)}, "prior mask holds label 2; the model knows 0..1"),
        ({"prior": np.zeros((2, 45, 70))}, r"prior has shape \(2, 45, 70\)"),
        ({"prior": np.full((1, 45, 70), np.nan)}, "probabilities between 0 and 1"),
        ({"prior": np.full((1, 45, 70), 1.5)}, "probabilities between 0 and 1"),
        ({"fixed": np.full((45, 70), 7)}, "fixed map holds label 7"),
        ({"fixed": np.full((45, 70), -2)}, "fixed map holds label -2"),
        ({"fixed": np.zeros((45, 70))}, "fixed map holds whole numbers, not float64"),
        ({"sampler": "euler"}, "sampler must be one of one-step, ddim, ancestral, not 'euler'"),
        ({"steps": 11}, "steps must lie in 1..10, not 11"),
        ({"samples": 0}, "samples must be at least 1"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(image, arguments, message):
    with pytest.raises(InputError, match=message):
        opinionated(2).steps(image, **arguments)


def test_priors_at_the_edge_do_no_harm(image):
    model = opinionated(2)
    for value in (0.0, 1.0, EPSILON / 2):
        prior = np.full((1, *image.shape), value, np.float32)
        for sampler in SAMPLERS:
            assert np.isfinite(model.refine(image, prior, sampler=sampler).probability).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_a_volume_s_mask_is_that_of_its_slices(classes):
    volume = np.random.default_rng(0).random((classes, 4, 5, 6))  # [K, D, H, W]
    slices = np.stack([mask_of(volume[:, z]) for z in range(4)])
    assert np.array_equal(mask_of(volume, axis=0), slices)
    assert np.array_equal(mask_of(volume.swapaxes(0, 1)), slices)
