"""A program that ends with its window open: python ending_session.py IMAGE.npy [MODEL].

Paints a stroke at the last moment; with MODEL while a run is under way.
"""

import sys

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer


def pause(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


viewer = napari.Viewer()
viewer.add_image(np.load(sys.argv[1]), name="image", rgb=True)
dock, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
for model in sys.argv[2:]:
    widget.use_model(model)
while widget.image not in widget.benches._keys or (sys.argv[2:] and widget.models.model is None):
    pause(5)
widget.models.manage()
widget.new_mask()
if sys.argv[2:]:
    widget.segment()
    while widget.work.busy:
        pause(5)
    widget.settings.steps.value, widget.settings.samples.value = 10, 64
    widget.run()
    pause(5)
    assert widget.work.busy
widget.bench.autosave.flush()
widget.bench.mask.paint((40, 50), 1)
print(int((widget.session.timeline.fixed >= 0).sum()), flush=True)
