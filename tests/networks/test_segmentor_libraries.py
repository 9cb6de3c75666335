"""The adapter of segmentation-models-pytorch against the real library, where it is installed."""

import copy
from importlib import import_module

import numpy as np
import pytest
import torch

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label
from napari_hidiff.networks.segmentor_registry import build_segmentor, segmentor_options

MULTIPLES = {
    "smp:unet/mit_b0": 32,
    "smp:fpn/resnet18": 32,
    "smp:segformer/mit_b0": 32,
    "smp:unet/tu-convnext_atto": 32,
    "smp:unet/tu-maxvit_pico_rw_256": 256,
}


@pytest.fixture(autouse=True, scope="module")
def library():
    """A skip with the reason where the optional extra cannot be imported."""
    try:
        return import_module("segmentation_models_pytorch")
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"segmentation-models-pytorch (extra smp) cannot be imported: {error}")


def build(text, channels=2, classes=3):
    torch.manual_seed(0)
    return build_segmentor(channels=channels, classes=classes, **segmentor_options(text)).eval()


@pytest.mark.parametrize("name", MULTIPLES)
@pytest.mark.parametrize(("channels", "classes"), [(1, 4), (4, 1)])
def test_logits_and_four_features(name, channels, classes):
    segmentor = build(name, channels, classes)
    assert segmentor.multiple == MULTIPLES[name]
    with torch.no_grad():
        logits, features = segmentor(torch.randn(1, channels, 50, 97))
    assert logits.shape == (1, classes, 50, 97)
    assert [f.shape[1] for f in features] == list(segmentor.feature_channels)
    assert [tuple(f.shape[2:]) for f in features] == [(16, 32), (8, 16), (4, 8), (2, 4)]


@pytest.mark.parametrize("name", MULTIPLES)
def test_it_is_the_library_s_network(name):
    segmentor = build(name)
    side = segmentor.multiple
    image = torch.randn(1, 2, side, 2 * side)
    with torch.no_grad():
        assert torch.equal(segmentor(image)[0], segmentor.network(image))


@pytest.mark.parametrize("name", MULTIPLES)
def test_it_learns_and_its_copies_are_their_own(name):
    segmentor = build(name).train()
    before = copy.deepcopy(segmentor.state_dict())
    clone = copy.deepcopy(segmentor)
    logits, features = segmentor(torch.randn(2, 2, 64, 64))
    (logits.square().mean() + sum(f.square().mean() for f in features)).backward()
    assert [n for n, p in segmentor.named_parameters() if p.grad is None] == []
    torch.optim.SGD(segmentor.parameters(), 0.1).step()
    assert any(not torch.equal(v, before[k]) for k, v in segmentor.state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in clone.state_dict().items())


@pytest.mark.parametrize("name", MULTIPLES)
def test_a_model_file_keeps_the_prior(name, tmp_path):
    labels = tuple(Label(f"label {i}", "#000000") for i in range(2))
    card = Card(
        "tiny",
        labels,
        ("grey",),
        segmentor=segmentor_options(name),
        refiner={"width": 32, "stem": 2},
    )
    model = HiDiff.create(card)
    model.save(tmp_path / "model.safetensors")
    image = np.random.default_rng(0).integers(0, 255, (50, 37)).astype(np.uint8)
    loaded = load_model(tmp_path / "model.safetensors", device="cpu")
    np.testing.assert_allclose(loaded.prior(image), model.prior(image), atol=2e-2)  # float16
    assert loaded.refine(image, steps=1, samples=1).mask.shape == (50, 37)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smp:vnet/resnet18", "cannot be built: KeyError: .*`vnet`"),
        ("smp:unet/vgg", "cannot be built: KeyError: .*`vgg`"),
        ("smp:unet/tu-vgg", "cannot be built: RuntimeError: .*vgg"),
        ("smp:deeplabv3plus/resnet18", "features at strides 4, 8, 16, 16; wanted are four"),
        ("smp:unet/tu-swin_tiny_patch4_window7_224", r"reads no image .*doesn't match model \(224"),
    ],
)
def test_networks_that_do_not_fit_get_one_line(name, message):
    with pytest.raises(InputError, match=message) as caught:
        build(name)
    assert "\n" not in str(caught.value)
