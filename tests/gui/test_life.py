"""How the widget comes and goes: menu, shortcuts, closing, crashing, going on."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from napari_hidiff._qt.controls.settings import EXPLAINED, refine_by
from napari_hidiff._qt.preferences import KEYS
from napari_hidiff.annotation import sidecar

CONTROLS = (
    "image model segment step run stop rerefine accept steps_slider "
    "alternatives reject next_place near sampler steps seed device certain firm"
)
TOOLTIP_KEYS = {"alternatives", "reject"}
"""Buttons that are too narrow for their key."""


def test_controls_are_named_explained_and_not_cut_off(hand) -> None:
    for name in CONTROLS.split():
        control = hand.control(name)
        assert control.toolTip(), f"{name} is not explained"
        if isinstance(control, QPushButton):
            said = control.toolTip() if name in TOOLTIP_KEYS else control.text()
            assert f"[{KEYS[name]}]" in said
    hand.viewer.window.resize(1280, 720)
    hand.click("segment")
    for name in ("segment", "near"):  # one on each page
        hand.open_page_of(hand.control(name))
        page = hand.widget.panel.currentWidget()
        viewport = page.area.viewport()
        wide = page.area.widget()
        hand.wait(lambda w=wide, v=viewport: w.width() <= v.width(), "a page as wide as the view")
        named = [one for one in page.findChildren(QPushButton) if one.objectName()]
        hand.wait(
            lambda all_of=named: all(
                one.width() >= one.sizeHint().width() for one in all_of if one.isVisible()
            ),
            "every text to be seen",
        )


def test_every_sampler_is_explained() -> None:
    import napari_hidiff

    assert tuple(EXPLAINED) == napari_hidiff.inference.card.SAMPLERS
    assert refine_by(sampler="one-step", steps=5).passes == 1


def test_the_plugin_is_found_and_torch_is_not_loaded_for_it() -> None:
    code = (
        "import sys\n"
        "from npe2 import PluginManager\n"
        "manager = PluginManager.instance(); manager.discover()\n"
        "found = [w.display_name for w in manager.iter_widgets() "
        "if w.plugin_name == 'napari-hidiff']\n"
        "assert found == ['HiDiff refine', 'HiDiff compare'], found\n"
        "assert 'torch' not in sys.modules\n"
        "import napari_hidiff._qt.widget\n"
        "assert 'torch' not in sys.modules, 'importing the widget loads torch'\n"
        "assert 'monai' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_shortcuts_leave_with_the_widget(hand) -> None:
    def bound() -> list[str]:
        return [str(key) for key in hand.viewer.keymap]

    assert len(bound()) == len(KEYS) - 1  # one is of HiDiff compare
    hand.click("segment")
    hand.key(Qt.Key.Key_H)
    hand.idle()
    assert hand.widget.session.run.written == 2
    hand.viewer.window.remove_dock_widget(hand.dock)
    assert bound() == []


def test_a_key_in_use_keeps_its_meaning(open_hand, picture) -> None:
    hand = open_hand(picture, rgb=True)
    hand.viewer.window.remove_dock_widget(hand.dock)
    pressed = []
    hand.viewer.bind_key("G", lambda viewer: pressed.append(1))
    from napari_hidiff._qt.widget import HiDiffWidget

    other = HiDiffWidget(hand.viewer)
    hand.key(Qt.Key.Key_G)
    assert pressed == [1]
    assert "leaves keys that are in use alone: G" in hand.said()
    other.shut_down()
    hand.key(Qt.Key.Key_G)
    assert pressed == [1, 1]


def last(hand):
    """A run that lasts until its gate is opened."""
    gate = hand.hold()
    hand.click("run", wait=False)
    hand.wait(lambda: hand.widget.session.run is not None and hand.widget.session.run.steps)
    return gate


def test_closing_the_dock_during_a_run_leaves_no_trace(hand, sessions: Path, capfd) -> None:
    hand.click("segment")
    mask = hand.mask
    hand.stroke((20, 30), (26, 60))
    gate = last(hand)
    hand.viewer.window.remove_dock_widget(hand.dock)
    before = mask.data.copy()
    gate.open()
    hand.quiet()  # the step under way ends in nobody's arms
    np.testing.assert_array_equal(mask.data, before)
    assert "image step" not in hand.viewer.layers
    assert len(list(sessions.glob("*.npz"))) == 1
    assert [note for note in hand.notes if str(note.severity) == "error"] == []
    assert "Traceback" not in capfd.readouterr().err
    mask.paint((3, 3), 1)  # the mask lives on without us
    hand.viewer.layers.remove(mask)


def test_closing_the_window_during_a_run_leaves_no_trace(hand, capfd) -> None:
    hand.click("segment")
    gate = last(hand)
    assert not gc.isenabled(), "a thread may collect what the main thread alone may"
    hand.viewer.close()
    assert not gc.isenabled(), "a thread is still at work"
    gate.open()
    hand.quiet()
    hand.wait(gc.isenabled, "Python's own collections")
    assert [note for note in hand.notes if str(note.severity) == "error"] == []
    assert "Traceback" not in capfd.readouterr().err


def test_starting_anew_moves_the_old_file_aside(open_hand, picture, sessions: Path) -> None:
    path = sidecar.path_of(sidecar.image_key(picture))
    fixed = np.full(picture.shape[:2], -1)
    fixed[:5] = 1
    from napari_hidiff.annotation.journal import SliceRecord

    sidecar.save(path, fixed.shape, {(-1, -1): SliceRecord(fixed, None)}, [])
    old = path.read_bytes()
    hand = open_hand(picture, rgb=True)
    hand.wait(lambda: hand.control("go_on").isVisible(), "the offer to go on")
    hand.click("start_anew")
    assert not hand.control("go_on").isVisible()
    assert path.read_bytes() == old
    hand.use_none()
    hand.click("new_mask")
    hand.stroke((40, 30), (40, 60))
    hand.wait(lambda: len(list(sessions.glob("*.npz"))) == 2, "the saving")
    aside = next(other for other in sessions.glob("*.npz") if other != path)
    assert aside.read_bytes() == old


def test_a_broken_sidecar_is_one_line_and_stays(open_hand, picture) -> None:
    path = sidecar.path_of(sidecar.image_key(picture))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no sidecar")
    hand = open_hand(picture, rgb=True)
    hand.wait(lambda: "cannot be read" in hand.said())
    hand.use_none()
    hand.click("new_mask")
    hand.stroke((40, 30), (40, 60))
    hand.wait(lambda: len(list(path.parent.glob("*.npz"))) == 2, "the saving")
    assert any(other.read_bytes() == b"no sidecar" for other in path.parent.glob("*.npz"))


def test_the_preference_decides_whether_strokes_are_kept(
    open_hand, picture, sessions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.settings import get_plugin_settings

    monkeypatch.setattr(get_plugin_settings("napari-hidiff").work, "keep_strokes", False)
    hand = open_hand(picture, rgb=True)
    hand.use_none()
    hand.click("new_mask")
    hand.stroke((40, 30), (40, 60))
    hand.widget.bench.autosave.flush()
    assert not sessions.exists()
