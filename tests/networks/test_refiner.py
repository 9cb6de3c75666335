"""The refiner's layers against NumPy oracles, and the network's invariants."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_hidiff.networks.binary import BinaryConv2d, TimeThreshold, binarize_weight, sign
from napari_hidiff.networks.blocks import (
    WINDOW,
    Block,
    CrossBlock,
    TimeActivation,
    TimeEmbedding,
    unwindow,
    windows,
)
from napari_hidiff.networks.refiner import Refiner, probabilities

TIME = 32


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sign_of_zero_is_plus_one():
    assert sign(torch.tensor([-0.5, -0.0, 0.0, 0.5])).tolist() == [-1, 1, 1, 1]


def test_straight_through_gradient_of_activations():
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    upstream = torch.arange(41, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(sign(x), x, upstream)
    values = x.detach().numpy()
    oracle = np.where(np.abs(values) < 1, 2 - 2 * np.abs(values), 0) * upstream.numpy()
    np.testing.assert_allclose(gradient.numpy(), oracle, atol=1e-12)


def test_binary_weights_and_their_gradient():
    weight = (1.5 * torch.randn(3, 4, 3, 3, generator=rng(), dtype=torch.float64)).requires_grad_()
    binary = binarize_weight(weight)
    values = weight.detach().numpy()
    scale = np.abs(values).mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(binary.detach(), np.where(values >= 0, 1, -1) * scale)
    upstream = torch.randn(binary.shape, generator=rng(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(binary, weight, upstream)
    oracle = upstream.numpy() * scale * (np.abs(values) <= 1)
    np.testing.assert_allclose(gradient.numpy(), oracle)


def xnor_popcount(signs, weight, stride):
    """A convolution of signs by bits: 2 popcount(xnor) - n over the taps inside the image."""
    outputs, inputs, kernel, _ = weight.shape
    height, width = signs.shape[1:]
    pad = kernel // 2
    result = np.zeros((outputs, -(-height // stride), -(-width // stride)))
    bits, weights = signs > 0, weight >= 0
    for o, i, j in np.ndindex(result.shape):
        for di, dj in np.ndindex(kernel, kernel):
            y, x = i * stride + di - pad, j * stride + dj - pad
            if 0 <= y < height and 0 <= x < width:  # a padded tap counts 0, not -1
                word = np.packbits(~(bits[:, y, x] ^ weights[o, :, di, dj]))
                extra = -inputs % 8
                popcount = int(np.unpackbits(word)[: inputs + extra][:inputs].sum())
                result[o, i, j] += 2 * popcount - inputs
    return result * np.abs(weight).mean((1, 2, 3))[:, None, None]


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_a_binary_layer_is_xnor_and_popcount(kernel, stride):
    layer = BinaryConv2d(11, 5, kernel, stride, TIME)
    nn.init.normal_(layer.threshold.alpha.weight, std=0.1, generator=rng(2))
    x = torch.randn(1, 11, 7, 6, generator=rng(3))
    time = torch.randn(1, TIME, generator=rng(4))
    alpha = layer.threshold.alpha(time)[0, :, None, None]
    signs = np.where((x[0] - alpha).detach().numpy() >= 0, 1, -1)
    expected = xnor_popcount(signs, layer.weight.detach().numpy(), stride)
    np.testing.assert_allclose(layer(x, time)[0].detach(), expected, atol=1e-4)


def test_the_thresholds_follow_the_time():
    threshold = TimeThreshold(2, TIME)
    with torch.no_grad():
        threshold.alpha.weight[0] = 1.0
    u = torch.tensor([0.5, 0.5]).reshape(1, 2, 1, 1)
    low, high = torch.zeros(1, TIME), torch.full((1, TIME), 0.1)
    assert threshold(u, low).flatten().tolist() == [1, 1]
    assert threshold(u, high).flatten().tolist() == [-1, 1]


def test_time_activation_is_rprelu():
    activation = TimeActivation(3, TIME)
    for parameter in activation.parameters():
        nn.init.normal_(parameter, generator=rng(5))
    u, time = torch.randn(2, 3, 4, 4, generator=rng(6)), torch.randn(2, TIME, generator=rng(7))
    gamma, zeta = activation.shifts(time).detach().numpy().reshape(2, 2, 3, 1, 1).swapaxes(0, 1)
    moved, slope = u.numpy() - gamma, activation.slope.detach().numpy()[None, :, None, None]
    expected = np.where(moved > 0, moved, slope * moved) + zeta
    np.testing.assert_allclose(activation(u, time).detach(), expected, atol=1e-5)


def test_shortcuts_have_no_weights_and_fit_every_step():
    x = torch.randn(1, 64, 4, 4, generator=rng())
    for inputs, outputs, stride, expected in [
        (64, 64, 1, x),
        (64, 128, 1, torch.cat([x, x], 1)),
        (64, 32, 1, (x[:, :32] + x[:, 32:]) / 2),
        (64, 64, 2, F.avg_pool2d(x, 2)),
    ]:
        block = Block(inputs, outputs, TIME, BinaryConv2d, stride=stride)
        assert torch.equal(block.shortcut(x), expected)
    with pytest.raises(ValueError, match="no shortcut leads from 32 to 96"):
        Block(32, 96, TIME, BinaryConv2d)


@pytest.mark.parametrize("size", [(8, 8), (5, 11), (16, 9), (1, 1)])
def test_windows_are_undone(size):
    x = torch.randn(2, 12, *size, generator=rng())
    cut = windows(x, 3)
    rows, columns = (-(-side // WINDOW) for side in size)
    assert cut.shape == (2 * rows * columns, 3, 64, 4)
    assert torch.equal(unwindow(cut, *size), x)


@pytest.mark.parametrize("size", [(5, 11), (9, 8)])
def test_attention_is_a_softmax_within_windows_over_existing_tokens(size):
    block = CrossBlock(8, TIME, BinaryConv2d, heads=2)
    nn.init.normal_(block.position, generator=rng(1))
    q, k, v = torch.randn(3, 1, 8, *size, generator=rng(2))
    attended = block.attend(q, k, v)[0].detach()
    for y, x in np.ndindex(*size):
        top, left = y - y % WINDOW, x - x % WINDOW
        tokens = [
            (i, j)
            for i in range(top, min(top + WINDOW, size[0]))
            for j in range(left, min(left + WINDOW, size[1]))
        ]
        here = (y - top) * WINDOW + x - left
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            places = [(i - top) * WINDOW + j - left for i, j in tokens]
            scores = torch.stack(
                [(q[0, part, y, x] * k[0, part, i, j]).sum() / 2 for i, j in tokens]
            )
            weights = (scores + block.position[head, here, places]).softmax(0)
            values = torch.stack([v[0, part, i, j] for i, j in tokens])
            torch.testing.assert_close(attended[part, y, x], (weights[:, None] * values).sum(0))


def build(channels=2, classes=1, convolution="binary", stem=1, output="y0", width=32):
    torch.manual_seed(0)
    refiner = Refiner(
        channels,
        classes,
        (8, 8, 16, 16),
        width=width,
        convolution=convolution,
        stem=stem,
        output=output,
    )
    with torch.no_grad():  # a trained head, thresholds and statistics are not zero
        for name, value in [*refiner.named_parameters(), *refiner.named_buffers()]:
            if "alpha" in name or "shifts" in name or "head" in name:
                value.normal_(std=0.05)
            if "running_var" in name:
                value.uniform_(0.5, 2)
    return refiner.eval()


def inputs(refiner, height, width, channels=2, batch=1, seed=0):
    generator = rng(seed)
    image = torch.randn(batch, channels, height, width, generator=generator)
    prior = torch.rand(batch, refiner.classes, height, width, generator=generator)
    if refiner.classes > 1:
        prior = prior / prior.sum(1, keepdim=True)
    fixed = torch.randint(-1, refiner.labels, (batch, height, width), generator=generator)
    sizes = [(-(-height // 32) * 32 // s, -(-width // 32) * 32 // s) for s in (4, 8, 16, 32)]
    features = [
        torch.randn(batch, c, *size, generator=generator)
        for c, size in zip((8, 8, 16, 16), sizes, strict=True)
    ]
    y_t = (torch.rand(prior.shape, generator=generator) < prior).float()
    return y_t, (image, prior, fixed, features)


@pytest.mark.parametrize("convolution", ["binary", "real"])
@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize(("classes", "output"), [(1, "y0"), (3, "y0"), (1, "eps"), (3, "eps")])
def test_any_size_goes_in_and_the_same_size_comes_out(convolution, stem, classes, output):
    refiner = build(classes=classes, convolution=convolution, stem=stem, output=output)
    y_t, known = inputs(refiner, 37, 70)
    with torch.no_grad():
        probability = probabilities(refiner(y_t, 4, refiner.condition(*known)))
    assert probability.shape == (1, classes, 37, 70)
    assert ((probability > 0) & (probability < 1)).all()
    if classes > 1:
        torch.testing.assert_close(probability.sum(1), torch.ones(1, 37, 70))


def test_eps_output_is_an_xor_with_y_t():
    refiner = build(output="eps")
    y_t, known = inputs(refiner, 32, 32)
    condition = refiner.condition(*known)
    with torch.no_grad():
        y0_hat = probabilities(refiner(y_t, 4, condition))
        raw = {}
        hook = refiner.head.register_forward_hook(lambda m, i, out: raw.update(eps=out))
        refiner(y_t, 4, condition)
        hook.remove()
    torch.testing.assert_close(y0_hat, (y_t - raw["eps"].sigmoid()).abs())


def test_an_untrained_refiner_returns_its_prior():
    torch.manual_seed(0)
    refiner = Refiner(2, 1, (8, 8, 16, 16)).eval()
    y_t, known = inputs(refiner, 32, 32)
    with torch.no_grad():
        y0_hat = probabilities(refiner(y_t, 7, refiner.condition(*known)))
    torch.testing.assert_close(y0_hat, known[1].clamp(1e-3, 1 - 1e-3))


def test_one_condition_serves_several_samples():
    refiner = build()
    y_t, known = inputs(refiner, 40, 33)
    other, _ = inputs(refiner, 40, 33, seed=1)
    condition = refiner.condition(*known)
    with torch.no_grad():
        together = refiner(torch.cat([y_t, other]), 3, condition)
        for i, alone in enumerate((y_t, other)):
            torch.testing.assert_close(together[i : i + 1], refiner(alone, 3, condition))


def test_a_time_per_image_equals_one_time_at_a_time():
    refiner = build()
    y_t, known = inputs(refiner, 32, 32, batch=2)
    condition = refiner.condition(*known)
    with torch.no_grad():
        together = refiner(y_t, torch.tensor([2, 9]), condition)
        torch.testing.assert_close(together[:1], refiner(y_t, 2, condition)[:1])
        torch.testing.assert_close(together[1:], refiner(y_t, 9, condition)[1:])
        assert not torch.allclose(refiner(y_t, 2, condition), refiner(y_t, 9, condition))


def test_no_layer_sees_the_whole_image():
    """A tile aligned to 256 pixels, with a margin, computes what the whole image computes."""
    refiner = build(stem=2)
    y_t, known = inputs(refiner, 64, 1536)
    image, prior, fixed, features = known
    cut = slice(256, 1280)
    tile = (
        image[..., cut],
        prior[..., cut],
        fixed[..., cut],
        [
            f[..., cut.start // s : cut.stop // s]
            for f, s in zip(features, (4, 8, 16, 32), strict=True)
        ],
    )
    with torch.no_grad():
        whole = refiner(y_t, 4, refiner.condition(*known))
        part = refiner(y_t[..., cut], 4, refiner.condition(*tile))
    # 384 pixels are the reach of the layers below the X-Former and one of its windows.
    torch.testing.assert_close(part[..., 384:640], whole[..., 640:896], rtol=1e-4, atol=1e-4)


def test_every_parameter_learns():
    refiner = build(classes=1)
    refiner.train()
    y_t, known = inputs(refiner, 64, 64, batch=2)
    loss = (
        probabilities(refiner(y_t, torch.tensor([3, 8]), refiner.condition(*known))).square().mean()
    )
    loss.backward()
    silent = [n for n, p in refiner.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []


def test_the_time_layers_stay_narrow():
    refiner = Refiner(3, 1, (48, 64, 96, 128), width=32)
    count = {name: p.numel() for name, p in refiner.named_parameters()}
    time = sum(n for k, n in count.items() if "alpha" in k or "shifts" in k or k.startswith("time"))
    assert time / sum(count.values()) < 0.2


def test_the_binary_network_has_the_work_of_the_paper():
    """At width 128 and 256 x 256: at least 20 binary convolutions and 70 GMAC."""
    work = {}

    def count(name):
        def hook(module, arguments, out):
            work[name] = out[0].numel() * module.weight[0].numel()

        return hook

    with torch.device("meta"):  # shapes without values
        refiner = Refiner(3, 1, (48, 64, 96, 128), width=128)
        for name, module in refiner.named_modules():
            if isinstance(module, BinaryConv2d):
                module.register_forward_hook(count(name))
        levels = zip((48, 64, 96, 128), (4, 8, 16, 32), strict=True)
        features = [torch.zeros(1, c, 256 // s, 256 // s) for c, s in levels]
        image, prior = torch.zeros(1, 3, 256, 256), torch.zeros(1, 1, 256, 256)
        free = torch.full((1, 256, 256), -1)
        refiner(prior, 1, refiner.condition(image, prior, free, features))
    assert len(work) >= 20
    assert sum(work.values()) >= 70e9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 48}, "multiple of 32, not 48"),
        ({"convolution": "ternary"}, "'ternary'"),
        ({"stem": 3}, "stem must be 1 or 2, not 3"),
        ({"output": "y1"}, "'y1'"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_every_time_has_an_embedding_of_its_own():
    embedding = TimeEmbedding(10, TIME)
    rows = embedding(torch.arange(1, 11))
    assert rows.shape == (10, TIME)
    assert torch.pdist(rows).min() > 1e-3
