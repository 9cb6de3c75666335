"""Make the picture of the page Queue in docs/images.

    python docs/make_folder.py [--size 1280x720] [--output FILE]

Twelve parts of the bundled photograph are a study; four of them are found and left as done. It
needs a display; ``make pictures`` gives it a virtual one.
"""

import argparse
import tempfile
from pathlib import Path

import napari
from camera import IMAGES, own_sessions, pause, save, wait
from PIL import Image

from napari_hidiff._qt.commands import dock
from napari_hidiff.io.images import sample

COUNT, DONE = 12, 4
SIDE, APART = 480, 96
"""Pixels of a part, and between the corners of two."""


def study(folder: Path) -> None:
    """Write the images."""
    image, _ = sample()
    for number in range(COUNT):
        row, column = 120 + APART * (number // 4), 120 + APART * (number % 4)
        part = Image.fromarray(image[row : row + SIDE, column : column + SIDE])
        part.save(folder / f"fundus_{number + 1}.png")


def picture(folder: Path, size: tuple[int, int]) -> Image.Image:
    """The window with the fifth image found and the page Queue open."""
    viewer = napari.Viewer()
    viewer.window.resize(*size)
    widget = dock(viewer)
    widget.use_model("chase-vessels")
    widget.queue.open(folder)
    wait(lambda: widget.drafts.process is not None)
    wait(lambda: widget.drafts.process is None)
    for number in range(DONE + 1):
        wait(
            lambda done=number: (
                widget.queue.item is not None
                and widget.queue.queue.done == done
                and not widget.queue.busy
                and widget.fit.problem is None
                and not widget.fit.looking
            )
        )
        widget.controller.segment()
        wait(lambda: not widget.work.busy)
        if number < DONE:
            widget.queue.next()
    widget.panel.setCurrentWidget(widget.panel.queue)
    pause(400)
    shot = viewer.screenshot(canvas_only=False, flash=False)
    widget.shut_down()
    viewer.close()
    return Image.fromarray(shot[..., :3])


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", default="1280x720", help="width x height of the window")
    parser.add_argument("--output", type=Path, default=IMAGES / "folder.png")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    with own_sessions(), tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        folder.mkdir()
        study(folder)
        save(picture(folder, (width, height)), options.output)


if __name__ == "__main__":
    main()
