"""Images lie in the middle of what networks see, in training as in use."""

import numpy as np
import pytest
import torch
from monai.data import set_track_meta

from napari_hidiff.networks.segmentor import (
    MULTIPLE,
    MULTIPLES,
    STRIDES,
    Segmentor,
    margins,
    pad_to_multiple,
    unpad,
)
from napari_hidiff.training.crops import augmentation


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("side", [1, 31, 32, 33, 97, 224, 960, 999])
def test_a_side_grows_to_the_next_multiple_on_both_ends(side, multiple):
    before, after = margins(side, multiple)
    assert min(before, after) >= 0
    assert (before + side + after) % np.lcm(multiple, MULTIPLE) == 0
    assert before + after < np.lcm(multiple, MULTIPLE)
    assert abs(before - after) <= 1 + MULTIPLE
    inner = margins(side)
    assert inner[1] - inner[0] in (0, 1)
    assert (before - inner[0]) % MULTIPLE == 0


@pytest.mark.parametrize("multiple", [32, 64, 224])
@pytest.mark.parametrize("size", [(1, 1), (35, 51), (64, 96), (50, 230)])
def test_unpad_undoes_padding(size, multiple):
    x = torch.rand(2, 3, *size)
    padded = pad_to_multiple(x, multiple)
    assert torch.equal(unpad(padded, *size, multiple), x)
    assert torch.equal(padded[..., 0, 0], x[..., 0, 0])
    assert torch.equal(padded[..., -1, -1], x[..., -1, -1])


class Positions(Segmentor):
    """Its features are where a pixel lies, averaged over each stride."""

    multiple = 224

    def encode_decode(self, image):
        features = [torch.nn.functional.avg_pool2d(image, stride) for stride in STRIDES]
        return image, features


def test_features_of_a_larger_multiple_are_those_of_the_padded_image():
    rows, columns = torch.meshgrid(torch.arange(50.0), torch.arange(230.0), indexing="ij")
    image = torch.stack([rows, columns])[None]
    logits, features = Positions()(image)
    assert torch.equal(logits, image)
    padded = pad_to_multiple(image)
    for feature, stride in zip(features, STRIDES, strict=True):
        expected = torch.nn.functional.avg_pool2d(padded, stride)
        torch.testing.assert_close(feature, expected)


@pytest.mark.parametrize("size", [(35, 51), (64, 40)])
def test_a_training_crop_of_a_small_image_is_what_a_network_sees_in_use(size):
    set_track_meta(False)
    truth = np.zeros((1, *size), np.float32)
    truth[0, 5:20, 10:18] = 1
    truth[0, 30:, 12:30] = 2
    transform = augmentation(["image", "truth"], 64, flips=False)
    seen = []
    for seed in range(80):  # nine in ten crops are turned or scaled as well
        transform.set_random_state(seed)
        seen.append(transform({"image": truth.copy(), "truth": truth.copy()})[0]["truth"])
    wanted = pad_to_multiple(torch.from_numpy(truth)[None])[0].numpy()
    assert wanted.shape == (1, 64, 64)
    assert sum(np.array_equal(np.asarray(crop), wanted) for crop in seen) >= 5
