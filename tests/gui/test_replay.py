"""A session in the window, repeated from its log: the same mask, bit by bit."""

import json
from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt

from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.replay import Replay
from napari_hidiff.cli.replay import Models, differing

CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


def repeat(
    kept: sidecar.SavedSession, image: np.ndarray, model: Path, until: int | None = None
) -> Replay:
    repeated = Replay(kept.log, kept.shape, image, Models([model], None))
    repeated.run(until)
    return repeated


def saved(hand) -> sidecar.SavedSession:
    hand.widget.bench.autosave.touch()
    hand.widget.bench.autosave.flush()
    path = sidecar.find(sidecar.image_key(hand.widget.image.data))
    assert path is not None
    kept = sidecar.load(path)
    assert kept is not None
    return kept


def check(hand, model: Path) -> sidecar.SavedSession:
    """The session so far, repeated; what is in its sidecar."""
    kept, image = saved(hand), hand.widget.image.data
    repeated = repeat(kept, image, model)
    assert repeated.deviation is None
    assert repeated.unknown == []
    np.testing.assert_array_equal(repeated.mask, hand.mask.data)
    assert differing(repeated, kept) == []
    return kept


def undo(hand, times: int = 1) -> None:
    for _ in range(times):
        hand.key(Qt.Key.Key_Z, CONTROL)


def redo(hand, times: int = 1) -> None:
    for _ in range(times):
        hand.key(Qt.Key.Key_Z, CONTROL | SHIFT)


def test_a_whole_session_is_repeated(hand, tiny_file: Path) -> None:
    hand.widget.settings.samples.value = 6
    hand.click("segment")
    hand.stroke((20, 30), (26, 60))
    hand.click("run")
    hand.stroke((50, 20), (50, 50), mode="erase")
    hand.click("rerefine")
    check(hand, tiny_file)
    hand.key(Qt.Key.Key_K, SHIFT)  # reject
    undo(hand, 2)
    redo(hand)
    hand.stroke((60, 20), (60, 60), mode="erase")
    hand.stroke((60, 20), (60, 60), mode="erase")  # it only confirms
    hand.widget.settings.seed.value = 7
    hand.click("step")
    hand.stroke((10, 70), (30, 74))  # the run does not know it
    hand.click("run")
    check(hand, tiny_file)
    for _ in range(2):
        hand.key(Qt.Key.Key_H, SHIFT)
        hand.idle()
    hand.click("accept")
    hand.click("complete")
    undo(hand)
    hand.click("rerefine")
    kept = check(hand, tiny_file)
    actions = [entry["action"] for entry in kept.log]
    assert actions[:3] == ["open", "slice", "segment"]
    wanted = "stroke confirm undo redo run write alternatives show accept reject walker"
    assert set(wanted.split()) < set(actions)
    assert actions.count("stroke") == 4, "a stroke of several movements is one entry"
    runs = [entry for entry in kept.log if entry["action"] == "run"]
    assert [run["taken"] for run in runs] == [2] * len(runs)
    assert all(len(run["digest"]) == 32 and run["engine"] in ("torch", "packed") for run in runs)
    times = [entry["at"] for entry in kept.log]
    assert times == sorted(times)

    for until in (5, len(actions) // 2):  # up to a moment in between
        part = repeat(kept, hand.widget.image.data, tiny_file, until)
        assert part.done == until
        entry = kept.log[until - 1]
        session = part.annotation.sessions[tuple(entry["slice"])]
        assert session.timeline.digest == entry["mask"]


def test_two_slices_of_a_stack_are_repeated(open_hand, picture, tiny_file: Path) -> None:
    stack = np.stack([picture, picture[::-1], 255 - picture])
    hand = open_hand(stack, rgb=True, model=tiny_file)
    for position in (0, 2, 0):
        hand.viewer.dims.set_current_step(0, position)
        hand.known()
        hand.click("run" if position else "segment")
        hand.wait(lambda: hand.widget.session is not None)
        hand.idle()
        hand.stroke((20, 30 + position), (26, 60))
        hand.control("near").setChecked(position == 2)
        hand.click("rerefine")
    undo(hand, 2)
    hand.click("accept")
    kept = check(hand, tiny_file)
    assert set(kept.slices) == {(0, -1, -1), (2, -1, -1)}
    assert {tuple(entry["slice"]) for entry in kept.log if "slice" in entry} == set(kept.slices)


def test_strokes_across_and_in_three_dimensions_are_kept_and_repeated(
    open_hand, picture, tiny_file: Path
) -> None:
    stack = np.ascontiguousarray(np.stack([picture[..., 0]] * 20))
    hand = open_hand(stack)
    hand.use_none()
    hand.viewer.dims.set_current_step(0, 10)
    hand.click("new_mask")
    hand.stroke((20, 30), (26, 60))
    hand.mask.n_edit_dimensions = 3
    hand.stroke((40, 30), (40, 60))
    hand.mask.n_edit_dimensions = 2
    kept = check(hand, tiny_file)
    assert len(kept.slices) >= 3, "a ball of paint reaches into the neighbours"
    hand.viewer.dims.order = (1, 0, 2)
    hand.viewer.dims.set_current_step(1, 40)
    hand.known()
    hand.mask.data_setitem((np.array([3, 4]), np.array([40, 40]), np.array([5, 5])), 2)
    undo(hand)
    redo(hand)
    check(hand, tiny_file)


def test_three_classes_and_a_mask_of_the_users_are_repeated(
    open_hand, picture, tiny, tmp_path: Path
) -> None:
    path = tmp_path / "three.safetensors"
    tiny(labels=3).save(path)
    hand = open_hand(picture, rgb=True, model=path)
    mine = np.zeros(picture.shape[:2], np.uint8)
    mine[30:40, 20:70], mine[50:60, 20:70] = 1, 2
    hand.widget.choose.prior.value = hand.viewer.add_labels(mine, name="mine")
    hand.click("segment")
    hand.stroke((20, 30), (26, 60), label=2)
    hand.click("run")
    hand.stroke((64, 30), (60, 60), label=1)
    hand.widget.settings.sampler.value = "ancestral"
    hand.click("rerefine")
    hand.click("accept")
    assert set(np.unique(hand.mask.data)) == {0, 1, 2}
    check(hand, path)


def test_going_on_keeps_strokes_accepted_masks_and_the_log(
    open_hand, picture, tiny_file: Path
) -> None:
    hand = open_hand(picture, rgb=True, model=tiny_file)
    hand.click("segment")
    hand.stroke((20, 30), (26, 60))
    hand.click("accept")
    hand.stroke((50, 30), (50, 60))
    mask, strokes = hand.mask.data.copy(), hand.fixed
    hand.viewer.window.remove_dock_widget(hand.dock)
    hand.viewer.layers.clear()
    hand.viewer.add_image(picture, name="again", rgb=True)
    added = hand.viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    hand.dock, hand.widget = added
    hand.use(tiny_file)
    hand.wait(lambda: hand.control("go_on").isVisible(), "the offer to go on")
    hand.says("a mask", "kept")
    hand.click("go_on")
    assert not hand.control("go_on").isVisible()
    np.testing.assert_array_equal(hand.mask.data, mask)
    np.testing.assert_array_equal(hand.fixed, strokes)
    hand.click("rerefine" if hand.control("rerefine").isEnabled() else "run")
    hand.wait(lambda: hand.widget.session.run is not None)
    hand.idle()
    np.testing.assert_array_equal(hand.mask.data[strokes >= 0], strokes[strokes >= 0])
    hand.stroke((60, 30), (64, 60))
    if not hand.control("after_stroke").isChecked():  # it is where updates are quick
        hand.click("rerefine")
    hand.idle()
    kept = check(hand, tiny_file)
    actions = [entry["action"] for entry in kept.log]
    assert actions.count("open") == actions.count("restore") == 1
    hand.widget.shut_down()


def test_a_log_that_was_changed_is_told_by_its_first_entry(hand, tiny_file: Path) -> None:
    hand.click("segment")
    hand.stroke((20, 30), (26, 60))
    hand.click("rerefine")
    hand.click("accept")
    kept, image = saved(hand), hand.widget.image.data
    log = json.loads(json.dumps(kept.log))
    at = next(number for number, entry in enumerate(log) if entry["action"] == "run")
    log[at] |= {"seed": 99, "margin": 0.0}
    repeated = Replay(log, kept.shape, image, Models([tiny_file], None))
    repeated.run()
    assert repeated.deviation is not None
    assert repeated.deviation.action == "write"
    assert repeated.deviation.entry == at + 2
    assert "another mask" in repeated.deviation.reason
    log[at] |= {"sampler": "one-step"}
    repeated = Replay(log, kept.shape, image, Models([tiny_file], None))
    repeated.run()
    assert repeated.deviation is not None
    assert "no step 2" in repeated.deviation.reason
    log = json.loads(json.dumps(kept.log))
    log.insert(3, {"action": "levitate", "at": 0})
    repeated = Replay(log, kept.shape, image, Models([tiny_file], None))
    repeated.run()
    assert repeated.unknown == [(4, "levitate")]
