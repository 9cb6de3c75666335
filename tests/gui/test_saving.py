"""Saving while one works: a disk that refuses, and two windows on one image."""

from pathlib import Path

import numpy as np
import pytest

from napari_hidiff.annotation import sidecar
from napari_hidiff.io.storage import SESSIONS


def start(hand) -> None:
    hand.use_none()
    hand.click("new_mask")


def test_a_folder_that_refuses_is_one_warning_and_loses_nothing(
    open_hand, picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstacle = tmp_path / "not a folder"
    obstacle.write_text("in the way")
    monkeypatch.setenv(SESSIONS, str(obstacle / "sessions"))
    hand = open_hand(picture, rgb=True)
    start(hand)
    hand.stroke((40, 30), (40, 60))
    hand.wait(lambda: "cannot be kept on disk" in hand.said())
    hand.stroke((50, 30), (50, 60))
    painted = hand.fixed
    hand.widget.bench.autosave.flush()  # fails again, and says nothing more
    assert hand.said().count("cannot be kept on disk") == 1
    np.testing.assert_array_equal(hand.fixed, painted)
    obstacle.unlink()
    key = sidecar.image_key(picture)
    hand.wait(lambda: sidecar.find(key), "another try, without a new stroke")
    kept = sidecar.load(sidecar.path_of(key))
    np.testing.assert_array_equal(kept.slices[-1, -1].fixed, painted)


def test_two_windows_on_one_image_do_not_write_over_each_other(open_hand, picture) -> None:
    one, two = open_hand(picture, rgb=True), open_hand(picture, rgb=True)
    for hand in (one, two):
        start(hand)
    for row in (20, 24):
        one.stroke((row, 30), (row, 60))
        one.widget.bench.autosave.flush()
        two.stroke((row + 30, 20), (row + 30, 80))
        two.widget.bench.autosave.flush()
    first = sidecar.path_of(sidecar.image_key(picture))
    second = sidecar.find(sidecar.image_key(picture))
    assert second != first
    for hand, path in ((one, first), (two, second)):
        kept = sidecar.load(path)
        np.testing.assert_array_equal(kept.slices[-1, -1].fixed, hand.fixed)
    assert (one.fixed != two.fixed).any()
