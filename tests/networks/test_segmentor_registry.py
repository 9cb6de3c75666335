"""Any torch module as a segmentor: features of named layers or none, and who may run it."""

import sys
import threading

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label
from napari_hidiff.networks import segmentor_registry
from napari_hidiff.networks.refiner import Refiner
from napari_hidiff.networks.segmentor_registry import build_segmentor, segmentor_options

LAYERS = "stages.1,stages.2,stages.3,stages.4"

MODULE = '''
from collections import OrderedDict

import torch
from torch import nn


class Pyramid(nn.Module):
    """Convolutions of stride 2; logits from the last, together with something else."""

    def __init__(self, channels, classes, width, answer):
        super().__init__()
        sides = (channels, width, width, 2 * width, 2 * width, 4 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip(sides, sides[1:])
        )
        self.unused = nn.Identity()
        self.head = nn.Conv2d(4 * width, classes, 1)
        self.answer = answer

    def forward(self, x):
        size = x.shape[2:]
        for stage in self.stages:
            x = stage(x)
        logits = nn.functional.interpolate(self.head(x), size)
        return {"tensor": logits, "tuple": (logits, x), "dict": {"out": logits, "aux": x}}[
            self.answer
        ]


def make(channels, classes, width=4, answer="tensor"):
    return Pyramid(channels, classes, width, answer)


def small_windows(channels, classes):
    class Picky(nn.Conv2d):
        def forward(self, x):
            assert x.shape[2] % 224 == 0 and x.shape[3] % 224 == 0, "sides of 224"
            return super().forward(x)

    return Picky(channels, classes, 1)


def half_size(channels, classes):
    return nn.Conv2d(channels, classes, 1, 2)


def broken(channels, classes):
    raise KeyError("no weights")


def a_list(channels, classes):
    return [channels, classes]


def rigid(channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(17, 1))
'''


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def build(text, channels=2, classes=3, layers=""):
    torch.manual_seed(0)
    options = segmentor_options(text, layers, trusted=True)
    return build_segmentor(channels=channels, classes=classes, **options).eval()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module of one's own, importable and not yet trusted."""
    name = f"my_networks_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(segmentor_registry.TRUST, raising=False)
    monkeypatch.setattr(segmentor_registry, "_trusted", set())
    return name


def flat(segmentor, image):
    with torch.no_grad():
        logits, features = segmentor(image)
    return [logits, *features]


def a_card(segmentor, channels=2, labels=2):
    return Card(
        "tiny",
        tuple(Label(f"label {i}", "#000000") for i in range(labels)),
        tuple(f"channel {i}" for i in range(channels)),
        segmentor=segmentor,
        refiner={"width": 32, "stem": 2},
    )


@pytest.mark.parametrize("answer", ["tensor", "tuple", "dict"])
def test_any_module_with_features_of_named_layers(module, answer):
    segmentor_registry.trust(module)
    segmentor = build_segmentor(f"{module}:make", 2, 3, layers=LAYERS.split(","), answer=answer)
    image = torch.randn(1, 2, 50, 97, generator=rng())
    logits, *features = flat(segmentor.eval(), image)
    assert logits.shape == (1, 3, 50, 97)
    assert segmentor.feature_channels == (4, 8, 8, 16)
    x = F.pad(image, (15, 16, 7, 7), mode="replicate")
    for stage, feature in zip(segmentor.network.stages, [None, *features], strict=True):
        x = stage(x)
        assert feature is None or torch.equal(x, feature)


def test_copies_and_threads_keep_features_of_their_own(module):
    segmentor_registry.trust(module)
    segmentor = build(f"{module}:make", layers=LAYERS)
    averaged = torch.optim.swa_utils.AveragedModel(segmentor)
    with torch.no_grad():
        for parameter in averaged.module.parameters():
            parameter.mul_(2)
    images = torch.randn(8, 1, 2, 64, 64, generator=rng())
    networks = [segmentor, averaged.module] * 4
    alone = [flat(net, image) for net, image in zip(networks, images, strict=True)]
    assert not torch.equal(alone[0][1], flat(averaged.module, images[0])[1])
    wrong = []

    def work(net, image, expected):
        for _ in range(20):
            found = flat(net, image)
            wrong.extend(i for i in range(5) if not torch.equal(found[i], expected[i]))

    threads = [
        threading.Thread(target=work, args=arguments)
        for arguments in zip(networks, images, alone, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_module_without_features_is_refined_too(module, tmp_path, monkeypatch):
    monkeypatch.setenv(segmentor_registry.TRUST, f"other, {module}")
    card = a_card(segmentor_options(f"{module}:make"))
    model = HiDiff.create(card)
    assert model.segmentor.feature_channels == ()
    assert model.segmentor(torch.zeros(1, 2, 33, 40))[1] == []
    torch.nn.init.normal_(model.refiner.head.weight, std=0.05, generator=rng())
    model.save(tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors", device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (40, 52, 2)).astype(np.uint8)
    result = loaded.refine(image, steps=2, samples=2)
    assert result.mask.shape == (40, 52)
    assert np.abs(result.probability - loaded.prior(image)).max() > 1e-3


def test_a_refiner_without_features_learns_everywhere():
    torch.manual_seed(0)
    refiner = Refiner(1, 1, (), width=32, stem=2).train()
    with torch.no_grad():  # as after some training
        for name, value in refiner.named_parameters():
            if any(part in name for part in ("alpha", "shifts", "head")):
                value.normal_(std=0.05, generator=rng())
    prior = torch.rand(2, 1, 64, 64, generator=rng())
    free = torch.full((2, 64, 64), -1)
    condition = refiner.condition(torch.randn(2, 1, 64, 64, generator=rng(1)), prior, free, [])
    refiner(prior.round(), torch.tensor([3, 8]), condition).square().mean().backward()
    silent = [n for n, p in refiner.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []
    with pytest.raises(ValueError, match=r"strides \(4, 8, 16, 32\) or not at all, not 3"):
        Refiner(1, 1, (8, 8, 8))


def test_images_are_padded_to_what_the_module_accepts(module):
    segmentor = build(f"{module}:small_windows", classes=1)
    assert segmentor.multiple == 224
    image = torch.randn(1, 2, 50, 230, generator=rng())
    with torch.no_grad():
        logits, _ = segmentor(image)
        convolution = segmentor.network
        expected = F.conv2d(image, convolution.weight, convolution.bias)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(
    ("factory", "layers", "message"),
    [
        ("make", "stages.1,stages.2,stages.3", "features at strides 4, 8, 16; wanted are four"),
        ("make", "stages.0,stages.1,stages.2,stages.3", "at strides 2, 4, 8, 16; wanted are"),
        ("make", "stages.4,stages.3,stages.2,stages.1", "at strides 32, 16, 8, 4; wanted are"),
        ("make", "stages.1,stages.2,stages.3,neck", "no layer 'neck'; at its top are stages, "),
        ("make", "stages.1,stages.2,stages.3,unused", "layers unused of the segmentor were not"),
        ("half_size", "", r"logits of shape \(1, 3, 16, 32\) .* wanted \(1, 3, 32, 64\)"),
        ("broken", "", "cannot be built: KeyError: 'no weights'"),
        ("a_list", "", "returns a list, not a torch module"),
        ("rigid", "", "reads no image .* multiples of 32, 64, .*: RuntimeError"),
        ("nothing", "", "has no function 'nothing'"),
    ],
)
def test_modules_that_do_not_fit_get_one_line(module, factory, layers, message):
    with pytest.raises(InputError, match=message) as caught:
        build(f"{module}:{factory}", layers=layers)
    assert "\n" not in str(caught.value)


def test_a_card_cannot_run_a_module_that_nobody_trusts(module, monkeypatch):
    card = a_card({"name": f"{module}:make", "layers": []})
    wanted = f"imports and runs the module {module}; .* set NAPARI_HIDIFF_TRUST={module} "
    for others in ("", "my", f"{module}.more", f"{module}:make"):
        monkeypatch.setenv(segmentor_registry.TRUST, others)
        with pytest.raises(InputError, match=wanted) as caught:
            HiDiff.create(card)
        assert "\n" not in str(caught.value)
    assert module not in sys.modules
    segmentor_options(f"{module}:make")  # reading a text allows nothing
    with pytest.raises(InputError, match=wanted):
        HiDiff.create(card)
    segmentor_options(f"{module}:make", trusted=True)  # a user's own command does
    HiDiff.create(card)
    assert module in sys.modules


def test_a_module_that_is_missing_or_fails_gets_one_line(module, tmp_path):
    with pytest.raises(InputError, match=r"nowhere.at.all cannot be imported \(ModuleNot"):
        build("nowhere.at.all:make")
    (tmp_path / "failing_b.py").write_text("raise OSError('no licence')\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be imported \(OSError: no licence\)"):
        build("failing_b:make")
