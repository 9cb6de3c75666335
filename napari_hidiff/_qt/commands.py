"""What opens the widget: the commands of napari's palette, and napari on files or on the demo."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import napari
from napari.utils.notifications import show_warning

from napari_hidiff.errors import InputError, first_line

if TYPE_CHECKING:
    from napari import Viewer

    from napari_hidiff._qt.widget import HiDiffWidget
    from napari_hidiff.inference.card import Card
    from napari_hidiff.plot import Demo

TITLE = "HiDiff refine (HiDiff)"
"""Of the dock: the widget, and in brackets the display name of the plugin, as in napari's menu."""

AGAIN = 200
"""Milliseconds between two looks at whether the widget, just opened, is ready."""


def segment() -> None:
    """Find what the model finds in the shown slice."""
    _press("segment")


def step() -> None:
    """Take one step of the refinement."""
    _press("step")


def run() -> None:
    """Take all remaining steps."""
    _press("run")


def stop() -> None:
    """Stop after the step under way."""
    _press("stop")


def rerefine() -> None:
    """Update the mask with everything painted so far."""
    _press("rerefine")


def alternatives() -> None:
    """Outline the next clearly different answer."""
    _press("alternatives")


def reject() -> None:
    """Drop what is outlined, or take the last result back."""
    _press("reject")


def next_place() -> None:
    """Go to the next doubtful place."""
    _press("next_place")


def accept() -> None:
    """Take the mask for final, or not any more."""
    _press("accept")


def paint() -> None:
    """Take the brush for the mask."""
    _press("paint")


def erase() -> None:
    """Take the eraser for the mask."""
    _press("erase")


def refine_slices() -> None:
    """Find or update every slice."""
    _press("refine_slices")


def carry() -> None:
    """Carry a correction to the slices before and behind this one."""
    _press("carry")


def export() -> None:
    """Save the mask to a file."""
    _press("export")


def next_image() -> None:
    """Save the mask as done and open the next image of the folder."""
    _press("next_image")


def open_folder() -> None:
    """Open a folder of images, to annotate them one by one."""
    _press("open_folder")


def next_disagreement() -> None:
    """Go to the next place where two masks disagree."""
    from napari_hidiff._qt.comparison import dock_comparison

    viewer = napari.current_viewer()
    if viewer is None:
        show_warning("No napari window is open.")
    else:
        dock_comparison(viewer).page.next.click()


def _press(name: str) -> None:
    viewer = napari.current_viewer()
    if viewer is None:
        show_warning("No napari window is open.")
        return
    _when_ready(dock(viewer), name)


def _when_ready(widget: "HiDiffWidget", name: str) -> None:
    """Press a button as soon as the image was looked at, or say why it cannot be pressed."""
    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QAbstractButton

    from napari_hidiff._qt.tasks.model_fit import WAITING

    if widget.closed:
        return
    button = widget.findChild(QAbstractButton, name)
    assert button is not None, f"no button {name}"
    if button.isEnabled():
        button.click()
    elif widget.fit.problem == WAITING:
        QTimer.singleShot(AGAIN, lambda: _when_ready(widget, name))
    else:
        label = button.text().partition("[")[0].strip()
        show_warning(widget.fit.problem or f"{label}: nothing to do that with yet.")


SETTLE = 300
"""Milliseconds after which a window has its final layout."""

PROBE = "from qtpy.QtWidgets import QApplication; QApplication([])"


def window_problem() -> str | None:
    """Why no window can be opened here, in one line; None if one can.

    Qt ends the whole process when it cannot reach a display, so a second process tries first.
    """
    linux = sys.platform.startswith("linux")
    if linux and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    if os.environ.get("QT_QPA_PLATFORM") in {"offscreen", "minimal"}:
        return "QT_QPA_PLATFORM keeps Qt from showing windows"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return "Qt does not answer"
    if tried.returncode == 0:
        return None
    if "QtBindingsNotFoundError" in tried.stderr:
        return "no Qt binding is installed (pip install PySide6-Essentials)"
    reason = next((line for line in tried.stderr.splitlines() if line.strip()), "no reason given")
    return f"Qt cannot open a window ({reason.strip()})"


def open_files(
    images: Sequence[Path],
    device: str | None = None,
    seed: int | None = None,
    queue: bool = False,
) -> None:
    """Show napari with these files opened and the widget docked; returns when it is closed.

    A folder of images, alone, is opened as a queue, and so are files where ``queue`` says so.
    device, seed: preset in the widget's settings. Raises InputError for a file that napari cannot
    open, and for a list of files of several folders; the widget, which starts to work at once, is
    docked after them.
    """
    import napari

    from napari_hidiff.annotation.folder.queue import one_folder
    from napari_hidiff.io.dicom import is_series

    folders = [path for path in images if path.is_dir() and not is_series(path)]
    if folders and len(images) > 1:
        raise InputError(f"{folders[0]}: a folder of images is opened alone")
    listed = one_folder(images) if images and (folders or queue) else None
    viewer = napari.Viewer()
    try:
        add_files(viewer, [] if listed else images)
    except InputError:
        viewer.close()
        raise
    widget = dock(viewer)
    preset(widget, device, seed)
    if listed:
        folder, only = listed
        widget.queue.open(folder, only=only)
    show(viewer)


def open_comparison(image: Path, masks: tuple[Path, Path], tolerance: float) -> None:
    """Show napari on an image and two masks of it, compared; returns when it is closed.

    Raises InputError for a file that cannot be opened, and masks that cannot be compared.
    """
    import napari

    viewer = napari.Viewer()
    try:
        add_comparison(viewer, image, masks, tolerance)
    except InputError:
        viewer.close()
        raise
    show(viewer)


def add_comparison(
    viewer: "Viewer", image: Path, masks: tuple[Path, Path], tolerance: float
) -> None:
    """Open an image and two masks of it, and compare these in the widget "HiDiff compare"."""
    from napari.layers import Layer

    from napari_hidiff._qt.comparison import dock_comparison
    from napari_hidiff._qt.files import read_layer

    add_files(viewer, [image])
    layers = [Layer.create(*read_layer(path, mask=True)) for path in masks]
    if layers[0].name == layers[1].name:  # of two folders, one of each rater
        for layer, path in zip(layers, masks, strict=True):
            layer.name = f"{path.absolute().parent.name} {layer.name}"
    for layer in layers:
        viewer.add_layer(layer)
    widget = dock_comparison(viewer)
    widget.choose(layers[0], layers[1])
    widget.page.tolerance.setValue(tolerance)
    widget.compare()


def open_demo(demo: "Demo", card: "Card") -> None:
    """Show napari on the demo's image, truth and result, which is ready to be corrected; returns
    when it is closed."""
    import napari

    viewer = napari.Viewer()
    add_demo(viewer, demo, card)
    show(viewer)


def show(viewer: "Viewer") -> None:
    """Run napari until its window is closed; the view is fitted once the dock has its place."""
    import napari
    from qtpy.QtCore import QTimer

    QTimer.singleShot(SETTLE, viewer.reset_view)
    napari.run()


def add_demo(viewer: "Viewer", demo: "Demo", card: "Card") -> None:
    """Add the image and the truth (hidden), dock the widget, and give it the result as its mask, in
    the colours of the model's card."""
    from napari.utils import DirectLabelColormap

    colors: dict[int | None, str] = {None: "transparent"}
    colors |= {value: label.color for value, label in enumerate(card.classes)}
    colormap = DirectLabelColormap(color_dict=colors | {0: "transparent"})
    image = demo.image
    layer = viewer.add_image(image, name=demo.record["image"], rgb=image.ndim == 3)
    viewer.add_labels(demo.truth, name="truth", colormap=colormap, visible=False)
    dock(viewer).controller.show_result(layer, demo.stages[-1].mask, card)


def add_files(viewer: "Viewer", images: Sequence[Path]) -> None:
    """Open files, volumes with their place; InputError names the first that cannot be read.

    napari's own readers get what this package does not read, or reads no better.
    """
    from napari.layers import Layer

    from napari_hidiff._qt.files import get_reader, read_layer
    from napari_hidiff.io.pictures import is_deep_png
    from napari_hidiff.io.tiff import is_stack

    for path in images:
        try:
            if get_reader(str(path)) is not None or is_stack(path) or is_deep_png(path):
                viewer.add_layer(Layer.create(*read_layer(path)))
            else:
                viewer.open(path)
        except InputError:
            raise
        except Exception as error:  # readers are plugins: they raise anything
            raise InputError(f"{path}: napari cannot open it: {first_line(error)}") from error


def dock(viewer: "Viewer") -> "HiDiffWidget":
    """The widget of a viewer; docked, if need be, under the title that the Plugins menu gives it,
    so that the menu finds it, too."""
    from napari_hidiff._qt.widget import HiDiffWidget

    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, HiDiffWidget):
            return widget
    made = HiDiffWidget(viewer)
    viewer.window.add_dock_widget(made, name=TITLE)
    return made


def preset(widget: "HiDiffWidget", device: str | None, seed: int | None) -> None:
    """Set device (one of the widget's choices) and seed in its settings; None leaves them."""
    if device is not None:
        widget.settings.device.value = device
    if seed is not None:
        widget.settings.seed.value = seed
