"""Every segmentor by name: shapes, whole images and tiles, training, model files, any module."""

import copy
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from monai.networks.nets import AttentionUnet, SwinUNETR
from torch import nn
from torch.nn import functional as F

from napari_hidiff.card import Card, Label
from napari_hidiff.errors import InputError
from napari_hidiff.loading import load_model
from napari_hidiff.model import HiDiff
from napari_hidiff.network import Refiner, build_segmentor, segmentor_options
from napari_hidiff.network.segmentors import anything

OWN = ["unet", "flexible-unet", "flexible-unet/resnet10", "swin-unetr", "attention-unet"]
OWN += ["segresnet"]
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
    monkeypatch.delenv(anything.TRUST, raising=False)
    monkeypatch.setattr(anything, "_trusted", set())
    return name


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(("channels", "classes"), [(1, 4), (4, 1)])
def test_segmentors_give_logits_and_four_features(name, channels, classes):
    segmentor = build(name, channels, classes)
    with torch.no_grad():
        logits, features = segmentor(torch.randn(2, channels, 50, 97, generator=rng()))
    assert logits.shape == (2, classes, 50, 97)
    assert [f.shape[1] for f in features] == list(segmentor.feature_channels)
    assert [tuple(f.shape[2:]) for f in features] == [(16, 32), (8, 16), (4, 8), (2, 4)]
    names = [n for n, _ in segmentor.named_parameters(remove_duplicate=False)]
    assert len(names) == len({id(p) for p in segmentor.parameters()})


@pytest.mark.parametrize("name", OWN)
def test_segmentors_learn_and_their_copies_are_their_own(name):
    segmentor = build(name).train()
    image = torch.randn(2, 2, 64, 64, generator=rng())
    before = copy.deepcopy(segmentor).eval()
    expected = [x.clone() for x in flat(before, image)]
    logits, _ = segmentor(image)
    logits.square().mean().backward()
    silent = [n for n, p in segmentor.named_parameters() if p.grad is None]
    assert silent == []  # training on several processes waits for every gradient
    assert sum(p.grad.abs().sum() for p in segmentor.parameters()) > 0
    torch.optim.SGD(segmentor.parameters(), 0.1).step()
    assert not torch.equal(flat(segmentor.eval(), image)[0], expected[0])
    for now, then in zip(flat(before, image), expected, strict=True):
        assert torch.equal(now, then)


def flat(segmentor, image):
    with torch.no_grad():
        logits, features = segmentor(image)
    return [logits, *features]


@pytest.mark.parametrize("name", ["unet", "attention-unet", "segresnet", "swin-unetr"])
def test_no_layer_sees_the_whole_image(name):
    """A tile with a margin computes what the whole image computes."""
    segmentor = build(name)
    warm(segmentor)
    image = torch.randn(1, 2, 128, 1792, generator=rng())
    # Windows of Swin lie on a grid of 128 pixels, so the tile starts on it.
    cut, inner = slice(256, 1536), slice(512, 768)
    whole, part = flat(segmentor, image), flat(segmentor, image[..., cut])
    for w, p, stride in zip(whole, part, (1, 4, 8, 16, 32), strict=True):
        start, stop, left = inner.start // stride, inner.stop // stride, cut.start // stride
        assert w[..., left:].std() > 1e-3
        torch.testing.assert_close(
            p[..., start:stop], w[..., left + start : left + stop], rtol=1e-3, atol=1e-4
        )


def warm(segmentor):
    """Running statistics of noise, as after some training."""
    segmentor.train()
    with torch.no_grad():
        for seed in range(3):
            segmentor(torch.randn(2, 2, 128, 128, generator=rng(seed)))
    segmentor.eval()


def test_files_that_hold_the_unused_classifier_still_load():
    segmentor = build("flexible-unet")
    state = segmentor.state_dict()
    assert not [key for key in state if "_fc" in key or "_conv_head" in key]
    more = {
        "network.encoder._fc.bias": torch.zeros(9),
        "network.encoder._bn1.weight": torch.ones(1),
    }
    segmentor.load_state_dict(state | more)
    with pytest.raises(RuntimeError, match="_bn11"):
        segmentor.load_state_dict(state | {"network.encoder._bn11.weight": torch.ones(1)})


def test_swin_unetr_is_that_of_monai():
    segmentor = build("swin-unetr")
    image = torch.randn(1, 2, 128, 256, generator=rng())
    with torch.no_grad():
        assert torch.equal(segmentor(image)[0], segmentor.network(image))
    assert isinstance(segmentor.network, SwinUNETR)


def test_attention_unet_is_that_of_monai_with_batch_normalisation():
    """MONAI's recursive network, its instance norms exchanged, with the weights of ours."""
    segmentor = build("attention-unet")
    warm(segmentor)
    theirs = AttentionUnet(2, 2, 3, channels=(16, 32, 48, 64, 96, 128), strides=(2,) * 5)
    for module in theirs.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, nn.BatchNorm2d(child.num_features))
    stem, layer, head = theirs.model
    parts = [(segmentor.stem, stem), (segmentor.head, head)]
    for i, down in enumerate(segmentor.downs):
        deeper = layer.submodule
        last = i == len(segmentor.downs) - 1
        parts.append((down, deeper if last else deeper[0]))
        back = len(segmentor.downs) - 1 - i
        parts.append((segmentor.ups[back], layer.upconv))
        parts.append((segmentor.gates[back], layer.attention))
        parts.append((segmentor.merges[back], layer.merge))
        layer = None if last else deeper[1]
    for ours, their in parts:
        their.load_state_dict(ours.state_dict())
    image = torch.randn(1, 2, 64, 96, generator=rng())
    with torch.no_grad():
        assert torch.equal(theirs.eval()(image), segmentor(image)[0])
    count = [sum(p.numel() for p in net.parameters()) for net in (theirs, segmentor)]
    assert count[0] == count[1]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize(("channels", "labels"), [(1, 2), (4, 4)])
def test_a_model_file_keeps_the_prior(name, channels, labels, tmp_path):
    card = a_card(segmentor_options(name), channels, labels)
    model = HiDiff.create(card)
    model.save(tmp_path / "model.safetensors")
    image = np.random.default_rng(0).integers(0, 255, (50, 37, channels)).astype(np.uint8)
    loaded = load_model(tmp_path / "model.safetensors", device="cpu")
    assert loaded.card == card
    prior = loaded.prior(image)
    assert prior.shape == (card.outputs, 50, 37)
    np.testing.assert_allclose(prior, model.prior(image), atol=2e-2)  # float16
    assert loaded.refine(image, steps=1, samples=1).mask.shape == (50, 37)


def a_card(segmentor, channels=2, labels=2):
    return Card(
        "tiny",
        tuple(Label(f"label {i}", "#000000") for i in range(labels)),
        tuple(f"channel {i}" for i in range(channels)),
        segmentor=segmentor,
        refiner={"width": 32, "stem": 2},
    )


def test_the_text_of_a_command_becomes_the_options_of_a_card():
    assert segmentor_options("unet") == {"name": "unet"}
    assert segmentor_options("flexible-unet") == {"name": "flexible-unet"}
    given = segmentor_options("flexible-unet/resnet34")
    assert given == {"name": "flexible-unet", "backbone": "resnet34"}
    given = segmentor_options("smp:unet/mit_b0")
    assert given == {"name": "smp", "architecture": "unet", "encoder": "mit_b0"}
    given = segmentor_options("my.mod:make", "a.b, c,d,e.0")
    assert given == {"name": "my.mod:make", "layers": ["a.b", "c", "d", "e.0"]}
    assert segmentor_options("my.mod:make") == {"name": "my.mod:make", "layers": []}


@pytest.mark.parametrize(
    ("text", "layers", "message"),
    [
        ("vnet", "", "must be one of unet, flexible-unet, .*, not 'vnet'"),
        ("smp", "", "not 'smp'"),
        ("unet/resnet34", "", "not 'unet/resnet34'"),
        ("flexible-unet/", "", "not 'flexible-unet/'"),
        ("smp:unet", "", "smp:<architecture>/<encoder>, as in smp:unet/mit_b0, not 'smp:unet'"),
        ("my mod:make", "", "not 'my mod:make'"),
        ("my.mod:make.that", "", "not 'my.mod:make.that'"),
        ("unet", "a,b,c,d", "unet has features of its own"),
    ],
)
def test_wrong_names_get_one_line(text, layers, message):
    with pytest.raises(InputError, match=message) as caught:
        segmentor_options(text, layers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "vnet"}, "must be one of unet, .*, not 'vnet'"),
        ({"name": "flexible-unet", "backbone": "vgg"}, "one of efficientnet-b0, .*, not 'vgg'"),
        ({"name": "unet", "depth": 3}, "unet cannot be built: TypeError: .*'depth'"),
        (
            {"name": "swin-unetr", "feature_size": 10},
            "swin-unetr cannot be built: ValueError: .*12",
        ),
        ({"name": ["unet"]}, "cannot be built: TypeError"),
    ],
)
def test_wrong_cards_get_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        build_segmentor(channels=1, classes=1, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("answer", ["tensor", "tuple", "dict"])
def test_any_module_with_features_of_named_layers(module, answer):
    anything.trust(module)
    segmentor = build_segmentor(f"{module}:make", 2, 3, layers=LAYERS.split(","), answer=answer)
    image = torch.randn(1, 2, 50, 97, generator=rng())
    logits, *features = flat(segmentor.eval(), image)
    assert logits.shape == (1, 3, 50, 97)
    assert segmentor.feature_channels == (4, 8, 8, 16)
    x = F.pad(image, (0, 31, 0, 14), mode="replicate")
    for stage, feature in zip(segmentor.network.stages, [None, *features], strict=True):
        x = stage(x)
        assert feature is None or torch.equal(x, feature)


def test_copies_and_threads_keep_features_of_their_own(module):
    anything.trust(module)
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
    monkeypatch.setenv(anything.TRUST, f"other, {module}")
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
        monkeypatch.setenv(anything.TRUST, others)
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


def test_smp_where_it_cannot_be_imported_is_one_line(tmp_path):
    """A package of that name that fails as torchvision does beside the torch of another index."""
    package = tmp_path / "segmentation_models_pytorch"
    package.mkdir()
    reason = "operator torchvision::nms does not exist"
    (package / "__init__.py").write_text(f"raise RuntimeError({reason!r})\n", encoding="utf-8")
    code = (
        "from napari_hidiff.network import build_segmentor, segmentor_options\n"
        "try:\n"
        "    build_segmentor(channels=3, classes=1, **segmentor_options('smp:unet/mit_b0'))\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    (line,) = done.stdout.splitlines()
    assert line.startswith("segmentor smp:unet/mit_b0 needs segmentation-models-pytorch")
    assert f"(RuntimeError: {reason})" in line
    assert "pip install 'napari-hidiff[smp]'" in line


@pytest.mark.parametrize("encoder", ["tu-hf-hub:someone/network", "tu-local-dir:/tmp", "a/b"])
def test_an_encoder_that_would_be_fetched_is_refused(encoder):
    with pytest.raises(InputError, match="an encoder is a plain name"):
        build_segmentor("smp", 3, 1, architecture="unet", encoder=encoder)
