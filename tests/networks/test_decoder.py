"""A segmentor on an encoder, and the two of them joined."""

import torch

from napari_hidiff.networks import build_segmentor

ENCODER = {"filters": [8, 8, 16, 16], "blocks": [1, 1, 1, 1]}


def test_logits_have_the_size_of_the_image_and_depend_on_the_encoder():
    torch.manual_seed(0)
    segmentor = build_segmentor("encoder-decoder", channels=3, classes=1, width=8, **ENCODER).eval()
    image = torch.randn(2, 3, 50, 70)
    logits, features = segmentor(image)
    assert (tuple(logits.shape), features) == ((2, 1, 50, 70), [])
    assert logits.std() > 0
    with torch.no_grad():
        segmentor.encoder.stem[0].weight.zero_()
    assert not torch.equal(segmentor(image)[0], logits)


def test_an_own_segmentor_is_the_encoder_to_the_refiner():
    torch.manual_seed(0)
    options = {
        "encoder": {"name": "encoder", **ENCODER},
        "own": {"name": "encoder-decoder", "threshold": 0.3, **ENCODER},
    }
    segmentor = build_segmentor("own", channels=3, classes=1, **options).eval()
    image = torch.randn(1, 3, 64, 96)
    logits, features = segmentor(image)
    _, wanted = segmentor.encoder(image)
    assert not logits.any()
    assert segmentor.feature_channels == (8, 8, 16, 16)
    assert all(torch.equal(one, other) for one, other in zip(features, wanted, strict=True))
    assert segmentor.own(image)[0].any()
    assert segmentor.own.threshold == 0.3
