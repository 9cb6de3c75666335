"""A real napari window with the widget docked, and a hand that moves the mouse in it."""

import gc
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from napari.layers import Image, Labels
from napari.qt.threading import WorkerBase
from napari.settings import get_settings
from napari.utils import theme as themes
from napari.utils.events import EventEmitter
from napari.utils.notifications import Notification, notification_manager
from npe2 import PluginManifest
from qtpy.QtCore import QEvent, QEventLoop, QPoint, Qt, QTimer
from qtpy.QtGui import QAction
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QAbstractButton, QApplication, QLabel, QWidget

from napari_hidiff._qt import threads
from napari_hidiff._qt.tasks import model_fit
from napari_hidiff._qt.widget import HiDiffWidget
from napari_hidiff.io.storage import SESSIONS

PATIENCE = 300.0
"""Seconds until a state that does not come is a failure: long, as machines may be busy."""


def pause(milliseconds: int) -> None:
    """Let the event loop run; asleep between events, where QTest.qWait would burn the processor."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


class Gate:
    """Holds work that goes step by step, once it has taken one step, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._opened, each = threading.Event(), threads._each

        def held(given: threads.Given) -> Iterator[Any]:
            for number, item in enumerate(each(given)):
                yield item
                if number == 0:
                    self._opened.wait(PATIENCE)

        monkeypatch.setattr(threads, "_each", held)

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()


def step_by_step(widget: HiDiffWidget) -> None:
    """Steps are shown, and a stroke is followed by nothing: one thing at a time."""
    more, after_stroke = widget.panel.settings, widget.panel.annotate.after_stroke
    more.show_steps.setChecked(True)
    after_stroke.setChecked(False)
    widget.fit.keep_choice(False)


class Hand:
    """What a user can do: click buttons by their objectName, paint with the mouse, read lines."""

    def __init__(
        self,
        viewer: Any,
        dock: QWidget,
        widget: HiDiffWidget,
        notes: list[Notification],
        hold: Callable[[], Gate],
    ) -> None:
        self.viewer, self.dock, self.widget, self.notes = viewer, dock, widget, notes
        self._hold = hold

    @property
    def mask(self) -> Labels:
        assert self.widget.bench is not None
        return self.widget.bench.mask

    @property
    def fixed(self) -> np.ndarray:
        assert self.widget.session is not None
        return self.widget.session.timeline.fixed

    def control(self, name: str) -> QWidget:
        found = self.widget.findChild(QWidget, name)
        assert found is not None, f"no control {name}"
        return found

    def wait(self, until: Callable[[], Any], what: str = "") -> None:
        end = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < end, f"waited in vain for {what or until}"
            pause(5)

    def idle(self) -> None:
        self.wait(lambda: not self.widget.work.busy, "the work to end")
        pause(1)

    def pause(self, milliseconds: int) -> None:
        pause(milliseconds)

    def hold(self) -> Gate:
        """A run of five steps, or a sweep, that begins from now on waits after its first step."""
        self.widget.settings.steps.value = 5
        return self._hold()

    def quiet(self) -> None:
        """Wait until no thread works for a window any more and what they said was heard."""
        self.wait(lambda: not WorkerBase._worker_set, "the threads")
        pause(1)

    def click(self, name: str, wait: bool = True) -> None:
        button = self.control(name)
        assert isinstance(button, QAbstractButton)
        self.open_page_of(button)
        if not button.isEnabled():
            self.settled()  # what is shown may be about the image before
        assert button.isEnabled(), f"{name} is disabled: {self.said_on_top}"
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        if wait:
            self.idle()

    def open_page_of(self, control: QWidget) -> None:
        """Turn to the page, Annotate or Settings, that a control is on."""
        pages = self.widget.panel
        for number in range(pages.count()):
            if pages.widget(number).isAncestorOf(control):
                pages.setCurrentIndex(number)

    @property
    def said_on_top(self) -> str:
        return self.widget.panel.annotate.message.text()

    def use(self, model: Path | str) -> None:
        """Choose a model and wait until it is known to fit or not."""
        self.widget.use_model(model)
        self.wait(lambda: self.widget.models.model is not None, "the model")
        self.known()

    def use_none(self) -> None:
        """Work without a model, also where models are bundled."""
        self.wait(lambda: self.widget.models._listed, "the list of models")
        self.widget.models.forget()
        self.known()

    def known(self) -> None:
        """Wait until the widget has looked at image and model."""
        pause(1)  # for what was put off until the event loop runs
        self.settled()
        self.wait(lambda: self.widget.fit.problem != model_fit.WAITING, "the check of the image")

    def settled(self) -> None:
        """Wait until no look at image and model is due or under way."""
        self.wait(lambda: not self.widget.fit.looking, "the check of the image")

    def show_maps(self) -> None:
        """Have the two layers of the maps, which take napari a third of a second to make."""
        self.widget.panel.settings.maps.setChecked(True)

    def key(self, key: Qt.Key, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
        self.canvas.setFocus()
        QTest.keyClick(self.canvas, key, modifier)

    @cached_property
    def canvas(self) -> QWidget:
        window = self.dock.window()
        return next(
            child
            for child in window.findChildren(QWidget)
            if type(child).__name__ == "CanvasBackendDesktop" and child.isVisible()
        )

    def point(self, row: float, column: float) -> QPoint:
        """Where a data position of the mask is on the canvas."""
        world = np.array(self.mask.data_to_world((*([0] * (self.mask.ndim - 2)), row, column)))[-2:]
        camera = self.viewer.scene.camera
        centre, zoom = np.array(camera.center)[-2:], camera.zoom
        size = self.canvas.size()
        turned = [way in ("up", "left") for way in map(str, camera.orientation2d)]
        y, x = np.where(turned, -1, 1) * (world - centre) * zoom + (
            size.height() / 2,
            size.width() / 2,
        )
        return QPoint(round(x), round(y))

    def press(
        self, row: float, column: float, mode: str = "paint", label: int = 1, size: int = 3
    ) -> None:
        self.viewer.layers.selection.active = self.mask
        self.mask.mode, self.mask.selected_label, self.mask.brush_size = mode, label, size
        at = self.point(row, column)
        QTest.mouseMove(self.canvas, at)
        QTest.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=at)

    def drag(self, row: float, column: float) -> None:
        QTest.mouseMove(self.canvas, self.point(row, column))
        QApplication.processEvents()

    def release(self, row: float, column: float) -> None:
        QTest.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=self.point(row, column))
        pause(1)

    def stroke(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        mode: str = "paint",
        label: int = 1,
    ) -> np.ndarray:
        """Paint from start to end with the mouse; where the mask changed, bool [..., H, W]."""
        before = self.mask.data.copy()
        self.press(*start, mode=mode, label=label)
        for part in (0.5, 1.0):
            self.drag(*(np.array(start) + part * (np.array(end) - np.array(start))))
        self.release(*end)
        return self.mask.data != before

    def says(self, text: str, name: str = "message") -> None:
        """Wait until a line, that on top or another, holds a text: what it said before stands
        until the widget has looked again."""
        label = self.control(name)
        assert isinstance(label, QLabel)
        self.wait(lambda: text in label.text(), f"{name} to say {text!r}")

    def offers(self, name: str, on: bool = True) -> None:
        """Wait until a control is enabled, or is not."""
        control = self.control(name)
        self.wait(lambda: control.isEnabled() == on, f"{name} to be {'en' if on else 'dis'}abled")

    def said(self) -> str:
        return "\n".join(str(note.message) for note in self.notes)


@pytest.fixture(autouse=True, scope="module")
def lighter_collections(qapp: QApplication, tiny_file: Path) -> None:
    """napari collects garbage whenever a layer goes; spare it what stays: all that is imported.

    What a file before left behind is thawed first, or it would never be freed. napari keeps two
    things of closed windows: entries of menus, which belong to the QApplication, and a callback
    in every theme; each holds its window's whole registry of commands.
    """
    for theme in themes._themes.values():
        theme.events.canvas.disconnect()
    for entry in qapp.findChildren(QAction, options=Qt.FindChildOption.FindDirectChildrenOnly):
        entry.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def known_plugins() -> Iterator[None]:
    """Nothing is installed meanwhile: read all manifests once, not twice for each window."""
    found = list(PluginManifest.discover())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", lambda paths=(): iter(found))
        yield


@pytest.fixture(autouse=True, scope="session")
def unsaved_settings() -> None:
    """napari writes its own settings five times for a window; those of plugins are still saved."""
    get_settings()._save_on_change = False


@pytest.fixture(autouse=True, scope="session")
def known_signatures() -> Iterator[None]:
    """napari looks at a callback's parameters whenever that of another layer or control is
    connected or disconnected, thousands of times for a window: once for each function is enough."""
    known: dict[Any, bool] = {}
    look: Callable[[Callable[..., Any]], bool] = EventEmitter._check_signature

    def check(callback: Callable[..., Any]) -> bool:
        plain = getattr(callback, "__func__", callback)
        if not inspect.isfunction(plain) or {"__wrapped__", "__signature__"} & vars(plain).keys():
            return look(callback)
        key = plain.__code__, plain is callback
        if key not in known:
            known[key] = look(callback)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventEmitter, "_check_signature", staticmethod(check))
        yield


@pytest.fixture(autouse=True)
def quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image and model are looked at soon after each choice: no hand has to rest here."""
    monkeypatch.setattr(model_fit, "SETTLE", 10)


@pytest.fixture(autouse=True)
def sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for sidecars."""
    folder = tmp_path / "sessions"
    monkeypatch.setenv(SESSIONS, str(folder))
    return folder


@pytest.fixture(autouse=True)
def preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """napari's Preferences as after a first start, and the folder that they are written to."""
    from napari import settings

    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setattr(settings, "_CFG_PATH", str(folder / "settings.yaml"))
    settings._clear_plugin_settings_cache()
    yield folder
    settings._clear_plugin_settings_cache()


@pytest.fixture
def open_hand(
    make_napari_viewer_proxy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Hand]]:
    """``open_hand(image, model, **layer_settings)``: napari on an image (or a layer), the widget
    docked, and a model chosen: at once, as one that is chosen by itself takes time to be loaded.

    Unless ``stepwise`` is False, :func:`step_by_step` was done."""
    hands: list[Hand] = []
    listening: list[list[Notification]] = []
    gates: list[Gate] = []

    def hold() -> Gate:
        gates.append(Gate(monkeypatch))
        return gates[-1]

    def make(
        image: Any = None,
        model: Path | str | None = None,
        stepwise: bool = True,
        **settings: Any,
    ) -> Hand:
        notes: list[Notification] = []
        notification_manager.notification_ready.connect(notes.append)
        listening.append(notes)
        viewer = make_napari_viewer_proxy(show=False)
        viewer.window.resize(1000, 640)  # every drawn pixel costs: there is no graphics card
        if isinstance(image, Image):
            viewer.add_layer(image)
        elif image is not None:
            viewer.add_image(image, name="image", **settings)
        with patch.object(gc, "get_freeze_count", lambda: 1):  # it walks through all to count
            dock, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
        if model is not None:
            widget.use_model(model)
        if stepwise:
            step_by_step(widget)
        viewer.show()
        hands.append(Hand(viewer, dock, widget, notes, hold))
        hands[-1].wait(lambda: dock.window().windowHandle().isExposed(), "the window")
        pause(1)
        viewer.reset_view()
        if model is not None:
            hands[-1].use(model)
        return hands[-1]

    yield make
    for gate in gates:
        gate.open()
    for hand in hands:
        hand.widget.shut_down()
        # Its workers, which it lists, call it back: through Qt, a circle that nobody collects.
        hand.viewer.__wrapped__.window._task_status_manager._tasks.clear()
    for notes in listening:
        notification_manager.notification_ready.disconnect(notes.append)
    # Threads may still be busy with what nobody waits for any more.
    pause(10)


@pytest.fixture
def picture() -> np.ndarray:
    """A small RGB image with dark branches on a bright ground, uint8 [72, 96, 3]."""
    rows, columns = np.mgrid[:72, :96]
    branch = (abs(rows - 36 - 12 * np.sin(columns / 15)) < 3) | (abs(columns - rows) < 2)
    noise = np.random.default_rng(0).integers(0, 40, (72, 96, 3))
    return (np.where(branch[..., None], 60, 170) + noise).astype(np.uint8)


@pytest.fixture
def hand(open_hand: Callable[..., Hand], picture: np.ndarray, tiny_file: Path) -> Hand:
    """The picture with the tiny model, which fits it."""
    return open_hand(picture, tiny_file, rgb=True)
