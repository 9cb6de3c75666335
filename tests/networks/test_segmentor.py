"""Every segmentor by name: shapes, whole images and tiles, training, model files."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.networks.nets import AttentionUnet, SwinUNETR
from torch import nn

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label
from napari_hidiff.networks.segmentor_registry import build_segmentor, segmentor_options

OWN = ["unet", "flexible-unet", "flexible-unet/resnet10", "swin-unetr", "attention-unet"]
OWN += ["segresnet", "lite-unet"]
PLAIN = ["unet", "attention-unet", "segresnet", "lite-unet"]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def build(text, channels=2, classes=3):
    torch.manual_seed(0)
    return build_segmentor(channels=channels, classes=classes, **segmentor_options(text)).eval()


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


@pytest.mark.parametrize("name", [*PLAIN, "swin-unetr"])
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
        ("vnet", "", "must be one of unet, lite-unet, flexible-unet, .*, not 'vnet'"),
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


def test_smp_where_it_cannot_be_imported_is_one_line(tmp_path):
    """A package of that name that fails as torchvision does beside the torch of another index."""
    package = tmp_path / "segmentation_models_pytorch"
    package.mkdir()
    reason = "operator torchvision::nms does not exist"
    (package / "__init__.py").write_text(f"raise RuntimeError({reason!r})\n", encoding="utf-8")
    code = (
        "from napari_hidiff.networks import build_segmentor, segmentor_options\n"
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
