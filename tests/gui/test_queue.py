"""A folder of images, annotated one after another with keys and mouse, killed and resumed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from gui.queue_case import (
    COUNT,
    NEXT,
    SIDE,
    click_on,
    go_on,
    names,
    open_study,
    paint,
    shown,
    states,
    twelve_images,
)
from PIL import Image as Picture
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_hidiff._qt import commands
from napari_hidiff.annotation.folder.queue import NAME, Queue
from napari_hidiff.errors import InputError
from napari_hidiff.io.images import read_mask

SCRIPT = Path(__file__).parent / "queue_session.py"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Twelve parts of the bundled photograph, as png and jpg."""
    return twelve_images(tmp_path)


@pytest.mark.slow
def test_twelve_images_are_annotated_with_keys_killed_and_resumed(
    open_hand: Callable[..., Any], study: Path, tiny_file: Path
) -> None:
    """Every image is found, corrected and left by a key; twice the window is gone without a word,
    and the next one goes on where it was: nothing is lost, and nothing is done twice."""
    order, masks = names(study), {}
    written: dict[str, int] = {}
    hand = open_study(open_hand, study, tiny_file)
    for number, name in enumerate(order):
        assert hand.widget.queue.item.name == name, "in order"
        assert [type(layer).__name__ for layer in hand.viewer.layers].count("Image") == 1
        masks[name] = paint(hand, 10 + 4 * number)
        if number in (3, 7):  # in the midst of an image: what is on disk now is all that is left
            hand.widget.bench.autosave.flush()
            before = {path.name: path.stat().st_mtime_ns for path in study.iterdir()}
            hand.widget.work.close()
            hand.widget.annotated_images.close(tidy=False)
            hand.widget.shut_down()
            hand = open_study(open_hand, study, tiny_file)
            hand.wait(lambda hand=hand: hand.widget.bench is not None, "what was kept")
            after = {path.name: path.stat().st_mtime_ns for path in study.iterdir()}
            assert {k: after[k] for k in before if k != NAME} == {
                k: before[k] for k in before if k != NAME
            }, "nothing is written again"
            assert hand.widget.queue.item.name == name, "where it stopped"
            np.testing.assert_array_equal(hand.mask.data, masks[name])
            assert hand.widget.bench.annotation.fixed_count
        if number + 1 < len(order):
            go_on(hand, order[number + 1])
        else:
            hand.key(*NEXT)
            hand.wait(lambda hand=hand: "All 12 images are done." in hand.said(), "the end")
        files = {path.name: path.stat().st_mtime_ns for path in study.glob("*_mask.png")}
        assert all(files[name] == at for name, at in written.items()), "written once"
        written = files
    assert states(study) == ["done"] * COUNT
    for name, mask in masks.items():
        np.testing.assert_array_equal(read_mask(study / f"{Path(name).stem}_mask.png"), mask)
    assert len(os.listdir(study)) == 2 * COUNT + 1, "a mask for each image, and the states"


@pytest.mark.slow
def test_a_killed_window_goes_on_where_it_was(
    open_hand: Callable[..., Any], study: Path, tiny_file: Path
) -> None:
    """SIGKILL while the third image is painted on."""
    read, write = os.pipe()
    command = [sys.executable, str(SCRIPT), str(study), str(tiny_file), str(write)]
    program = subprocess.Popen(command, pass_fds=[write])
    os.close(write)
    with os.fdopen(read) as said:
        told = json.loads(said.readline())
    program.kill()
    program.wait()
    assert states(study) == ["done", "done", *["to do"] * (COUNT - 2)]
    before = {path.name: path.stat().st_mtime_ns for path in study.iterdir()}
    hand = open_study(open_hand, study, tiny_file)
    hand.wait(lambda: hand.widget.bench is not None, "what was kept")
    assert hand.widget.queue.item.name == told["name"] == "eye3.png"
    np.testing.assert_array_equal(hand.mask.data, told["mask"])
    assert hand.widget.bench.annotation.fixed_count == told["fixed"] > 0
    go_on(hand, "eye4.png")
    np.testing.assert_array_equal(read_mask(study / "eye3_mask.png"), told["mask"])
    for name in ("eye1_mask.png", "eye2_mask.png"):
        assert (study / name).stat().st_mtime_ns == before[name], "nothing is done twice"


def test_the_list_goes_anywhere_and_brings_masks_back(
    open_hand: Callable[..., Any], study: Path, tiny_file: Path, sessions: Path
) -> None:
    hand = open_study(open_hand, study, tiny_file)
    order = names(study)
    mask = paint(hand)
    click_on(hand, order[5])
    assert states(study)[0] == "begun", "saved, but not done"
    np.testing.assert_array_equal(read_mask(study / "eye1_mask.png"), mask)
    assert hand.widget.bench is None
    for file in sessions.glob("*.npz"):  # as on another machine: the mask is all there is
        file.unlink()
    at = (study / "eye1_mask.png").stat().st_mtime_ns
    click_on(hand, order[0])
    hand.wait(lambda: hand.widget.bench is not None, "the mask")
    np.testing.assert_array_equal(hand.mask.data, mask)
    assert hand.widget.bench.annotation.fixed_count == 0, "a mask of a file is no stroke"
    click_on(hand, order[1])
    assert (study / "eye1_mask.png").stat().st_mtime_ns == at, "unchanged, not written again"
    click_on(hand, order[0])
    hand.wait(lambda: hand.widget.bench is not None, "the mask")
    stroke = hand.stroke((50, 20), (50, 40))
    go_on(hand, order[1])  # the update after the stroke is waited for
    changed = read_mask(study / "eye1_mask.png")
    assert (changed != mask).any()
    assert changed[stroke].all()
    assert states(study)[0] == "done"
    click_on(hand, order[0])
    hand.wait(lambda: hand.widget.bench is not None, "the mask")
    np.testing.assert_array_equal(hand.mask.data, changed)
    click_on(hand, order[2])
    assert states(study)[0] == "done", "looking at it changes nothing"


def test_an_image_without_a_mask_is_passed_and_comes_again(
    open_hand: Callable[..., Any], study: Path, tiny_file: Path
) -> None:
    for path in study.iterdir():
        if path.name not in {"eye1.png", "eye3.png"}:
            path.unlink()
    hand = open_study(open_hand, study, tiny_file)
    go_on(hand, "eye3.png")
    go_on(hand, "eye1.png")
    assert states(study) == ["to do"] * 2
    hand.click("accept")  # nothing is there, and that is final
    go_on(hand, "eye3.png")
    assert states(study) == ["done", "to do"]
    assert not read_mask(study / "eye1_mask.png").any()
    assert hand.control("queue_line").text() == "1 of 2 done"
    hand.key(*NEXT)
    hand.wait(lambda: "No other image is left" in hand.said(), "the end")
    assert hand.widget.queue.item.name == "eye3.png"


def test_unreadable_images_are_named_and_passed(
    open_hand: Callable[..., Any], study: Path, tiny_file: Path
) -> None:
    (study / "eye2.jpg").write_bytes(b"no picture")
    Picture.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(study / "other_mask.png")
    hand = open_study(open_hand, study, tiny_file)
    go_on(hand, "eye3.png")
    assert "eye2.jpg" in hand.said()
    page = hand.widget.panel.queue
    assert page.model.data(page.model.index(1, 1)) == "not readable"
    assert Queue(study).items[1].state == "to do", "it is asked again at the next start"


def test_masks_that_cannot_be_written_keep_the_image_shown(
    open_hand: Callable[..., Any], study: Path, tiny_file: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    hand = open_study(open_hand, study, tiny_file)
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        QFileDialog, "getExistingDirectory", lambda *given: str(tmp_path / "file" / "masks")
    )
    hand.click("masks_to")
    shown(hand)
    mask = paint(hand)
    hand.key(*NEXT)
    hand.wait(lambda: "cannot be made" in hand.said(), "why")
    hand.wait(lambda: not hand.widget.queue.busy)
    assert hand.widget.queue.item.name == "eye1.png"
    np.testing.assert_array_equal(hand.mask.data, mask)
    masks = tmp_path / "masks"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *given: str(masks))
    hand.click("masks_to")
    hand.wait(lambda: hand.widget.queue.queue.masks == masks and not hand.widget.queue.busy)
    np.testing.assert_array_equal(hand.mask.data, mask)
    go_on(hand, "eye2.jpg")
    np.testing.assert_array_equal(read_mask(masks / "eye1_mask.png"), mask)
    assert not list(study.glob("*_mask.png"))


def test_a_folder_or_some_of_its_files_are_dropped_or_named(
    open_hand: Callable[..., Any], study: Path, tiny_file: Path, monkeypatch: Any
) -> None:
    hand = open_hand(None, tiny_file, stepwise=False)
    hand.widget.panel.queue.drafts.setChecked(False)

    def drop(*paths: Path) -> list[bool]:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        middle, buttons = hand.widget.rect().center(), Qt.MouseButton.LeftButton
        given = middle, Qt.DropAction.CopyAction, data, buttons, Qt.KeyboardModifier.NoModifier
        taken = []
        for event in (QDragEnterEvent(*given), QDropEvent(QPointF(middle), *given[1:])):
            event.ignore()
            QApplication.sendEvent(hand.widget, event)
            taken.append(event.isAccepted())
        return taken

    assert drop(study) == [True, True]
    shown(hand, "eye1.png")
    assert drop(study / "eye1.png") == [False, False], "a file is opened by napari"
    drop(study / "eye9.png", study / "eye7.png", study / "eye1.png")
    shown(hand, "eye1.png")
    listed = [item.name for item in hand.widget.queue.queue.items]
    assert listed == ["eye1.png", "eye7.png", "eye9.png"]
    hand.click("accept")
    go_on(hand, "eye7.png")
    drop(study / "eye1.png", Path(__file__))
    hand.wait(lambda: "images of one folder make a list" in hand.said(), "why")
    assert hand.widget.queue.item.name == "eye7.png"
    monkeypatch.setattr(napari, "Viewer", lambda: hand.viewer)
    monkeypatch.setattr(commands, "show", lambda viewer: None)
    commands.open_files([study / "eye4.png", study / "eye5.jpg"], queue=True)
    hand.wait(lambda: len(hand.widget.queue.queue) == 2, "the list")
    shown(hand, "eye4.png")
    with pytest.raises(InputError, match="these lie in 2"):
        commands.open_files([study / "eye4.png", Path(__file__)], queue=True)


def test_a_damaged_list_of_states_opens_nothing_and_stays(
    open_hand: Callable[..., Any], study: Path, tiny_file: Path, monkeypatch: Any
) -> None:
    (study / NAME).write_text("{")
    hand = open_hand(None, tiny_file, stepwise=False)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *given: str(study))
    hand.click("open_folder")
    hand.wait(lambda: "states of the images cannot be read" in hand.said(), "why")
    assert hand.widget.queue.queue is None
    assert (study / NAME).read_text() == "{"
    assert not hand.viewer.layers
