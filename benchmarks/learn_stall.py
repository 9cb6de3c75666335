"""How long does the window stall while a fine-tuning runs beside it?

    python -m benchmarks.learn_stall [--seconds 40] [--output FILE]

A timer of 5 ms in napari's event loop notes the gaps between its ticks, first with an idle window,
then from the click on Fine-tune on. It needs a display (on Linux also Xvfb: ``xvfb-run -a python
-m benchmarks.learn_stall``). Folders of its own are used, never the user's.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_hidiff.inference.card import versions
from napari_hidiff.io.images import sample

TICK = 5
"""Milliseconds."""


def gaps(seconds: float, enough: Callable[[], bool] = lambda: False) -> list[float]:
    """Milliseconds between the ticks of a timer, for so long or until there is enough."""
    found: list[float] = []
    loop, timer, began = QEventLoop(), QTimer(), time.perf_counter()
    last = began

    def tick() -> None:
        nonlocal last
        now = time.perf_counter()
        found.append(1000 * (now - last))
        last = now
        if now - began > seconds or enough():
            loop.quit()

    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(tick)
    timer.start(TICK)
    loop.exec()
    timer.stop()
    return found


def summary(found: list[float]) -> dict[str, float]:
    """Longest gap and a high percentile, milliseconds."""
    return {
        "longest_ms": round(max(found), 1),
        "99.9 % ms": round(float(np.percentile(found, 99.9)), 1),
        "ticks": len(found),
    }


def measure(seconds: float) -> dict[str, Any]:
    """Gaps of the idle window and of one beside a fine-tuning of the bundled vessel model."""
    image, _ = sample()
    viewer = napari.Viewer()
    viewer.window.resize(1280, 720)
    viewer.add_image(image[::2, ::2], rgb=True, name="fundus")
    _, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    widget.use_model("chase-vessels")
    gaps(300, lambda: widget.fit.problem is None)
    widget.panel.annotate.segment.click()
    gaps(300, lambda: not widget.work.busy)
    widget.panel.annotate.accept.click()
    widget.panel.settings.learn.expand(animate=False)
    widget.panel.settings.learn.add.click()
    gaps(60, lambda: widget.panel.settings.learn.add.isEnabled())
    gaps(5)
    idle = gaps(seconds / 2)
    widget.panel.settings.learn.tune.click()
    run = widget.learning.run
    starting = gaps(seconds * 10, lambda: bool(run.progress.losses))
    training = gaps(seconds)
    widget.panel.settings.learn.stop.click()
    stopping = gaps(300, lambda: widget.learning.run is None)
    viewer.close()
    found = {"idle": idle, "starting": starting, "training": training, "stopping": stopping}
    return {name: summary(values) for name, values in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.learn_stall", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=40, help="to watch the training")
    parser.add_argument("--output", type=Path, help="write the report here too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_HIDIFF_SESSIONS"] = f"{folder}/sessions"
        found = measure(options.seconds)
    report = {
        "command": f"python -m benchmarks.learn_stall --seconds {options.seconds:g}",
        "tick_ms": TICK,
        "load_of_the_machine": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": versions(),
        **found,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
