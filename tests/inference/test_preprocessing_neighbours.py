"""Models of several neighbouring slices: the same slices in the window, commands and training."""

import numpy as np
import pytest

from napari_hidiff.annotation import refinement
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.preprocessing import middle, neighbours, with_neighbours
from napari_hidiff.inference.stack import Stack


def scan(channels=1, depth=5):
    """A volume int16 [D, H, W, C] whose slices differ."""
    rng = np.random.default_rng(0)
    level = 100 * np.arange(depth)[:, None, None, None]
    return (level + rng.normal(500, 90, (depth, 40, 48, channels))).astype(np.int16)


@pytest.mark.parametrize(
    ("at", "slices", "around"),
    [(2, 1, [2]), (2, 3, [1, 2, 3]), (0, 3, [0, 0, 1]), (4, 3, [3, 4, 4]), (1, 5, [0, 0, 1, 2, 3])],
)
def test_beyond_the_ends_the_last_slice_is_repeated(at, slices, around):
    assert neighbours(at, 5, slices) == around
    volume = scan(2)
    joined = with_neighbours(volume, slices)
    assert joined.shape == (*volume.shape[:3], 2 * slices)
    np.testing.assert_array_equal(joined[at], np.concatenate([volume[z] for z in around], -1))
    np.testing.assert_array_equal(middle(joined, slices), volume)


def test_one_slice_alone_stands_for_its_neighbours(tiny):
    model = tiny(2, 1, 3)
    plane = scan()[2]
    read = model.check_image(plane)
    assert read.shape == (40, 48, 3)
    assert (read == plane.astype(np.float32)).all()
    np.testing.assert_array_equal(model.check_image(read), read)
    with pytest.raises(InputError, match="2 channels, the model was trained on 1"):
        model.check_image(np.zeros((40, 48, 2)))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_window_sees_what_commands_see(tiny, channels, axis):
    """A slice of any plane through a stack is that of the volume turned so that it is the first."""
    model, image = tiny(2, channels, 3), scan(channels, depth=40)
    stack = Stack([np.moveaxis(image, -1, 0)], "first") if channels > 1 else Stack([image[..., 0]])
    planes = volumes.normalise(model, np.moveaxis(image, axis, 0))
    for at in (0, 7, len(planes) - 1):
        index = tuple(at if one == axis else -1 for one in range(3))
        np.testing.assert_allclose(stack.normalised(model, index), planes[at], atol=1e-6)


def test_neighbours_decide_and_every_way_finds_the_same(tiny):
    model, image = tiny(2, 1, 3), scan()
    planes, stack, index = volumes.normalise(model, image), Stack([image[..., 0]]), (2, -1, -1)
    found = volumes.prior(model, planes)
    seen = refinement.segment(model, stack, index, None).probability
    np.testing.assert_allclose(seen, found[:, 2], atol=1e-5)
    changed = image.copy()
    changed[3] = changed[3, ::-1]  # grey values of the volume stay
    other = refinement.segment(model, Stack([changed[..., 0]]), index, None).probability
    assert np.abs(other - seen).max() > 1e-3
    how = model.sampling("one-step")
    whole = volumes.refine(model, planes, sampling=how)[:, 2]
    alone = model.refine(planes[2], sampler="one-step", normalised=True).probability
    assert (np.abs(whole - alone) > 1e-5).mean() < 0.01


def test_the_number_is_on_the_card_and_in_the_file(tiny, tmp_path):
    model = tiny(2, 2, 3)
    assert model.card.inputs == 6
    model.save(tmp_path / "three.safetensors")
    again = load_model(tmp_path / "three.safetensors", device="cpu")
    assert again.card.slices == 3
    plane = volumes.normalise(again, scan(2))[1]
    assert again.prior(plane, normalised=True).shape == (1, 40, 48)
