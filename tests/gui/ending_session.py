"""Programs that end with their window open: python ending_session.py MODEL IMAGE.npy OTHER.npy.

Each paints a stroke at the last moment: that on IMAGE when nothing else goes on, that on OTHER
while a run with MODEL is under way. They are forks of this program, which has imported everything,
and end as any program does. On stdout, for each: the fixed pixels, and how it ended.
"""

import os
import sys

import napari
import napari.viewer
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer

import napari_hidiff._qt.widget
import napari_hidiff.inference.model  # noqa: F401


def pause(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


model, image, other = sys.argv[1:]
due: list[tuple[str, list[str]]] = [(other, [model]), (image, [])]
while due:
    path, models = due.pop()
    child = os.fork()
    if not child:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

viewer = napari.Viewer()
viewer.add_image(np.load(path), name="image", rgb=True)
dock, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
for model in models:
    widget.use_model(model)
while widget.image not in widget.annotated_images._keys or (models and widget.models.model is None):
    pause(5)
widget.models.manage()
widget.controller.new_mask()
if models:
    widget.controller.segment()
    while widget.work.busy:
        pause(5)
    widget.settings.steps.value, widget.settings.samples.value = 10, 64
    widget.controller.run()
    pause(5)
    assert widget.work.busy
widget.bench.autosave.flush()
widget.bench.mask.paint((40, 50), 1)
print(int((widget.session.timeline.fixed >= 0).sum()), flush=True)
