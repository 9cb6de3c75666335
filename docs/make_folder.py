"""Make the picture of the page Queue in docs/images.

    python docs/make_folder.py [--size 1280x720] [--output FILE]

Twelve parts of the bundled photograph are a study; four of them are found and left as done. It
needs a display; ``make pictures`` gives it a virtual one.
"""

import tempfile
from pathlib import Path

import napari
from camera import own_sessions, parser_of, photograph, save, wait
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
    shot = photograph(viewer)
    widget.shut_down()
    viewer.close()
    return shot


def main() -> None:
    """Write the picture."""
    options = parser_of(__doc__, "folder.png").parse_args()
    with own_sessions(), tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        folder.mkdir()
        study(folder)
        save(picture(folder, options.size), options.output)


if __name__ == "__main__":
    main()
