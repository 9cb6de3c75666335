"""A frozen class is frozen again when a session is gone on with, and has the pixels it had."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_hidiff.annotation import annotation, sidecar
from napari_hidiff.annotation.replay import Replay
from napari_hidiff.cli.replay import Models, differing

CONTROL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def volume() -> np.ndarray:
    z, y, x = np.mgrid[:3, :48, :64]
    branch = abs(y - 24 - z - 9 * np.sin(x / 11)) < 4
    noise = np.random.default_rng(0).normal(0, 30, branch.shape)
    return (np.where(branch, 300, 700) + noise).astype(np.float32)


@pytest.fixture
def four(tiny, tmp_path):
    path = tmp_path / "four.safetensors"
    tiny(labels=4, channels=1).save(path)
    return path


def opened(open_hand, volume, model):
    hand = open_hand(volume.copy(), model=model)
    hand.viewer.dims.set_current_step(0, 1)
    hand.known()
    return hand


def gone_on(open_hand, volume, model):
    hand = opened(open_hand, volume, model)
    hand.wait(lambda: hand.control("go_on").isVisible(), "the offer")
    hand.click("go_on")
    return hand


def closed(hand) -> sidecar.SavedSession:
    hand.widget.shut_down()
    path = sidecar.find(sidecar.image_key(hand.viewer.layers["image"].data))
    assert path is not None
    kept = sidecar.load(path)
    assert kept is not None
    return kept


def is_locked(hand, label) -> bool:
    return hand.control(f"lock_{label}").isChecked()


def test_a_frozen_class_comes_back_frozen_in_every_slice(open_hand, volume, four) -> None:
    hand = opened(open_hand, volume, four)
    hand.click("segment_slices")
    hand.stroke((10, 10), (10, 40), label=1)
    hand.click("lock_2")
    hand.click("lock_3")
    hand.click("lock_3")  # and let go again
    held = hand.mask.data == 2
    assert held.any((1, 2)).all(), "the class is in every slice"
    kept = closed(hand)
    assert len(kept.slices) == len(volume), "the mask of every slice is kept"
    assert set(annotation.frozen(kept.log)) == {2}

    hand = gone_on(open_hand, volume, four)
    assert is_locked(hand, 2)
    assert not is_locked(hand, 3)
    np.testing.assert_array_equal(hand.mask.data == 2, held)
    count = hand.widget.bench.annotation.fixed_count
    assert count == kept.strokes, "pixels of a frozen class are nobody's strokes"
    hand.stroke((24, 5), (24, 60), label=1)
    hand.stroke((30, 5), (30, 60), label=2)
    np.testing.assert_array_equal(hand.mask.data == 2, held)
    hand.click("segment_slices")
    np.testing.assert_array_equal(hand.mask.data == 2, held)
    hand.key(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(hand.mask.data == 2, held)
    mask = hand.mask.data.copy()
    kept = closed(hand)
    again = Replay(kept.log, kept.shape, volume, Models([four], None))
    again.run()
    assert again.deviation is None
    np.testing.assert_array_equal(again.mask, mask)
    assert differing(again, kept) == []

    hand = gone_on(open_hand, volume, four)
    np.testing.assert_array_equal(hand.mask.data == 2, held)
    assert sum("held" in entry for entry in hand.widget.bench.annotation.log) == 1
    hand.click("lock_2")  # let go for good
    erased = hand.stroke((24, 5), (24, 60), mode="erase")
    assert (erased & held).any()
    kept = closed(hand)
    assert annotation.frozen(kept.log) == {}
    hand = gone_on(open_hand, volume, four)
    assert not is_locked(hand, 2)
    assert not (hand.mask.data[erased] == 2).any()


def test_a_log_of_an_older_version_freezes_what_is_there(open_hand, volume, four) -> None:
    hand = opened(open_hand, volume, four)
    hand.click("segment")
    hand.click("lock_2")
    hand.click("accept")
    held = hand.mask.data == 2
    kept = closed(hand)
    log = [{key: entry[key] for key in entry if key != "held"} for entry in kept.log]
    sidecar.save(kept.path, kept.shape, kept.slices, log, kept.key)
    hand = gone_on(open_hand, volume, four)
    assert is_locked(hand, 2)
    np.testing.assert_array_equal(hand.mask.data == 2, held)
    assert held.any()
