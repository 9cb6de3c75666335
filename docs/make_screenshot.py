"""Make the screenshot of the whole window in docs/images.

    python docs/make_screenshot.py [--model NAME] [--size 1400x900] [--output FILE]

The bundled sample is segmented and refined, a missed vessel is painted as a user would paint it,
and the mask is refined again. It needs a display (without one: ``xvfb-run -a python ...``).
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer
from qtpy.QtWidgets import QWidget
from skimage.measure import label, regionprops
from skimage.morphology import dilation, disk

import napari_hidiff
from napari_hidiff.io import sample

IMAGES = Path(__file__).parent / "images"
SETTLE = 400
"""Milliseconds until a window has its final layout."""
PATIENCE = 600.0
"""Seconds a model may take for the sample."""


def pause(milliseconds: int) -> None:
    """Let the window work."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def wait(until: Callable[[], bool]) -> None:
    """Let the window work until something is true."""
    end = time.monotonic() + PATIENCE
    while not until():
        if time.monotonic() > end:
            raise SystemExit("the window did not get ready")
        pause(50)


def missed_vessel(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The longest piece of the truth, far from the border, that the mask lacks; bool [H, W]."""
    missed = label((truth > 0) & (dilation(mask, disk(2)) == 0))
    height, width = mask.shape

    def inside(top: int, left: int, bottom: int, right: int) -> bool:
        return top > 150 and left > 150 and bottom < height - 150 and right < width - 150

    pieces = [piece for piece in regionprops(missed) if inside(*piece.bbox)]
    if not pieces:
        raise SystemExit("the mask lacks no vessel")
    longest = max(pieces, key=lambda piece: piece.area)
    return np.asarray(missed == longest.label)


def picture(model: str, size: tuple[int, int]) -> np.ndarray:
    """The window after a correction, uint8 [H, W, 4]."""
    image, truth = sample()
    viewer = napari.Viewer()
    viewer.window.resize(*size)
    viewer.add_image(image, name="fundus", rgb=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    widget.findChild(QWidget, "hint").hide()  # of the picture; the preference stays as it is
    widget.use_model(model)
    wait(lambda: widget.fit.problem is None)

    def click(name: str) -> None:
        getattr(widget.panel, name).click()
        wait(lambda: not widget.work.busy)

    click("segment")
    click("run")
    mask = widget.bench.mask
    missed = missed_vessel(mask.data, truth)
    mask.mode, mask.brush_size = "paint", 5
    for row, column in np.argwhere(missed)[::7]:
        mask.paint((row, column), 1)
    click("rerefine")
    rows, columns = np.nonzero(missed)
    camera = viewer.scene.camera
    camera.center = (rows.mean(), columns.mean())
    camera.zoom *= 3
    pause(SETTLE)
    shot = viewer.screenshot(canvas_only=False, flash=False)
    viewer.close()
    return np.asarray(shot)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", help="a bundled model or a file; default: the first bundled one")
    parser.add_argument("--size", default="1400x900", help="width x height of the window")
    parser.add_argument("--output", type=Path, default=IMAGES / "window.png")
    options = parser.parse_args()
    bundled = napari_hidiff.available_models()
    if not (options.model or bundled):
        parser.error("no model is bundled: name one with --model")
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory() as sessions:
        os.environ["NAPARI_HIDIFF_SESSIONS"] = sessions  # not among the user's own
        shot = picture(options.model or bundled[0], (width, height))
    from imageio.v3 import imwrite

    imwrite(options.output, shot)
    print(options.output)


if __name__ == "__main__":
    main()
