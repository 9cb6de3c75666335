"""Sessions of volumes in the window, repeated from the files that were opened."""

import numpy as np
import pytest
from volume_files import affine_of, write_nifti, write_series

from napari_hidiff.annotation.replay import Replay
from napari_hidiff.cli.replay import Models, differing, find

SHAPE = (64, 48, 5)
CHANNELS = ("red", "green", "blue", "infrared")


@pytest.fixture
def open_files(open_hand, tiny, tmp_path):
    """``open_files(channels, *paths)``: a hand on files, with a model of so many channels."""

    def opened(channels, *paths):
        model = tmp_path / "model.safetensors"
        tiny(2, channels).save(model)
        hand = open_hand()
        for path in paths:
            hand.viewer.open(str(path), plugin="napari-hidiff")
        hand.viewer.reset_view()
        hand.use(model)
        hand.wait(lambda: hand.widget.fit.problem is None, "a model that fits")
        return hand, model

    return opened


def scan(channels):
    """Branches that wander from slice to slice, int16 [X, Y, Z, C]."""
    x, y, z = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    branch = abs(y - SHAPE[1] / 2 - z - 9 * np.sin(x / 11)) < 4
    noise = np.random.default_rng(0).normal(0, 30, (*SHAPE, channels))
    return (np.where(branch, 300, 700)[..., None] + 50 * np.arange(channels) + noise).astype("i2")


def work_and_repeat(hand, model, *paths):
    hand.viewer.dims.set_current_step(hand.viewer.dims.ndim - 3, 2)
    hand.known()
    hand.click("segment")
    hand.stroke((20, 30), (26, 60))
    hand.click("rerefine")
    hand.stroke((40, 10), (40, 60), mode="erase")
    hand.click("complete")
    hand.click("rerefine")
    hand.click("accept")
    hand.widget.bench.autosave.flush()
    kept, reading, layers = find(paths)
    repeated = Replay(kept.log, kept.shape, reading.array, Models([model], None), layers)
    repeated.run()
    assert repeated.deviation is None
    np.testing.assert_array_equal(repeated.mask, hand.mask.data)
    assert differing(repeated, kept) == []
    assert {"segment", "stroke", "run", "walker"} < {entry["action"] for entry in kept.log}


def test_channels_in_one_file(open_files, tmp_path):
    path = write_nifti(tmp_path / "case.nii.gz", scan(4), affine_of("LPS", SHAPE))
    work_and_repeat(*open_files(4, path), path)


def test_a_series(open_files, tmp_path):
    write_series(tmp_path / "chest", scan(1)[..., 0].T.astype(np.uint16))
    work_and_repeat(*open_files(1, tmp_path / "chest"), tmp_path / "chest")


def test_an_archive(open_files, tmp_path):
    path = tmp_path / "case.npz"
    np.savez(path, image=scan(1)[..., 0].T, spacing=(3.0, 1.0, 1.0))
    work_and_repeat(*open_files(1, path), path)


def test_a_layer_per_channel(open_files, tmp_path):
    affine, array = affine_of("RAS", SHAPE), scan(4)
    paths = [
        write_nifti(tmp_path / f"case_{name}.nii.gz", array[..., at], affine)
        for at, name in enumerate(CHANNELS)
    ]
    hand, model = open_files(4, *paths)
    assert not hand.control("channels").isHidden(), "it is on the page of settings"
    work_and_repeat(hand, model, *paths)
