"""Lazy and multiscale images in the real window: worked on as their like in memory."""

import dask.array as da
import numpy as np
import pytest

from napari_hidiff._qt.layers.layer_data import pixels
from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.replay import Replay
from napari_hidiff.cli.replay import Models
from napari_hidiff.io.images import read_image


@pytest.fixture
def volume():
    z, y, x = np.mgrid[:5, :48, :64]
    branch = abs(y - 24 - z - 9 * np.sin(x / 11)) < 4
    noise = np.random.default_rng(0).normal(0, 30, branch.shape)
    return (np.where(branch, 300, 700) + noise).astype(np.int16)


@pytest.fixture
def grey_file(tiny, tmp_path):
    path = tmp_path / "grey.safetensors"
    tiny(2, 1).save(path)
    return path


def work(hand):
    """A segmentation, a stroke, a re-refinement; the mask, and the kept session."""
    hand.show_maps()
    if hand.viewer.dims.ndim > 2:
        hand.viewer.dims.set_current_step(0, 2)
    hand.known()
    hand.click("segment")
    hand.stroke((10, 10), (10, 40))
    hand.click("rerefine")
    hand.click("accept")
    key = sidecar.image_key(pixels(hand.widget.image))
    hand.wait(lambda: sidecar.find(key), "the sidecar")
    hand.widget.bench.autosave.flush()
    return hand.mask.data.copy(), sidecar.load(sidecar.find(key))


def test_a_lazy_volume_gives_the_mask_of_one_in_memory(open_hand, volume, grey_file):
    hand = open_hand(da.from_array(volume, chunks=(2, 24, 64)), model=grey_file)
    assert "Fits this image" in hand.control("message").text()
    lazy, kept = work(hand)
    assert lazy[2].any()
    assert kept.key == sidecar.image_key(volume), "it goes on where it was in memory"
    repeated = Replay(kept.log, kept.shape, volume, Models([grey_file], None))
    repeated.run()
    assert repeated.deviation is None
    np.testing.assert_array_equal(repeated.mask, lazy)


def test_of_a_multiscale_picture_the_finest_level_is_worked_on(
    open_hand, picture, tiny_file, tmp_path
):
    levels = [picture, picture[::2, ::2], picture[::4, ::4]]
    hand = open_hand([da.from_array(level) for level in levels], rgb=True, scale=(2.0, 0.5))
    assert hand.widget.image.multiscale
    hand.widget.panel.settings.learn.expand(animate=False)
    hand.use(tiny_file)
    mask, kept = work(hand)
    assert mask.shape == picture.shape[:2]
    np.testing.assert_array_equal(hand.mask.scale, (2.0, 0.5))
    repeated = Replay(kept.log, kept.shape, picture, Models([tiny_file], None))
    repeated.run()
    assert repeated.deviation is None
    np.testing.assert_array_equal(repeated.mask, mask)
    hand.click("add_example", wait=False)
    hand.wait(lambda: "in the training set" in hand.said(), "the image to be stored")
    (stored,) = (tmp_path / "own-sets").rglob("images/*.png")
    np.testing.assert_array_equal(read_image(stored), picture)


def test_lazy_layers_are_the_channels_of_a_model(open_hand, volume, tiny, tmp_path):
    path = tmp_path / "four.safetensors"
    tiny(2, 4).save(path)
    names = ("red", "green", "blue", "infrared")
    arrays = [volume + 50 * at for at in range(4)]
    hand = open_hand()
    for name, array in zip(names, arrays, strict=True):
        hand.viewer.add_image([da.from_array(array), da.from_array(array[:, ::2, ::2])], name=name)
    hand.viewer.reset_view()
    hand.use(path)
    hand.wait(lambda: hand.widget.fit.problem is None, "a model that fits")
    mask, kept = work(hand)
    repeated = Replay(kept.log, kept.shape, arrays[0], Models([path], None), tuple(arrays))
    repeated.run()
    assert repeated.deviation is None
    np.testing.assert_array_equal(repeated.mask, mask)
