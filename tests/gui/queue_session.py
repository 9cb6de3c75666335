"""A window on a folder in a process of its own, until it is killed: ``FOLDER MODEL``.

It finds and leaves two images, paints on the third, and says in one line of JSON, once that is on
disk, what is to be found again."""

import json
import os
import sys
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer

from napari_hidiff.annotation import sidecar


def pause(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def wait(until) -> None:
    while not until():
        pause(10)


def main() -> None:
    viewer = napari.Viewer(show_welcome_screen=False)
    viewer.window.resize(800, 480)
    _, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    widget.use_model(sys.argv[2])
    widget.panel.queue.drafts.setChecked(False)
    queue, press = widget.queue, widget.panel.annotate.next_image.click
    queue.open(Path(sys.argv[1]))
    for number in range(3):
        wait(
            lambda done=number: (
                queue.item
                and queue.queue.done == done
                and not queue.busy
                and widget.fit.problem is None
                and not widget.fit.looking
            )
        )
        widget.controller.segment()
        wait(lambda: not widget.work.busy)
        if number < 2:
            press()
    mask = widget.bench.mask
    mask.paint((20, 30), 1)
    pause(10)
    widget.bench.autosave.flush()
    path = sidecar.find(sidecar.image_key(np.asarray(widget.image.data)))
    assert path is not None
    (fixed,) = (one.fixed for one in sidecar.load(path).slices.values())
    told = {"name": queue.item.name, "mask": mask.data.tolist(), "fixed": int((fixed >= 0).sum())}
    os.write(int(sys.argv[3]), json.dumps(told).encode() + b"\n")
    pause(600_000)


if __name__ == "__main__":
    main()
