"""Sessions for test_crash.py to kill: python crash_session.py IMAGE.npy MODEL.

Every line on stdin asks for a session, in a process of its own: a fork of this one, which has
imported everything. It goes on from what was kept and paints with the mouse for ever; "refine" lets
it refine with MODEL, anything else undo and redo. What it tells are lines of JSON, in which
"entries" counts the entries of the log:

    {"pid": of the process, "found": fixed pixels that it opened on}
    {"entries": after a stroke, "pixels": flat positions that it fixed}
    {"due": entries of a stroke of a while ago, "handed": entries that the saving thread was given}
    {"saved": entries that are in the file now}
    {"over": whether the process was killed}
"""

import gc
import itertools
import json
import os
import signal
import sys
import time

import napari
import napari.viewer
import numpy as np
from npe2 import PluginManifest
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

import napari_hidiff._qt.widget
import napari_hidiff.inference.model  # noqa: F401
from napari_hidiff._qt.layers.autosave import Autosave
from napari_hidiff.annotation.sidecar import SidecarWriter

BUTTON = Qt.MouseButton.LeftButton
DUE = 1000
"""Milliseconds after which a stroke is to be in the hands of the saving thread."""


def say(**facts: object) -> None:
    os.write(1, f"{json.dumps(facts)}\n".encode())  # whole lines, from whichever thread


def pause(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def session(image: np.ndarray, models: list[str]) -> None:
    handed = 0
    snapshot, write = Autosave._snapshot, SidecarWriter.write

    def handing(self: Autosave) -> None:
        nonlocal handed
        snapshot(self)
        if not self._dirty:
            handed = len(self._annotation.log)

    def writing(self: SidecarWriter, *given: object) -> None:
        write(self, *given)
        say(saved=len(given[-1]))

    Autosave._snapshot, SidecarWriter.write = handing, writing
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(800, 480)  # every drawn pixel costs
    viewer.add_image(image, name="image", rgb=True)
    dock, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    for model in models:
        widget.use_model(model)
    while widget.image not in widget.annotated_images._keys or (
        models and widget.models.model is None
    ):
        pause(10)
    if widget.panel.annotate.go_on.isVisible():
        widget.controller.go_on()
        say(pid=os.getpid(), found=widget.bench.annotation.fixed_count)
    else:
        widget.controller.new_mask()
        say(pid=os.getpid(), found=0)
    widget.panel.annotate.after_stroke.setChecked(False)
    widget.fit.keep_choice(False)
    viewer.reset_view()
    pause(50)
    mask, annotation = widget.bench.mask, widget.bench.annotation
    canvas = next(
        child
        for child in dock.window().findChildren(QWidget)
        if type(child).__name__ == "CanvasBackendDesktop" and child.isVisible()
    )
    viewer.layers.selection.active = mask
    mask.mode, mask.brush_size = "paint", 3

    def point(row: float, column: float) -> QPoint:
        camera = viewer.scene.camera
        away = (np.array([row, column]) - np.array(camera.center)[-2:]) * camera.zoom
        y, x = away + np.array([canvas.height(), canvas.width()]) / 2
        return QPoint(round(x), round(y))

    random = np.random.default_rng(time.monotonic_ns())
    for number in itertools.count():
        start, end = random.uniform((5, 5), np.array(image.shape[:2]) - 6, (2, 2))
        mask.selected_label = 1
        before = annotation.sessions[-1, -1].timeline.fixed.ravel()
        shown = mask.data.copy()
        QTest.mouseMove(canvas, point(*start))
        QTest.mousePress(canvas, BUTTON, pos=point(*start))
        for part in (0.5, 1.0):
            QTest.mouseMove(canvas, point(*(start + part * (end - start))))
        QTest.mouseRelease(canvas, BUTTON, pos=point(*end))
        pause(5)
        after = annotation.sessions[-1, -1].timeline.fixed.ravel()
        entries = len(annotation.log)
        say(entries=entries, pixels=np.flatnonzero((after >= 0) & (before < 0)).tolist())
        QTimer.singleShot(DUE, lambda entries=entries: say(due=entries, handed=handed))
        if number % 4 == 3 and not widget.work.busy and models:
            controller = widget.controller
            controller.run() if widget.session.prior is None else controller.rerefine()
        elif number % 4 == 3 and (mask.data != shown).any():  # so that this stroke is undone
            mask.undo()
            mask.redo()
        if number % 7 == 6 and not widget.work.busy:
            widget.controller.accept()
        pause(20)


if __name__ == "__main__":
    found = list(PluginManifest.discover())
    PluginManifest.discover = lambda paths=(): iter(found)  # not again in every session
    gc.collect()
    gc.freeze()
    sys.stdout = sys.stderr  # what napari says; lines of ours go to the file itself
    for line in sys.stdin:
        child = os.fork()
        if not child:
            session(np.load(sys.argv[1]), sys.argv[2:] if line == "refine\n" else [])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        say(over=status == -signal.SIGKILL)
