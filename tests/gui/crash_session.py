"""A session for test_crash.py to kill: python crash_session.py IMAGE.npy [MODEL].

Goes on from what was kept, prints {"found": fixed pixels}, then paints with the mouse and refines
for ever, and prints {"at": monotonic seconds, "pixels": flat positions} after every stroke. Without
MODEL it undoes and redoes strokes in place of refining.
"""

import itertools
import json
import sys
import time

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QPoint, Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

BUTTON = Qt.MouseButton.LeftButton


def pause(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


image, models = np.load(sys.argv[1]), sys.argv[2:]
viewer = napari.Viewer()
viewer.window.resize(900, 600)
viewer.add_image(image, name="image", rgb=True)
dock, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
for model in models:
    widget.use_model(model)
while widget.image not in widget.benches._keys or (models and widget.models.model is None):
    pause(10)
if widget.panel.go_on.isVisible():
    widget.go_on()
    say(found=widget.bench.annotation.fixed_count)
else:
    widget.new_mask()
    say(found=0)
viewer.reset_view()
pause(50)
mask = widget.bench.mask
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
    before = widget.bench.annotation.sessions[-1, -1].timeline.fixed.ravel()
    QTest.mouseMove(canvas, point(*start))
    QTest.mousePress(canvas, BUTTON, pos=point(*start))
    for part in (0.5, 1.0):
        QTest.mouseMove(canvas, point(*(start + part * (end - start))))
    QTest.mouseRelease(canvas, BUTTON, pos=point(*end))
    at = time.monotonic()
    pause(5)
    after = widget.bench.annotation.sessions[-1, -1].timeline.fixed.ravel()
    say(at=at, pixels=np.flatnonzero((after >= 0) & (before < 0)).tolist())
    if number % 4 == 3 and not widget.work.busy and models:
        widget.run() if widget.session.prior is None else widget.rerefine()
    elif number % 4 == 3 and not widget.work.busy:
        mask.undo()
        mask.redo()
    if number % 7 == 6 and not widget.work.busy:
        widget.accept()
    pause(20)
