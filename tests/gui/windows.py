"""napari's windows, opened once for the tests of a file and emptied after each of them."""

import gc
from typing import Any
from unittest.mock import patch

import pytest
from app_model import Application
from napari import Viewer
from napari._app_model._app import NapariApplication, _napari_names
from napari._qt._qapp_model.qactions import init_qactions
from napari._qt.qt_viewer import QtViewer
from napari._qt.threads.status_checker import StatusChecker
from napari.plugins import _initialize_plugins
from napari.settings import get_settings
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtWidgets import QWidget

APP = "kept windows"


def _console(*_: Any) -> QWidget:
    console = QWidget()
    console._update_theme = lambda *_: None
    return console


class Windows:
    """Opens as many windows as a test has at once, and keeps them for the next one.

    To open and close one takes most of a second. What napari's own fixture does for each test is
    done here: settings as after a first start, an application model, commands and menus of their
    own, no console and no thread that looks for what is under the mouse.
    """

    def __init__(self) -> None:
        self._free: list[Viewer] = []
        self._taken: list[Viewer] = []
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(StatusChecker, "start", lambda *_: None)
        self._patch.setattr(QtViewer, "_get_console", _console)
        _initialize_plugins.cache_clear()
        init_qactions.cache_clear()
        app = NapariApplication(APP)
        app.injection_store.namespace = _napari_names
        self._patch.setattr(NapariApplication, "get_app_model", lambda *_: app)

    def take(self) -> PublicOnlyProxy:
        """An empty window, behind the proxy that a plugin gets."""
        get_settings().reset()
        if self._free:
            viewer = self._free.pop()
        else:
            viewer = Viewer(show=False, show_welcome_screen=False)
            gc.collect()
            gc.freeze()
        self._taken.append(viewer)
        return PublicOnlyProxy(viewer)

    def empty(self) -> None:
        """Take everything out of the windows that were taken, but for those that were closed."""
        get_settings().reset()
        for viewer in self._taken:
            window = viewer.window
            if not hasattr(window, "_qt_window"):
                continue
            # Its workers, which it lists, call it back: through Qt, a circle that nobody collects.
            window._task_status_manager._tasks.clear()
            window.remove_dock_widget("all")
            viewer.layers.clear()
            viewer.dims.reset()
            viewer.scene.camera.reset()
            viewer._update_camera_orientation()
            viewer.cursor.reset()
            viewer.keymap.clear()
            self._free.append(viewer)
        self._taken.clear()

    def close(self) -> None:
        """Close all of them; nobody may hold one any more."""
        self.empty()
        for viewer in self._free:
            with patch.object(viewer.window._qt_window, "_save_current_window_settings"):
                viewer.close()
        self._free.clear()
        self._patch.undo()
        Application.destroy(APP)
        _initialize_plugins.cache_clear()
        init_qactions.cache_clear()
