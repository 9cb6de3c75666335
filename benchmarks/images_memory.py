"""``python -m benchmarks.images_memory``: what many images, one after the other, leave in memory.

A process opens napari with the widget and a model of the paper's architecture at width 32
(untrained: memory does not depend on weights), and then, twenty times, opens a picture of
1024 x 1024, segments it, corrects it with a stroke, refines it again, accepts the mask and removes
all layers. A second process does with napari alone what the first one does to the viewer: the same
picture, a Labels layer with a stroke, two maps and two outlines, and removes them. Resident memory
is read when the window has settled: before the first picture, and after each was closed.

At the end the first picture is opened again: its accepted mask must come back.

It needs a display (``xvfb-run -a python -m benchmarks.images_memory``) and Linux.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks._packed import machine, print_table
from benchmarks.window_memory import MEBI, Window, model_of, status
from napari_hidiff.cli.console import JsonOption, print_json

SIDE, CHANNELS = 1024, 3
WARM = 2
"""Pictures after which libraries are loaded and buffers have their size."""


def picture(number: int, side: int = SIDE) -> np.ndarray:
    """A disc on noise, uint8 [H, W, 3]; no two are alike."""
    rng = np.random.default_rng(number)
    y, x = np.ogrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    noise = rng.integers(0, 60, (side, side, CHANNELS))
    disc = ((x - rng.uniform(-0.3, 0.3)) ** 2 + y**2 < 0.2)[..., None]
    return (90 + noise + 80 * disc).astype(np.uint8)


def resident() -> float:
    """MiB that this process holds, once Python has collected its garbage."""
    gc.collect()
    return status("VmRSS") / MEBI


def annotated(count: int) -> dict[str, Any]:
    """Annotate pictures in the widget."""
    import torch

    from napari_hidiff.inference import denoiser

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_HIDIFF_SESSIONS"] = folder
        file = Path(folder) / "model.safetensors"
        model_of(CHANNELS).save(file)
        window = Window(file)
        widget = window.widget
        found, first = [resident()], np.zeros((0, 0))
        for number in range(count):
            window.viewer.add_image(picture(number), name="picture", rgb=True)
            window.viewer.reset_view()
            window.settle()
            for part in (
                widget.controller.segment,
                window.correct,
                widget.controller.rerefine,
                widget.controller.accept,
            ):
                part()
                window.settle()
            if not number:
                first = widget.bench.mask.data.copy()
            window.close_images()
            found.append(resident())
            print(f"annotated {number + 1}: {found[-1]:.0f} MiB", file=sys.stderr, flush=True)
        remembered = denoiser.remembered() / MEBI
        window.viewer.add_image(picture(0), name="picture", rgb=True)
        image = window.viewer.layers["picture"]
        window.wait(lambda: widget.annotated_images.offer(image))
        widget.controller.go_on()
        came_back = bool(np.array_equal(widget.bench.mask.data, first))
        window.close()
    return {"resident_MiB": found, "remembered_MiB": remembered, "came_back": came_back}


def napari_alone(count: int) -> dict[str, Any]:
    """The same layers without the widget, added and removed."""
    import napari

    viewer = napari.Viewer()
    viewer.window.resize(1280, 720)
    found = [resident()]
    for number in range(count):
        viewer.add_image(picture(number), name="picture", rgb=True)
        for name in ("probability", "uncertainty"):
            values = np.zeros((SIDE, SIDE), np.float32)
            viewer.add_image(values, name=name, contrast_limits=(0, 1), blending="additive")
        mask, *outlines = (viewer.add_labels(np.zeros((SIDE, SIDE), np.uint8)) for _ in range(3))
        for layer in outlines:
            layer.contour = 1
        viewer.reset_view()
        Window.pause(viewer, 300)
        where = np.nonzero(picture(number)[..., 0] > 150)
        mask.data_setitem(where, 1)
        mask.paint((SIDE // 2, SIDE // 2), 1)
        Window.pause(viewer, 300)
        viewer.layers.clear()
        Window.pause(viewer, 300)
        found.append(resident())
        print(f"napari alone {number + 1}: {found[-1]:.0f} MiB", file=sys.stderr, flush=True)
    viewer.close()
    return {"resident_MiB": found}


KINDS = {"annotated": annotated, "napari alone": napari_alone}


def child(kind: str, count: int) -> dict[str, Any]:
    """One of :data:`KINDS` in a process of its own, with what it adds per picture."""
    command = [sys.executable, "-m", "benchmarks.images_memory", "--only", kind]
    command += ["--count", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    held = found["resident_MiB"]
    per_picture = (held[-1] - held[WARM]) / (count - WARM)
    return found | {
        "resident_MiB": [round(one) for one in held],
        "before_MiB": round(held[0]),
        "after_MiB": round(held[-1]),
        "per_picture_MiB": round(per_picture, 1),
    }


def main(
    count: Annotated[int, typer.Option(help="Pictures.", min=WARM + 1)] = 20,
    only: Annotated[str, typer.Option(help="Measure this in this process.")] = "",
    as_json: JsonOption = False,
    output: Annotated[Path, typer.Option(help="The JSON file.")] = Path(
        "results/images-memory.json"
    ),
) -> None:
    """Measure on the CPU of this machine (Linux)."""
    from napari_hidiff.inference import denoiser

    if only:
        print(json.dumps(KINDS[only](count)))
        return
    found = {
        "command": "python -m benchmarks.images_memory",
        "machine": machine(1),
        "pictures": count,
        "side": SIDE,
        "limit_MiB": round(denoiser.MOST / MEBI),
        "kinds": {kind: child(kind, count) for kind in KINDS},
    }
    output.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    if as_json:
        print_json(found)
        return
    keys = ["before_MiB", "after_MiB", "per_picture_MiB"]
    rows: list[list[object]] = [
        [kind, *(one[key] for key in keys)] for kind, one in found["kinds"].items()
    ]
    print_table("Resident memory, MiB", ["pictures", *keys], rows)


if __name__ == "__main__":
    typer.run(main)
