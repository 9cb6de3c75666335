"""A hand and a camera in a real napari window, for the scripts that make the pictures.

Nothing here waits for a fixed time where there is something to wait for: the pictures do not
depend on how fast a machine is. Controls are found by their objectName.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QScrollArea, QWidget
from skimage.graph import route_through_array
from skimage.measure import label, regionprops
from skimage.morphology import dilation, disk

from napari_hidiff._qt.commands import dock

IMAGES = Path(__file__).parent / "images"
SETTLE = 400
"""Milliseconds until a window has its final layout."""
PATIENCE = 600.0
"""Seconds a model may take for the sample."""
COLORS = 256
"""Of a picture's palette."""


def pause(milliseconds: int) -> None:
    """Let the window work."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def wait(until: Callable[[], object]) -> None:
    """Let the window work until something is true."""
    end = time.monotonic() + PATIENCE
    while not until():
        if time.monotonic() > end:
            raise SystemExit("the window did not get ready")
        pause(50)


@contextmanager
def own_sessions() -> Iterator[None]:
    """Strokes of the pictures are not kept among the user's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_HIDIFF_SESSIONS"] = folder
        yield


class Desk:
    """napari on an image with the widget docked, ready to be used.

    model : a bundled model or a file; size : of the window in pixels, width and height.
    image : uint8 [H, W, 3] or a volume [D, H, W], of which slice ``at`` is shown; settings : of
    its layer. pointer : where the mouse is in the window, (x, y), or None before its first use.
    """

    def __init__(
        self,
        model: str,
        size: tuple[int, int],
        image: np.ndarray,
        at: int | None = None,
        **settings: Any,
    ) -> None:
        self.at = () if at is None else (at,)
        self.viewer = napari.Viewer()
        self.viewer.window.resize(*size)
        self.viewer.add_image(image, **settings)
        if at is not None:
            self.viewer.dims.set_current_step(0, at)
        self.widget = dock(self.viewer)
        self.pointer: tuple[int, int] | None = None
        self.widget.use_model(model)
        self.widget.fit.keep_choice(False)  # one thing at a time: no update before its picture
        self.widget.panel.annotate.after_stroke.setChecked(False)
        wait(lambda: self.widget.fit.problem is None)
        wait(lambda: not self.widget.models.loaded().backend.preparing)
        self.known()
        self.viewer.reset_view()

    @property
    def mask(self) -> napari.layers.Labels:
        """The mask layer of the widget."""
        return self.widget.bench.mask

    def start_from(self, mask: np.ndarray, name: str) -> None:
        """Add a mask of the user's, uint8 [H, W], hidden, and choose it to start from."""
        layer = self.viewer.add_labels(mask, name=name, visible=False)
        self.widget.choose.prior.value = layer
        self.known()

    def known(self) -> None:
        """Wait until the widget has looked at image and model."""
        pause(SETTLE)
        wait(lambda: self.widget.fit.problem is None and not self.widget.work.busy)

    def click(self, name: str) -> None:
        """Click a button with the mouse and wait until its work is done."""
        button = self.widget.findChild(QAbstractButton, name)
        if button is None:
            raise SystemExit(f"the widget has no button {name}")
        wait(button.isEnabled)
        self.open_page_of(button)
        self.scroll_to(button)
        self._point(button, button.rect().center())
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        pause(1)
        wait(lambda: not self.widget.work.busy)

    def open_page_of(self, control: QWidget) -> None:
        """Turn to the page, Annotate or Settings, that a control is on."""
        pages = self.widget.panel
        for number in range(pages.count()):
            if pages.widget(number).isAncestorOf(control):
                pages.setCurrentIndex(number)

    def show_steps(self) -> None:
        """Put the steps on Annotate, and turn to it."""
        self.click("show_steps")
        self.widget.panel.setCurrentIndex(0)

    def scroll_to(self, control: QWidget) -> None:
        """Bring a control of the dock into view."""
        parent = control.parentWidget()
        while parent is not None and not isinstance(parent, QScrollArea):
            parent = parent.parentWidget()
        if parent is not None:
            parent.ensureWidgetVisible(control)
            pause(1)

    def look_at(self, where: np.ndarray, closer: float) -> None:
        """Move the camera to the middle of a region, bool [H, W], that many times closer."""
        camera = self.viewer.scene.camera
        camera.center = tuple(np.argwhere(where).mean(axis=0))
        camera.zoom *= closer
        pause(SETTLE)

    def stroke(
        self,
        path: np.ndarray,
        seen: Callable[[], None] = lambda: None,
        label: int = 1,
        brush: int = 5,
    ) -> None:
        """Paint along (row, column) positions [N, 2] of the mask with the mouse button held.

        label, brush : what is painted, and how wide in pixels of the mask.
        seen : called after every fifth of the stroke, to take a picture.
        """
        self.viewer.layers.selection.active = self.mask
        self.mask.mode, self.mask.selected_label, self.mask.brush_size = "paint", label, brush
        canvas, left = self._canvas(), Qt.MouseButton.LeftButton
        points = [self._on_canvas(canvas, *position) for position in path]
        QTest.mouseMove(canvas, points[0])
        QTest.mousePress(canvas, left, pos=points[0])
        for number, point in enumerate(points[1:], 1):
            QTest.mouseMove(canvas, point)
            QApplication.processEvents()
            self._point(canvas, point)
            if number % max(1, len(points) // 5) == 0:
                seen()
        QTest.mouseRelease(canvas, left, pos=points[-1])
        pause(1)

    def picture(self) -> Image.Image:
        """The whole window as it is now."""
        pause(SETTLE)
        shot = self.viewer.screenshot(canvas_only=False, flash=False)
        return Image.fromarray(np.asarray(shot)[..., :3].copy())

    def close(self) -> None:
        """Close the window."""
        self.viewer.close()

    def _point(self, control: QWidget, at: QPoint) -> None:
        on_window = control.mapTo(control.window(), at)
        self.pointer = on_window.x(), on_window.y()

    def _canvas(self) -> QWidget:
        window = self.widget.window()
        return next(
            child
            for child in window.findChildren(QWidget)
            if type(child).__name__ == "CanvasBackendDesktop" and child.isVisible()
        )

    def _on_canvas(self, canvas: QWidget, row: float, column: float) -> QPoint:
        camera = self.viewer.scene.camera
        world = np.array(self.mask.data_to_world((*self.at, row, column)))[-2:]
        middle = canvas.height() / 2, canvas.width() / 2
        y, x = (world - np.array(camera.center)[-2:]) * camera.zoom + middle
        return QPoint(round(x), round(y))


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


def along(piece: np.ndarray, every: int = 4) -> np.ndarray:
    """Positions (row, column), int [N, 2], along an elongated region, bool [H, W]."""
    pixels = np.argwhere(piece)
    centred = pixels - pixels.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    ends = pixels[[np.argmin(centred @ axis), np.argmax(centred @ axis)]]
    path, _ = route_through_array(np.where(piece, 1.0, 1e3), *ends.tolist())
    return np.array([*path[::every], path[-1]])


def parser_of(about: str | None, name: str, size: str = "1280x720") -> argparse.ArgumentParser:
    """The options of a script: ``size`` of the window, (width, height), and ``output``, the file of
    the picture ``name``."""
    parser = argparse.ArgumentParser(description=about)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", type=_sides, default=size, help="width x height of the window")
    parser.add_argument("--output", type=Path, default=IMAGES / name)
    return parser


def _sides(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def photograph(viewer: napari.Viewer) -> Image.Image:
    """The whole window, once it has its final layout."""
    pause(SETTLE)
    return Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)[..., :3])


def save(picture: Image.Image, path: Path) -> None:
    """Write a png with a palette, as small as it gets."""
    path.parent.mkdir(exist_ok=True)
    dither = Image.Dither.FLOYDSTEINBERG
    picture.quantize(COLORS, method=Image.Quantize.MEDIANCUT, dither=dither).save(
        path, optimize=True
    )
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
