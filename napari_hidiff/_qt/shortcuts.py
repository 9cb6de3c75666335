"""The widget's keys on the viewer: bound where they are free, gone when the widget closes."""

from collections.abc import Callable, Mapping
from typing import Any

from napari.utils.notifications import show_info
from napari.viewer import Viewer


class Shortcuts:
    """Binds keys to actions.

    viewer : napari's viewer; actions : a function without arguments for every key. A key that is
    taken keeps its meaning, and one line says so.
    """

    def __init__(self, viewer: Viewer, actions: Mapping[str, Callable[[], Any]]) -> None:
        self._viewer = viewer
        self._bound: list[str] = []
        taken = []
        for key, action in actions.items():
            try:
                viewer.bind_key(key, _without_viewer(action))
                self._bound.append(key)
            except ValueError:
                taken.append(key)
        if taken:
            show_info(f"HiDiff leaves keys that are in use alone: {' '.join(taken)}")

    def close(self) -> None:
        """Unbind what was bound."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound.clear()


def _without_viewer(action: Callable[[], Any]) -> Callable[[Viewer], None]:
    def pressed(viewer: Viewer) -> None:
        action()

    return pressed
