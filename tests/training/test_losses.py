"""Losses against the numbers that were computed independently from the paper's formulas."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from paths import VECTORS

from napari_hidiff.diffusion.bernoulli import BernoulliDiffusion
from napari_hidiff.diffusion.gaussian import GaussianDiffusion
from napari_hidiff.training.losses import RefinerLoss, bernoulli_kl, focal

NUMBERS = json.loads(VECTORS.read_text())


def number(value):
    return torch.tensor(float(value), dtype=torch.float64)


def test_kl():
    for row in NUMBERS["losses"]["bernoulli_kl(q||p)"]:
        value = bernoulli_kl(number(row["p"]), number(row["q"]))
        assert math.isclose(float(value), row["KL_nats"], abs_tol=1e-12), row


def test_focal():
    for row in NUMBERS["losses"]["focal_gamma2"]:
        value = focal(number(row["eps_hat"]), number(row["eps"]))
        assert math.isclose(float(value), row["focal_gamma2_nats"], abs_tol=1e-12), row


@pytest.mark.parametrize("mode", ["kl", "kl-focal"])
def test_the_paper_s_loss_on_worked_examples(mode):
    loss = RefinerLoss(BernoulliDiffusion(10), 1, mode, "plugin")
    for row in NUMBERS["training_examples"]["vectors"]:
        y0_hat = abs(row["yt"] - row["eps_hat"])
        logits, y0, y_t, prior = (
            number(x).reshape(1, 1, 1, 1)
            for x in (math.log(y0_hat / (1 - y0_hat)), row["y0"], row["yt"], row["f"])
        )
        value = float(loss(logits, y0, y_t, prior, torch.tensor([row["t"]])))
        expected = row["KL_nats"] + (row["focal"] if mode == "kl-focal" else 0)
        assert math.isclose(value, expected, abs_tol=1e-9), row


@pytest.mark.parametrize("mode", ["ce-dice", "kl", "kl-focal"])
@pytest.mark.parametrize("classes", [1, 3])
def test_losses_fall_towards_the_truth_and_have_finite_gradients(mode, classes):
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, max(2, classes), (2, 8, 8), generator=generator)
    y0 = (
        truth[:, None].double()
        if classes == 1
        else torch.nn.functional.one_hot(truth, classes).movedim(-1, 1).double()
    )
    prior = torch.rand(y0.shape, generator=generator, dtype=torch.float64)
    prior[:, :, 0] = y0[:, :, 0]  # exact priors, as at fixed pixels
    y_t = (torch.rand(y0.shape, generator=generator) < prior).double()
    y_t[:, :, 0] = y0[:, :, 0]
    loss = RefinerLoss(BernoulliDiffusion(10), classes, mode, "mixture")
    values = []
    for confidence in (-2.0, 0.0, 2.0, 40.0):
        logits = (confidence * (2 * y0 - 1)).requires_grad_()
        value = loss(logits, y0, y_t, prior, torch.tensor([1, 7]))
        (gradient,) = torch.autograd.grad(value, logits)
        assert torch.isfinite(gradient).all()
        values.append(value.item())
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("posterior", ["mixture", "plugin"])
@pytest.mark.parametrize("real", [torch.float32, torch.float64])
def test_the_prior_s_gradient_is_finite_too(posterior, real):
    """As the segmentor's step needs it: where the posterior rounds to 0 or 1, x ln x has no
    finite slope."""
    edge = [1e-7, 2e-6, 1e-5, 1e-4, 0.2]
    given = [0, *edge, 0.5, *(1 - f for f in edge), 1]
    prior = torch.tensor(given, dtype=real).reshape(1, 1, 1, -1)
    loss = RefinerLoss(BernoulliDiffusion(10), 1, "kl-focal", posterior)
    for y0, y_t, t in itertools.product((0.0, 1.0), (0.0, 1.0), range(1, 11)):
        f = prior.clone().requires_grad_()
        logits = torch.zeros_like(prior).requires_grad_()
        filled = [torch.full_like(prior, value) for value in (y0, y_t)]
        value = loss(logits, *filled, f, torch.tensor([t]))
        for gradient in torch.autograd.grad(value, (f, logits)):
            assert torch.isfinite(gradient).all(), (y0, y_t, t)


@pytest.mark.parametrize("process", [BernoulliDiffusion(10), GaussianDiffusion(10)])
@pytest.mark.parametrize("classes", [1, 3])
def test_cross_entropy_and_dice_over_the_whole_batch(classes, process):
    rng = np.random.default_rng(0)
    logits, labels = (
        rng.normal(0, 2, (2, classes, 5, 6)),
        rng.integers(0, max(2, classes), (2, 5, 6)),
    )
    if classes == 1:
        p, y = 1 / (1 + np.exp(-logits)), labels[:, None]
        entropy = -np.where(y == 1, np.log(p), np.log(1 - p)).mean()
    else:
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        y = np.moveaxis(np.eye(3)[labels], -1, 1)
        entropy = -np.log((p * y).sum(1)).mean()
    both, sizes = ((a).sum((0, 2, 3)) for a in (p * y, p + y))
    expected = entropy + (1 - (2 * both + 1e-5) / (sizes + 1e-5)).mean()
    loss = RefinerLoss(process, classes, "ce-dice", "mixture")
    given = [torch.from_numpy(array.astype(np.float64)) for array in (logits, y)]
    value = loss(*given, None, None, None)  # neither the state nor the time matters
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_edges_of_kl_and_focal():
    """Where p is 0 or 1 it counts as 1e-6 from there; the loss of what is right is 0."""
    assert float(bernoulli_kl(number(1), number(0))) == pytest.approx(6 * math.log(10))
    assert float(bernoulli_kl(number(0), number(1))) == pytest.approx(6 * math.log(10))
    for same in (0, 0.25, 1):
        assert float(bernoulli_kl(number(same), number(same))) == pytest.approx(0, abs=2e-6)
    assert float(focal(number(0), number(1))) == pytest.approx(6 * math.log(10), rel=1e-5)
    assert float(focal(number(1), number(1))) == 0
    assert float(focal(number(0.75), number(0), gamma=1)) == pytest.approx(-0.75 * math.log(0.25))


@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_a_prior_of_0_or_1_counts_as_almost_that(prior):
    """So that a y_t that it calls impossible is explained by noise, not by 0 / 0."""
    loss = RefinerLoss(BernoulliDiffusion(10), 1, "kl", "mixture")
    logits, y = number(0.5).reshape(1, 1, 1, 1), number(1 - prior).reshape(1, 1, 1, 1)
    t, almost = torch.tensor([5]), abs(prior - 1e-6)
    for y0 in (y, 1 - y):
        given, same = (
            float(loss(logits, y0, y, torch.full_like(y, f), t)) for f in (prior, almost)
        )
        assert given == pytest.approx(same, rel=1e-9)


@pytest.mark.parametrize("mode", ["kl", "kl-focal"])
def test_a_process_that_ends_in_even_chances_is_trained_as_with_a_prior_of_them(mode):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, 4, generator=generator)
    prior = torch.rand(2, 3, 4, 4, generator=generator)
    y0, y_t = (torch.rand(2, 2, 3, 4, 4, generator=generator) < 0.4).float()
    t = torch.tensor([3, 8])
    even, third = BernoulliDiffusion(10, centre="even"), torch.full_like(prior, 1 / 3)
    value = RefinerLoss(even, 3, mode, "mixture")(logits, y0, y_t, prior, t)
    same = RefinerLoss(BernoulliDiffusion(10), 3, mode, "mixture")(logits, y0, y_t, third, t)
    other = RefinerLoss(BernoulliDiffusion(10), 3, mode, "mixture")(logits, y0, y_t, prior, t)
    torch.testing.assert_close(value, same)
    assert abs(float(value - other)) > 0.001


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mse", "mixture"), "loss must be one of .*, not 'mse'"),
        (("kl", "exact"), "posterior must be one of .*, not 'exact'"),
    ],
)
def test_an_unknown_loss_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RefinerLoss(BernoulliDiffusion(10), 1, *arguments)
    for mode in ("kl", "kl-focal"):
        with pytest.raises(ValueError, match=f"the loss {mode} is about flips"):
            RefinerLoss(GaussianDiffusion(10), 1, mode, "mixture")
