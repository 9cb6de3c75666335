"""What a model or a user made of any slice is kept, and work ends on the slice it began on."""

import nibabel
import numpy as np
import pytest
from napari.settings import get_plugin_settings
from qtpy.QtWidgets import QMessageBox

from napari_hidiff._qt.files import get_reader


@pytest.fixture
def grey(tiny, tmp_path):
    path = tmp_path / "grey.safetensors"
    tiny(labels=2, channels=1).save(path)
    return path


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 64, 64)).astype(np.float32)


def test_the_whole_volume_comes_back(open_hand, grey, stack) -> None:
    """Every slice refined by the model, nothing painted, nothing accepted, the window closed."""
    hand = open_hand(stack, model=grey)
    hand.click("refine_slices")
    hand.says("Updated 4 slices", "slices")
    mask = hand.mask.data.copy()
    assert mask.any((1, 2)).all()
    hand.widget.shut_down()

    hand = open_hand(stack.copy(), model=grey)
    hand.wait(lambda: hand.control("go_on").isVisible(), "the offer to resume")
    hand.says("masks of 4 slices", "kept")
    hand.click("go_on")
    np.testing.assert_array_equal(hand.mask.data, mask)
    assert hand.widget.bench.annotation.fixed_count == 0, "a model's mask is nobody's stroke"
    hand.stroke((20, 20), (24, 40))
    hand.click("rerefine")  # what came back can be refined again
    assert hand.widget.session.run.written == hand.widget.session.run.total


def test_the_window_asks_before_unsaved_work_is_lost(
    open_hand, picture, tiny_file, tmp_path, monkeypatch
) -> None:
    get_plugin_settings("napari-hidiff").work.keep_strokes = False
    asked, answer = [], [QMessageBox.StandardButton.No]

    def question(parent, title, text, *buttons):
        asked.append(text)
        return answer[0]

    monkeypatch.setattr(QMessageBox, "question", question)
    hand = open_hand(picture, rgb=True, model=tiny_file)
    window = hand.dock.window()
    hand.click("segment")
    assert not window.close()
    assert "Not saved: the mask of image." in asked[0]
    assert window.isVisible()
    hand.widget.controller.export(tmp_path / "mask.png")
    assert not hand.widget.bench.unsaved
    hand.stroke((20, 30), (26, 60))
    assert hand.widget.bench.unsaved
    get_plugin_settings("napari-hidiff").work.keep_strokes = True
    assert not hand.widget.bench.unsaved, "it is kept on disk"


def test_a_find_ends_on_the_slice_it_began_on(open_hand, grey, stack) -> None:
    hand = open_hand(stack, model=grey, stepwise=False)
    at = int(hand.viewer.dims.current_step[0])
    hand.click("segment", wait=False)
    hand.viewer.dims.set_current_step(0, at + 1)
    hand.idle()
    sessions = hand.widget.bench.annotation.sessions
    assert set(sessions) == {(at, -1, -1)}
    assert sessions[at, -1, -1].run.written == sessions[at, -1, -1].run.total


def test_what_is_under_way_elsewhere_is_said(open_hand, grey, stack) -> None:
    hand = open_hand(stack, model=grey)
    at = int(hand.viewer.dims.current_step[0])
    hand.click("segment")
    gate = hand.hold()
    hand.click("run", wait=False)
    hand.wait(lambda: hand.widget.session.run is not None and hand.widget.session.run.steps)
    hand.viewer.dims.set_current_step(0, at + 1)
    hand.wait(lambda: f"slice {at}" in hand.control("progress").format(), "which slice it is")
    gate.open()
    hand.idle()


@pytest.mark.parametrize("axes", ["RAS", "LPS"])
def test_a_brain_stands_as_radiologists_see_it(open_hand, tmp_path, axes: str) -> None:
    """Anterior and superior on top, the patient's right on the viewer's left, however stored."""
    signs = np.diag([1.0 if axis in "RAS" else -1.0 for axis in axes] + [1.0])
    data = np.zeros((20, 24, 18), np.float32)
    nibabel.save(nibabel.Nifti1Image(data, signs), tmp_path / "brain.nii.gz")
    hand = open_hand()
    read = get_reader(str(tmp_path / "brain.nii.gz"))
    assert read is not None
    ((array, facts, _),) = read(str(tmp_path / "brain.nii.gz"))
    hand.viewer.add_image(array, **facts)
    hand.known()
    camera = hand.viewer.scene.camera
    assert tuple(map(str, camera.orientation2d)) == ("up", "left")
    hand.viewer.add_image(np.zeros((64, 64, 3), np.uint8), rgb=True, name="photo")
    hand.known()
    assert tuple(map(str, camera.orientation2d)) == ("down", "right"), "a photograph stays"
    get_plugin_settings("napari-hidiff").look.radiological = False
    hand.viewer.layers.selection.active = hand.viewer.layers["brain"]
    hand.known()
    assert tuple(map(str, camera.orientation2d)) == ("down", "right"), "as preferred"
