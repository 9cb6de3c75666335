"""Make the picture of a segmentor of one's own in docs/images.

    python docs/make_own_model.py [--size 1280x720] [--output FILE]

Ten parts of the bundled photograph are a study. Eight are done, with the masks of its human
observer; a segmentor learns from them, and finds the first mask of the ninth. It needs a display;
``make pictures`` gives it a virtual one.
"""

import os
import tempfile
from pathlib import Path

import napari
from camera import own_sessions, parser_of, photograph, save, wait
from PIL import Image

from napari_hidiff._qt.commands import dock
from napari_hidiff._qt.widget import HiDiffWidget
from napari_hidiff.annotation.folder.own_model import EVERY
from napari_hidiff.annotation.folder.queue import Queue
from napari_hidiff.io.images import sample

COUNT = 10
SIDE, APART = 320, 110
"""Pixels of a part, and between the corners of two."""


def study(folder: Path) -> None:
    """Write the images, and the masks of those that are done."""
    image, truth = sample()
    corners = [(120 + APART * (n // 4), 120 + APART * (n % 4)) for n in range(COUNT)]
    parts = [(slice(row, row + SIDE), slice(column, column + SIDE)) for row, column in corners]
    for number, part in enumerate(parts, 1):
        Image.fromarray(image[part]).save(folder / f"fundus_{number}.png")
    queue = Queue(folder)
    for item, part in zip(queue.items[:EVERY], parts, strict=False):
        Image.fromarray((truth[part] > 0).astype("uint8")).save(queue.claim(item))
        queue.keep(item, "done")


def picture(folder: Path, size: tuple[int, int]) -> Image.Image:
    """The window with the ninth image found by the segmentor and the page Queue open."""
    viewer = napari.Viewer()
    viewer.window.resize(*size)
    widget = dock(viewer)
    widget.use_model("universal")
    widget.queue.open(folder)
    wait(lambda: widget.queue.item is not None and not widget.queue.busy and _ready(widget))
    widget.own_model.train()
    wait(lambda: widget.own_model.run is not None)
    wait(lambda: widget.own_model.run is None)
    wait(lambda: widget.models.chosen != "universal" and _ready(widget))
    widget.controller.segment()
    wait(lambda: not widget.work.busy)
    widget.panel.setCurrentWidget(widget.panel.queue)
    shot = photograph(viewer)
    widget.shut_down()
    viewer.close()
    return shot


def _ready(widget: HiDiffWidget) -> bool:
    fit, models = widget.fit, widget.models
    return models.model is not None and fit.problem is None and not fit.looking


def main() -> None:
    """Write the picture."""
    options = parser_of(__doc__, "own-model.png").parse_args()
    with own_sessions(), tempfile.TemporaryDirectory() as place:
        os.environ["NAPARI_HIDIFF_MODELS"] = f"{place}/models"
        os.environ["NAPARI_HIDIFF_TRAINING_SETS"] = f"{place}/sets"
        folder = Path(place) / "vessels"
        folder.mkdir()
        study(folder)
        save(picture(folder, options.size), options.output)


if __name__ == "__main__":
    main()
