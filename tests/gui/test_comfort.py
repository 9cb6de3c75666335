"""Preferences, sections, samples, the command palette, keys."""

import json
from importlib.resources import files

import numpy as np
import pytest
import yaml
from napari.settings import get_plugin_settings
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QScrollBar,
    QTabBar,
    QWidget,
)
from superqt import QCollapsible

from napari_hidiff._qt import commands, preferences
from napari_hidiff._qt.files import CASE
from napari_hidiff._qt.preferences import KEYS
from napari_hidiff._qt.widget import HiDiffWidget
from napari_hidiff.annotation.refinement import NEAR

PLUGIN = "napari-hidiff"
SHIFT = Qt.KeyboardModifier.ShiftModifier


def manifest() -> dict:
    text = files("napari_hidiff").joinpath("napari.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["contributions"]


def wished(**values: object) -> None:
    """Set preferences as the Preferences dialog does."""
    settings = get_plugin_settings(PLUGIN)
    for section in (settings.work, settings.look, settings.keys):
        for name in set(values) & set(type(section).model_fields):
            setattr(section, name, values[name])


def reopened(hand) -> HiDiffWidget:
    """Close the dock and open another, as after a restart."""
    hand.viewer.window.remove_dock_widget(hand.dock)
    hand.dock, hand.widget = hand.viewer.window.add_plugin_dock_widget(PLUGIN, "HiDiff refine")
    hand.pause(50)
    return hand.widget


def test_preferences_decide_how_the_widget_begins_and_its_keys(
    open_hand, picture, tiny_file
) -> None:
    wished(device="cpu", sampler="one-step", near=True, opacity=0.35)
    wished(segment="Shift+D", run="no key at all")
    hand = open_hand(picture, rgb=True, model=tiny_file, stepwise=False)
    assert hand.widget.settings.device.value == "cpu"
    assert hand.widget.settings.sampler.value == "one-step", "the card says ddim"
    assert hand.control("near").isChecked()
    assert "[Shift+D]" in hand.control("segment").text()
    assert "leaves keys that are in use alone: no key at all" in hand.said()
    hand.key(Qt.Key.Key_G)
    hand.idle()
    assert hand.widget.session is None
    hand.key(Qt.Key.Key_D, SHIFT)
    hand.idle()
    assert hand.widget.session.prior is not None
    assert hand.mask.opacity == pytest.approx(0.35)


def test_sections_open_as_they_were_left(hand, sessions) -> None:
    section = hand.widget.findChild(QCollapsible, "learn")
    assert not section.isExpanded()
    section.toggleButton().click()
    remembered = json.loads((sessions / "interface.json").read_text())
    assert remembered["sections"] == {"learn": True}
    again = reopened(hand).findChild(QCollapsible, "learn")
    assert again.isExpanded()
    again.toggleButton().click()
    (sessions / "interface.json").write_text("{ damaged")
    assert not reopened(hand).findChild(QCollapsible, "learn").isExpanded()


def test_defaults_are_those_of_the_manifest_and_every_control_has_a_tooltip(
    hand, tiny, tmp_path
) -> None:
    assert preferences.sampler() is None
    assert preferences.near() == NEAR
    assert preferences.after_stroke() is None
    assert preferences.radiological()
    assert hand.widget.settings.sampler.value == "ddim"  # the tiny model's card
    keys = manifest()["configurations"]["keys"]["properties"]
    assert {name: facts["default"] for name, facts in keys.items()} == KEYS
    work = manifest()["configurations"]["work"]["properties"]
    import napari_hidiff

    assert work["sampler"]["enum"] == [preferences.BY_CARD, *napari_hidiff.inference.card.SAMPLERS]

    path = tmp_path / "three.safetensors"
    tiny(labels=4).save(path)
    hand.use(path)
    kinds = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox)
    controls = [control for kind in kinds for control in hand.widget.findChildren(kind)]
    assert len(controls) > 30

    def explained(control: QWidget) -> bool:
        # A part of a control (the arrow of a box, the field of a spin box) is explained with it.
        while control is not hand.widget:
            if control.toolTip():
                return True
            control = control.parentWidget()
        return False

    bare = [
        f"{type(control).__name__} {control.objectName()} {getattr(control, 'text', str)()}"
        for control in controls
        if not isinstance(control, QScrollBar)
        and not isinstance(control.parentWidget(), QTabBar)  # arrows for tabs that do not fit
        and not explained(control)
    ]
    assert bare == []


def test_the_fundus_sample_fits_its_model(open_hand, sample_pair) -> None:
    hand = open_hand()
    image, truth = hand.viewer.open_sample(PLUGIN, "fundus")
    np.testing.assert_array_equal(image.data, sample_pair[0])
    np.testing.assert_array_equal(truth.data, sample_pair[1])
    assert not truth.visible
    hand.use("chase-vessels")
    assert hand.widget.fit.problem is None


def test_the_hippocampus_sample_was_not_trained_on(real_data) -> None:
    from napari_hidiff.training.datasets.msd import open_msd

    splits = open_msd(real_data("Task04_Hippocampus")).splits
    assert CASE in {case.id for case in splits["test"]}


def test_a_frozen_class_on_the_real_hippocampus(open_hand) -> None:
    """Segment, freeze the posterior part, paint over it, re-refine, go through the slices."""
    hand = open_hand()
    image, truth = hand.viewer.open_sample(PLUGIN, "hippocampus")
    assert image.data.shape == truth.data.shape == (24, 53, 34)
    assert set(np.unique(truth.data)) == {0, 1, 2}
    hand.use("hippocampus")
    hand.viewer.reset_view()
    hand.click("segment")
    at = int(hand.viewer.dims.current_step[0])
    mask, right = hand.mask.data[at], truth.data[at]
    for label in (1, 2):
        both = np.sum((mask == label) & (right == label))
        dice = 2 * both / (np.sum(mask == label) + np.sum(right == label))
        assert dice > 0.6, "the model does not find what it was trained for"
    hand.click("lock_2")
    frozen = hand.mask.data == 2
    rows, columns = np.nonzero(frozen[at])
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    hand.stroke((top, left), (bottom, right), label=1)
    hand.stroke((bottom, left), (top, right), mode="erase")
    hand.click("rerefine")
    hand.click("accept")
    hand.key(Qt.Key.Key_Right)
    assert int(hand.viewer.dims.current_step[0]) == at + 1
    hand.known()
    hand.click("segment")
    assert not (hand.mask.data[at + 1] == 2).any(), "a frozen class does not grow"
    np.testing.assert_array_equal(hand.mask.data == 2, frozen)
    assert "Posterior is frozen: unlock it to paint." in hand.said()


def test_the_palette_has_every_action_of_the_loop() -> None:
    listed = [entry["python_name"] for entry in manifest()["commands"]]
    loop = {"segment", "step", "run", "stop", "rerefine", "alternatives", "reject", "accept"}
    rest = {"next_place", "paint", "erase", "refine_slices", "carry", "export"}
    shown = {
        entry["id"].partition(".")[2]: entry.get("enablement") for entry in manifest()["commands"]
    }
    hidden = {name for name, enablement in shown.items() if enablement == "False"}
    assert hidden == {"read", "write"}, "what needs a path cannot be run from the palette"
    for name in loop | rest:
        assert f"napari_hidiff._qt.commands:{name}" in listed
        assert callable(getattr(commands, name))


def test_a_command_works_on_the_open_dock_and_opens_a_closed_one(hand, tiny_file) -> None:
    commands.segment()
    hand.idle()
    assert hand.mask.data.any()
    commands.run()
    hand.idle()
    assert hand.widget.session.run.written == 2
    commands.stop()
    assert "Stop: nothing to do that with yet." in hand.said()
    hand.viewer.window.remove_dock_widget(hand.dock)
    commands.segment()
    docked = hand.viewer.window.dock_widgets
    widget = docked["HiDiff refine (HiDiff)"]  # the menu's title, so that it finds it, too
    assert isinstance(widget, HiDiffWidget)
    assert commands.dock(hand.viewer) == widget
    hand.wait(lambda: widget.session is not None and widget.session.prior, "the first mask")
    assert not widget.closed


def test_a_whole_session_with_keys_and_strokes_alone(open_hand, tiny, tmp_path) -> None:
    """No button is pressed from the first mask to the next slice's."""
    path = tmp_path / "grey.safetensors"
    tiny(labels=2, channels=1).save(path)
    stack = np.random.default_rng(0).normal(size=(4, 64, 64)).astype(np.float32)
    hand = open_hand(stack, model=path)
    at = int(hand.viewer.dims.current_step[0])

    def press(key: Qt.Key, modifier=Qt.KeyboardModifier.NoModifier) -> None:
        hand.key(key, modifier)
        hand.idle()

    press(Qt.Key.Key_G)
    assert hand.widget.session.prior is not None
    press(Qt.Key.Key_N)
    assert hand.widget.session.run.steps == 1
    press(Qt.Key.Key_H)
    assert hand.widget.session.run.written == 2
    camera = tuple(hand.viewer.scene.camera.center)
    press(Qt.Key.Key_J)
    assert tuple(hand.viewer.scene.camera.center) != camera
    hand.viewer.reset_view()
    hand.key(Qt.Key.Key_Q)
    assert str(hand.mask.mode) == "paint"
    hand.stroke((20, 20), (20, 40))
    hand.key(Qt.Key.Key_W)
    assert str(hand.mask.mode) == "erase"
    hand.stroke((40, 20), (40, 40), mode="erase")
    strokes = hand.fixed
    press(Qt.Key.Key_U)
    np.testing.assert_array_equal(hand.mask.data[at][strokes >= 0], strokes[strokes >= 0])
    changed = hand.control("reject").isEnabled()
    press(Qt.Key.Key_K, SHIFT)
    assert not changed or not hand.control("reject").isEnabled()
    press(Qt.Key.Key_U)
    press(Qt.Key.Key_K)
    assert hand.widget.session.accepted is not None
    hand.key(Qt.Key.Key_Right)
    assert hand.viewer.dims.current_step[0] == at + 1
    hand.known()
    press(Qt.Key.Key_G)
    assert hand.widget.session.prior is not None
    assert set(hand.widget.bench.annotation.sessions) == {(at, -1, -1), (at + 1, -1, -1)}
    for name in ("segment", "step", "run", "rerefine", "next_place", "accept", "reject"):
        assert KEYS[name]
