"""Packed kernels in the window: ready by themselves, never in the way, and local near strokes."""

import threading
from pathlib import Path

import numpy as np

from napari_hidiff._qt import messages
from napari_hidiff.engine import engine as engines


def test_torch_refines_until_the_kernels_are_ready(open_hand, picture, tiny_file, monkeypatch):
    go, compiled = threading.Event(), engines.compiled

    def slow(refiner):
        assert go.wait(300)
        return compiled(refiner)

    monkeypatch.setattr(engines, "compiled", slow)
    monkeypatch.setattr(messages, "WORTH_SAYING", 0.0)
    hand = open_hand(picture, rgb=True, model=tiny_file)
    model, cost = hand.widget.models.model, hand.control("cost")
    hand.wait(lambda: "until fast kernels are ready" in cost.text(), "the line tells of it")
    hand.click("segment")
    hand.click("run")
    assert model.engine == "torch"
    first = hand.mask.data.copy()
    go.set()
    hand.wait(lambda: model.engine == "packed")
    hand.wait(lambda: "A run takes about" in cost.text() and "until" not in cost.text())
    hand.click("rerefine")
    assert np.mean(hand.mask.data != first) < 0.001, "the same mask, whatever ran"


def test_near_the_strokes_of_a_large_image_only_their_surroundings_are_computed(
    open_hand, picture: np.ndarray, tiny_file: Path
) -> None:
    large = np.tile(picture, (11, 9, 1))
    hand = open_hand(large, rgb=True, model=tiny_file)
    hand.widget.settings.sampler.value = "one-step"
    hand.click("segment")
    hand.click("run")
    before = hand.widget.session.run.shown[-1].probability.copy()
    hand.control("near").setChecked(True)
    painted = hand.stroke((300, 300), (306, 330))
    hand.click("rerefine")
    run = hand.widget.session.run
    assert run.local is not None
    after = run.shown[-1].probability
    rows, columns = np.nonzero(painted)
    far = np.ones(painted.shape, bool)
    far[rows.min() - 64 : rows.max() + 65, columns.min() - 64 : columns.max() + 65] = False
    np.testing.assert_array_equal(after[0][far], before[0][far])
    assert (after[0][~far] != before[0][~far]).any()
    assert (hand.mask.data[painted] == 1).all()


def test_two_windows_refine_at_once_and_one_is_stopped(open_hand, picture, tiny_file) -> None:
    hands = [open_hand(picture, rgb=True) for _ in range(2)]
    for hand in hands:
        hand.use(tiny_file)
        hand.wait(lambda hand=hand: hand.widget.models.model.engine == "packed")
        hand.click("segment")
    stopped, going = hands
    gates = []
    for hand in hands:
        gates.append(hand.hold())
        hand.click("run", wait=False)
    for hand in hands:
        hand.wait(lambda hand=hand: hand.widget.session.run.steps >= 1)
        assert hand.widget.work.busy
    stopped.click("stop", wait=False)
    for gate in gates:
        gate.open()
    stopped.idle()
    going.idle()
    first, second = (hand.widget.session.run for hand in hands)
    assert 0 < first.steps < first.total
    assert second.steps == second.total
    for step in range(1, first.steps + 1):
        np.testing.assert_array_equal(first.shown[step].mask, second.shown[step].mask)
    stopped.click("run")
    np.testing.assert_array_equal(stopped.mask.data, going.mask.data)
