"""A folder of images in the window: opened, gone through, clicked on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_hidiff.annotation.folder.queue import Queue
from napari_hidiff.io.images import sample

SIDE = 72
COUNT = 12
NEXT = Qt.Key.Key_J, Qt.KeyboardModifier.ShiftModifier


def twelve_images(place: Path) -> Path:
    """A folder with twelve parts of the bundled photograph, as png and jpg."""
    image, _ = sample()
    folder = place / "study"
    folder.mkdir()
    for number in range(COUNT):
        row, column = 200 + SIDE * (number // 4), 200 + SIDE * (number % 4)
        part = Picture.fromarray(image[row : row + SIDE, column : column + SIDE])
        part.save(folder / f"eye{number + 1}.{'jpg' if number % 3 == 1 else 'png'}")
    return folder


def names(folder: Path) -> list[str]:
    """The images in order."""
    return [item.name for item in Queue(folder).items]


def states(folder: Path) -> list[str]:
    """The states on disk in order."""
    return [item.state for item in Queue(folder).items]


def open_study(
    open_hand: Callable[..., Any], folder: Path, model: Path | str, drafts: bool = False
) -> Any:
    """A window on the folder; most tests are about what the hand does, and need no drafts."""
    hand = open_hand(None, model, stepwise=False)
    hand.widget.panel.queue.drafts.setChecked(drafts)
    hand.widget.queue.open(folder)
    shown(hand)
    return hand


def shown(hand: Any, name: str | None = None) -> None:
    """Wait until an image of the queue is shown and can be worked on."""
    queue = hand.widget.queue
    hand.wait(
        lambda: not queue.busy and queue.item and queue.item.name == (name or queue.item.name),
        f"the image {name}",
    )
    hand.known()
    hand.idle()


def go_on(hand: Any, name: str) -> None:
    """Press the key for the next image, which has this name."""
    hand.key(*NEXT)
    shown(hand, name)


def paint(hand: Any, row: int = 20) -> np.ndarray:
    """Find and correct; the mask."""
    hand.click("segment")
    hand.stroke((row, 20), (row, 40))
    hand.idle()
    return hand.mask.data.copy()


def click_on(hand: Any, name: str) -> None:
    """Click on an image in the list."""
    page = hand.widget.panel.queue
    hand.open_page_of(page.table)
    item = hand.widget.queue.queue[name]
    at = page.model.index(page.model.row(item), 0)
    page.table.scrollTo(at)
    hand.pause(1)
    middle: QPoint = page.table.visualRect(at).center()
    QTest.mouseClick(page.table.viewport(), Qt.MouseButton.LeftButton, pos=middle)
    shown(hand, name)
