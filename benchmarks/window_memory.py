"""``python -m benchmarks.window_memory``: what a volume takes in the window, with all that is made
of it.

For every volume a process opens napari with the widget and a model of the paper's architecture at
width 32 (untrained: memory does not depend on weights), refines a tiny volume, so that libraries
and compiled kernels are loaded, and removes it. What the process holds then is the base. Then the
volume is opened, a slice is segmented, refined, corrected, refined again and accepted, and a range
of slices is segmented, refined and carried through. Of every stage the peak of resident memory
above the base is reported (Linux tells it), the volume itself included.

``limit`` is twice the size of the volume as float32 plus what the widget says that a run takes.
It needs a display (``xvfb-run -a python -m benchmarks.window_memory``).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks._packed import machine, print_table
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label

VOLUMES = {
    "155 x 240 x 240 x 4": (4, 155, 240, 240),
    "155 x 240 x 240, 4 layers": (4, 155, 240, 240),
    "300 x 512 x 512": (300, 512, 512),
}
"""The first as one layer with a channel axis, the second with a layer per channel."""
TINY = 8, 32, 32
PATIENCE = 600.0
MEBI = 2**20


def model_of(channels: int) -> HiDiff:
    """An untrained model: four channels and three classes, as for BraTS, or one of each."""
    names = ("flair", "t1", "t1ce", "t2")[:channels]
    colours = ("#000000", "#ff4040", "#40a0ff", "#40d060")[: 4 if channels > 1 else 2]
    classes = tuple(Label(f"class {n}" if n else "background", c) for n, c in enumerate(colours))
    options = {"width": 32, "stem": 2}
    defaults = {"sampler": "one-step", "steps": 1, "samples": 1}
    return HiDiff.create(Card("untrained", classes, names, refiner=options, defaults=defaults))


def volume_of(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A ball of noise in an empty volume, made plane by plane."""
    rng = np.random.default_rng(0)
    volume = np.zeros(shape, dtype)
    planes = volume.reshape(-1, *shape[-2:])
    y, x = np.ogrid[-1 : 1 : shape[-2] * 1j, -1 : 1 : shape[-1] * 1j]
    head = y**2 + x**2 < 0.8
    for plane in planes:
        plane[head] = rng.normal(700, 200, int(head.sum()))
    return volume


def status(name: str) -> int:
    """Bytes of an entry of this process's status, such as VmRSS."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


class Window:
    """napari with the widget docked and a model chosen."""

    def __init__(self, model: Path) -> None:
        import napari

        self.viewer = napari.Viewer()
        self.viewer.window.resize(1280, 720)
        plugin = "napari-hidiff", "HiDiff refine"
        _, self.widget = self.viewer.window.add_plugin_dock_widget(*plugin)
        self.widget.use_model(model)
        self.wait(lambda: self.widget.models.model is not None)
        self.wait(lambda: not self.widget.models.loaded().backend.preparing)

    def wait(self, until: Callable[[], object]) -> None:
        """Let the window work until something is true."""
        end = time.monotonic() + PATIENCE
        while not until():
            if time.monotonic() > end:
                raise SystemExit("the window did not get ready")
            self.pause(20)

    def pause(self, milliseconds: int) -> None:
        """Let the window work."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def settle(self) -> None:
        """Wait until nothing is under way."""
        self.pause(100)
        self.wait(lambda: not self.widget.fit.looking and not self.widget.work.busy)
        self.pause(100)

    def open(self, volume: np.ndarray, apart: bool) -> None:
        """Show a volume, as a layer per channel with ``apart``, in its middle slice."""
        card = self.widget.models.loaded().card
        layers = zip(card.channels, volume, strict=True) if apart else [("volume", volume)]
        for name, array in layers:
            self.viewer.add_image(array, name=name)
        self.viewer.dims.set_current_step(self.viewer.dims.ndim - 3, volume.shape[-3] // 2)
        self.viewer.reset_view()
        self.settle()
        if self.widget.fit.problem is not None:
            raise SystemExit(self.widget.fit.problem)

    def correct(self, erase: bool = False) -> None:
        """Paint or erase a stroke across the middle of the view with the mouse."""
        from qtpy.QtCore import QPoint, Qt
        from qtpy.QtTest import QTest
        from qtpy.QtWidgets import QWidget

        mask = self.widget.bench.mask
        self.viewer.layers.selection.active = mask
        mask.mode, mask.brush_size, mask.selected_label = "erase" if erase else "paint", 20, 1
        window, name = self.widget.window(), "CanvasBackendDesktop"
        canvas = next(w for w in window.findChildren(QWidget) if type(w).__name__ == name)
        middle = QPoint(canvas.width() // 2, canvas.height() // 2)
        QTest.mousePress(canvas, Qt.MouseButton.LeftButton, pos=middle)
        for step in range(1, 6):
            QTest.mouseMove(canvas, middle + QPoint(10 * step, 0))
            self.pause(10)
        QTest.mouseRelease(canvas, Qt.MouseButton.LeftButton, pos=middle + QPoint(50, 0))
        self.pause(10)
        if not self.widget.bench.annotation.fixed_count:
            raise SystemExit("the mouse painted nothing")

    def many(self, count: int) -> None:
        """Choose ``count`` slices, the shown one first, for what is done to many."""
        box, target = self.widget.panel.settings.volume, self.widget.selection.volume()
        at = target[0].index[target[1]]
        box.first.setValue(at)
        box.last.setValue(at + count - 1)

    def close(self) -> None:
        """Close the window, and wait for its threads."""
        from qtpy.QtCore import QThreadPool

        self.widget.shut_down()
        self.viewer.close()
        QThreadPool.globalInstance().waitForDone()

    def close_images(self) -> None:
        """Remove every layer."""
        self.viewer.layers.clear()
        self.settle()


def session(window: Window, count: int) -> dict[str, Callable[[], None]]:
    """What is done to an open volume, in order; every part leaves the window to settle."""
    widget = window.widget
    return {
        "segment a slice": widget.controller.segment,
        "run": widget.controller.run,
        "paint": window.correct,
        "re-refine": widget.controller.rerefine,
        "accept": widget.controller.accept,
        f"segment {count} slices": lambda: (window.many(count), widget.controller.segment_slices())[
            1
        ],
        f"refine {count} slices": widget.controller.refine_slices,
        "erase": lambda: window.correct(erase=True),
        "carry on": lambda: widget.controller.carry(1),
    }


def peaks(name: str, dtype: str, count: int) -> dict[str, Any]:
    """Open one of :data:`VOLUMES` here and report the peaks of this process."""
    import torch

    torch.set_num_threads(1)
    shape, apart = VOLUMES[name], "layers" in name
    channels = shape[0] if len(shape) > 3 else 1
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_HIDIFF_SESSIONS"] = folder
        file = Path(folder) / "model.safetensors"
        model_of(channels).save(file)
        window = Window(file)
        small = TINY if channels == 1 else (channels, *TINY)
        window.open(volume_of(small, dtype), apart)
        for part in session(window, 3).values():
            _carefully(part)
            window.settle()
        window.close_images()
        volume = volume_of(shape, dtype)
        base = status("VmRSS") - volume.nbytes
        found: dict[str, int] = {}

        def measured(stage: str, part: Callable[[], None]) -> None:
            with open("/proc/self/clear_refs", "w") as peak:
                peak.write("5")  # counts anew from here on
            part()
            window.settle()
            found[stage] = status("VmHWM") - base

        measured("open", lambda: window.open(volume, apart))
        cost = window.widget.models.loaded().estimate(shape[-2:], "one-step").bytes
        for stage, part in session(window, count).items():
            measured(stage, lambda part=part: _carefully(part))
        rest = status("VmRSS") - base
        window.close()
    size = 4 * int(np.prod(shape))
    limit = 2 * size + cost
    return {
        "float32_MiB": size / MEBI,
        "run_MiB": cost / MEBI,
        "limit_MiB": limit / MEBI,
        "peak_MiB": max(found.values()) / MEBI,
        "peak_over_float32": max(found.values()) / size,
        "within": max(found.values()) <= limit,
        "at_rest_MiB": rest / MEBI,
        "stages_MiB": {stage: taken / MEBI for stage, taken in found.items()},
    }


def _carefully(part: Callable[[], None]) -> None:
    """A part of the session; where it has nothing to do (an untrained model says much the same
    everywhere), the window would say so in a line."""
    from napari_hidiff.errors import InputError

    try:
        part()
    except InputError as error:
        print(error, file=sys.stderr)


def child(name: str, dtype: str, count: int) -> dict[str, Any]:
    """:func:`peaks` in a process of its own."""
    options = ["--only", name, "--dtype", dtype, "--slices", str(count)]
    command = [sys.executable, "-m", "benchmarks.window_memory", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rounded(value: Any) -> Any:
    """Numbers as a reader wants them: three digits behind the point of a ratio, whole MiB."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, float):
        return round(value) if value > 10 else round(value, 2)
    return value


def main(
    dtype: Annotated[str, typer.Option(help="float32 or int16, as the volume is stored.")] = "",
    slices: Annotated[int, typer.Option(help="Slices of the range.")] = 12,
    only: Annotated[str, typer.Option(help="Measure this volume in this process.")] = "",
    as_json: JsonOption = False,
    output: Annotated[Path, typer.Option(help="The JSON file.")] = Path(
        "results/window-memory.json"
    ),
) -> None:
    """Measure on the CPU of this machine (Linux)."""
    if only:
        print(json.dumps(peaks(only, dtype, slices)))
        return
    volumes = {
        f"{name}, {kind}": rounded(child(name, kind, slices))
        for name in VOLUMES
        for kind in ([dtype] if dtype else ["float32", "int16"])
    }
    found = {
        "command": "python -m benchmarks.window_memory",
        "machine": machine(1),
        "slices": slices,
        "volumes": volumes,
    }
    output.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    if as_json:
        print_json(found)
        return
    stages = list(dict.fromkeys(s for one in volumes.values() for s in one["stages_MiB"]))
    keys = ["float32_MiB", "run_MiB", "limit_MiB", "peak_MiB", "peak_over_float32", "at_rest_MiB"]
    rows: list[list[object]] = [
        [name, *(one[key] for key in keys)] for name, one in volumes.items()
    ]
    print_table("Resident memory above napari with the model, MiB", ["volume", *keys], rows)
    rows = [
        [stage, *(one["stages_MiB"].get(stage) for one in volumes.values())] for stage in stages
    ]
    print_table("Peak of each stage, MiB", ["stage", *volumes], rows)


if __name__ == "__main__":
    typer.run(main)
