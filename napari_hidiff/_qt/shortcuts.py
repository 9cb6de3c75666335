"""The keys of the widget on napari's viewer."""

from collections.abc import Callable, Mapping
from typing import Any

from napari.utils.key_bindings import coerce_keybinding
from napari.utils.notifications import show_info
from napari.viewer import Viewer

from napari_hidiff._qt import preferences


class Shortcuts:
    """Binds keys to actions, and unbinds them.

    viewer : napari's viewer; actions : a function without arguments by its name in
    :data:`preferences.KEYS`. A key that is taken, or is none, keeps its meaning, and one line says
    so.
    """

    def __init__(self, viewer: Viewer, actions: Mapping[str, Callable[[], Any]]) -> None:
        self._viewer = viewer
        self._bound: list[str] = []
        taken = []
        for name, action in actions.items():
            key = preferences.key(name) or preferences.KEYS[name]
            try:
                if not _is_key(key):
                    raise ValueError(f"{key} is no key")
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


def _is_key(key: str) -> bool:
    """Whether napari knows a key of this name; it takes any other text for an empty one."""
    known = str(coerce_keybinding(key)).strip()
    return bool(known) and not known.endswith("+")


def _without_viewer(action: Callable[[], Any]) -> Callable[[Viewer], None]:
    def pressed(viewer: Viewer) -> None:
        action()

    return pressed
