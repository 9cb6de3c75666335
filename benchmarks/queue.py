"""``python -m benchmarks.queue``: a folder of 10,000 files, memory over 40 images, and drafts.

The folder holds empty files, since no file is opened to list it; the time is that until the list is
shown in the window, and how long the window was blocked meanwhile. For the memory, parts of the
bundled photograph are opened one after another, found by ``chase-vessels``, saved and left; the
resident memory is read (Linux) with each image shown. Then the same is done with a folder of
drafts: how long one takes in its process while the window is at rest, the longest time that the
window does not answer meanwhile, and the time from one image to the next that has a draft. It needs
a display (``xvfb-run -a python -m benchmarks.queue``).
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from benchmarks._packed import machine
from benchmarks.window_memory import MEBI, Window, status
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.io.images import sample

FILES, IMAGES, DRAFTED, SIDE = 10_000, 40, 12, 256
TICK = 5
"""Milliseconds between two signs of life of the window."""


class Pulse:
    """The longest time that the window did not answer."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self.longest, self._last = 0.0, time.monotonic()
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(TICK)

    def _beat(self) -> None:
        now = time.monotonic()
        self.longest, self._last = max(self.longest, now - self._last), now

    def taken(self) -> float:
        """Seconds, and count anew."""
        self._beat()
        longest, self.longest = self.longest, 0.0
        return longest


def list_many(window: Window, folder: Path) -> dict[str, float]:
    """Open a folder of :data:`FILES` files; seconds until the list is there, and blocked."""
    for number in range(FILES - 1):
        os.close(os.open(folder / f"case{number + 2}.png", os.O_CREAT))
    image, _ = sample()
    Image.fromarray(image[:SIDE, :SIDE]).save(folder / "case1.png")
    queue, pulse = window.widget.queue, Pulse()
    window.pause(200)
    pulse.taken()
    began = time.monotonic()
    queue.open(folder)
    while queue.queue is None:
        window.pause(1)
    listed = time.monotonic() - began
    window.wait(lambda: queue.item is not None and not queue.busy)
    shown = time.monotonic() - began
    return {"listed_s": listed, "first_image_s": shown, "blocked_s": pulse.taken()}


def write_parts(folder: Path, images: int) -> None:
    """Parts of the bundled photograph, at random places."""
    image, _ = sample()
    rng = np.random.default_rng(0)
    for number in range(images):
        row, column = rng.integers(0, np.array(image.shape[:2]) - SIDE)
        part = image[row : row + SIDE, column : column + SIDE]
        Image.fromarray(part).save(folder / f"eye{number + 1}.png")


def with_drafts(window: Window, folder: Path, images: int) -> dict[str, Any]:
    """Have drafts made, then go from one to the next without a change."""
    write_parts(folder, images)
    queue, drafts, pulse = window.widget.queue, window.widget.drafts, Pulse()
    window.widget.panel.queue.drafts.setChecked(True)
    queue.open(folder)
    window.wait(
        lambda: not queue.busy and queue.item is not None and queue.item.path.parent == folder
    )
    window.wait(lambda: drafts.process is not None)
    window.settle()
    pulse.taken()
    made = [(time.monotonic(), 0)]
    while drafts.process is not None:
        window.pause(20)
        ready = sum(item.state == "drafted" for item in queue.queue.items)
        if ready != made[-1][1]:
            made.append((time.monotonic(), ready))
    blocked = pulse.taken()
    (first, one), (last, many) = made[1], made[-1]
    seconds, changes = [], []
    window.widget.controller.segment()
    window.settle()
    for number in range(many - 1):
        pulse.taken()
        began = time.monotonic()
        queue.next()
        window.wait(lambda done=number + 1: not queue.busy and queue.queue.done == done)
        window.wait(lambda: window.widget.bench is not None)
        seconds.append(time.monotonic() - began)
        changes.append(pulse.taken())
        window.settle()
    return {
        "images": images,
        "drafts": many,
        "first_draft_s": first - made[0][0],
        "draft_s": (last - first) / max(1, many - one),
        "blocked_while_drafting_s": blocked,
        "next_median_s": float(np.median(seconds)),
        "blocked_median_s": float(np.median(changes)),
    }


def annotate(window: Window, folder: Path, images: int) -> dict[str, Any]:
    """Find and leave so many images; memory with each of them shown, seconds of each change."""
    write_parts(folder, images)
    queue, pulse = window.widget.queue, Pulse()
    queue.open(folder)
    memory, seconds, blocked = [], [], []
    for number in range(images):
        name = f"eye{number + 1}.png"
        window.wait(lambda name=name: not queue.busy and queue.item.name == name)
        window.settle()
        window.widget.controller.segment()
        window.settle()
        memory.append(status("VmRSS") / MEBI)
        pulse.taken()
        began = time.monotonic()
        queue.next()
        window.wait(lambda done=number + 1: not queue.busy and queue.queue.done == done)
        seconds.append(time.monotonic() - began)
        blocked.append(pulse.taken())
        print(f"{name}: {memory[-1]:.0f} MiB, next {seconds[-1]:.1f} s", file=sys.stderr)
    tenth = images // 4
    return {
        "memory_MiB": [round(one) for one in memory],
        "growth_MiB_per_image": float(np.polyfit(range(images - tenth), memory[tenth:], 1)[0]),
        "next_median_s": float(np.median(seconds)),
        "blocked_median_s": float(np.median(blocked)),
        "blocked_longest_s": max(blocked),
        "masks": len(list(folder.glob("*_mask.png"))),
    }


def main(
    images: Annotated[int, typer.Option(help="Images to annotate.")] = IMAGES,
    as_json: JsonOption = False,
    output: Annotated[Path, typer.Option(help="The JSON file.")] = Path("results/queue.json"),
) -> None:
    """Measure on the CPU of this machine (Linux)."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_HIDIFF_SESSIONS"] = str(Path(folder) / "sessions")
        many, study, drafted = (Path(folder) / name for name in ("many", "study", "drafted"))
        for made in (many, study, drafted):
            made.mkdir()
        window = Window(Path("chase-vessels"))
        window.widget.panel.queue.drafts.setChecked(False)
        found = {
            "command": "python -m benchmarks.queue",
            "machine": machine(2),
            "files": FILES,
            "folder": list_many(window, many),
            "images": images,
            "study": annotate(window, study, images),
            "drafted": with_drafts(window, drafted, min(images, DRAFTED)),
        }
        window.close()
    rounded = json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 2))
    output.write_text(json.dumps(rounded, indent=1, allow_nan=False) + "\n")
    print_json(rounded) if as_json else print(json.dumps(rounded, indent=1))


if __name__ == "__main__":
    typer.run(main)
