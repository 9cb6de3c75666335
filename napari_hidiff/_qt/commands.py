"""What the command palette offers: the actions of the widget, which is opened if need be."""

from typing import TYPE_CHECKING

import napari
from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer

if TYPE_CHECKING:
    from napari_hidiff._qt.widget import HiDiffWidget

AGAIN = 200
"""Milliseconds between two looks at whether the widget, just opened, is ready."""


def segment() -> None:
    """Show the model's first mask."""
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
    """Start again with everything painted so far."""
    _press("rerefine")


def alternatives() -> None:
    """Outline the next clearly different answer."""
    _press("alternatives")


def reject() -> None:
    """Take the last result back."""
    _press("reject")


def next_place() -> None:
    """Go to the next uncertain place."""
    _press("next_place")


def accept() -> None:
    """Take the mask for final."""
    _press("accept")


def _press(name: str) -> None:
    viewer = napari.current_viewer()
    if viewer is None:
        show_warning("No napari window is open.")
        return
    _, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    _when_ready(widget, name)


def _when_ready(widget: "HiDiffWidget", name: str) -> None:
    """Press a button as soon as the image was looked at, or say why it cannot be pressed."""
    from napari_hidiff._qt.tasks.fit import WAITING

    if widget.closed:
        return
    button = getattr(widget.panel, name)
    if button.isEnabled():
        button.click()
    elif widget.fit.problem == WAITING:
        QTimer.singleShot(AGAIN, lambda: _when_ready(widget, name))
    else:
        label = button.text().partition("[")[0].strip()
        show_warning(widget.fit.problem or f"{label}: there is nothing to do that with yet.")
