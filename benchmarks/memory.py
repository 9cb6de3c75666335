"""``python -m benchmarks.memory``: peak memory of a refinement, on both engines.

Each measurement runs in a process of its own with one thread, after a first run on a tiny image, so
that libraries and compiled kernels are loaded. A peak is what the process then holds at most while
it refines, above what it held before (Linux tells both). Parts:

refiner    its condition and one step, with the segmentor's features given
segmentor  its forward alone
refine     ``HiDiff.refine``, one step: both, one after the other, and what is kept for the next run

``bytes_per_pixel`` is how much ``refine`` grows between two sizes, by the stride of the stem;
``HiDiff.estimate`` uses it (``REFINER_BYTES`` in ``napari_hidiff/inference/cost.py``).
``--large`` refines 4096 x 4096 pixels with the bundled model and reports the whole process:
minutes.

With ``--output`` the JSON is merged into the file, so that it may be made in parts.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks._packed import digits, machine, numbers, print_table, write
from napari_hidiff.cli.console import JsonOption, print_json

ENGINES = ("packed", "torch")
PARTS = ("refiner", "segmentor", "refine")
LARGE = 4096

PEAK = """
import json, sys
import numpy as np
import torch
from benchmarks._packed import make_scene, untrained
from napari_hidiff.engine import Engine

def kilobytes(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))

part, engine = sys.argv[1:3]
side, stem, width = map(int, sys.argv[3:])
torch.set_num_threads(1)
model = untrained(width, stem)
model.backend = Engine(model.refiner, model.device, engine)
model.backend.prepare()
refiner = model.backend.pick().refiner
rng = np.random.default_rng(0)

def prepared(side):
    if part == "refiner":
        scene = make_scene(side)
        def work():
            with torch.inference_mode():
                return refiner(scene.y_t, 10, refiner.condition(*scene.given))
        return work
    image = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
    if part == "segmentor":
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        def work():
            with torch.inference_mode():
                return model.segmentor(x)
        return work
    def work():
        result = model.refine(image, sampler="one-step")
        assert result.engine == engine
        return result
    return work

prepared(64)()
work = prepared(side)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak counts anew from here on
before = kilobytes("VmRSS")
kept = work()
print(json.dumps((kilobytes("VmHWM") - before) * 1024))
"""

WHOLE = """
import json, sys, time
import numpy as np
import torch
import napari_hidiff
from napari_hidiff.io import sample

side, engine = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(int(sys.argv[3]))
model = napari_hidiff.load_model("chase-vessels", device="cpu", engine=engine)
image = np.tile(sample()[0], (5, 5, 1))[:side, :side]
foreseen = model.estimate(image.shape, "one-step")
start, processor = time.perf_counter(), time.process_time()
result = model.refine(image, sampler="one-step")
seconds, processor = time.perf_counter() - start, time.process_time() - processor
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024
print(json.dumps({"side": side, "engine": result.engine, "peak_bytes": peak,
    "foreseen_bytes": foreseen.bytes, "seconds": round(seconds, 1),
    "processor_seconds": round(processor, 1), "foreseen_seconds": round(foreseen.seconds, 1)}))
"""


def child(program: str, *arguments: object) -> Any:
    """What a program prints as JSON, run in a Python of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def peak(part: str, engine: str, side: int, stem: int, width: int) -> int:
    """Bytes at the peak above those before, for one image of side x side pixels."""
    return int(child(PEAK, part, engine, side, stem, width))


def at_width(width: int, side: int) -> dict[str, Any]:
    """Peaks of all parts at stem 1 in MiB, and packed over torch."""
    found: dict[str, Any] = {}
    for part in PARTS:
        if part == "segmentor":  # the same module on both engines
            found[part] = {"MiB": _mebibytes(peak(part, "torch", side, 1, width))}
            continue
        peaks = {engine: peak(part, engine, side, 1, width) for engine in ENGINES}
        found[part] = {f"{engine}_MiB": _mebibytes(taken) for engine, taken in peaks.items()}
        found[part]["packed_over_torch"] = digits(peaks["packed"] / peaks["torch"], 3)
    return found


def growth(part: str, engine: str, stem: int, width: int, sides: tuple[int, int]) -> int:
    """Bytes per pixel between two sizes."""
    small, large = sides
    grown = peak(part, engine, large, stem, width) - peak(part, engine, small, stem, width)
    return round(grown / (large**2 - small**2))


def per_pixel(width: int, sides: tuple[int, int]) -> dict[str, Any]:
    """Bytes per pixel by engine and stem, whole and the refiner's share; and the segmentor's."""
    found: dict[str, Any] = {"segmentor": growth("segmentor", "torch", 1, width, sides)}
    for engine in ENGINES:
        found[engine] = {
            f"stem {stem}": {
                part: growth(part, engine, stem, width, sides) for part in ("refine", "refiner")
            }
            for stem in (1, 2)
        }
    return found


def _mebibytes(count: int) -> float:
    return digits(count / 2**20)


def show(found: dict[str, Any]) -> None:
    """Tables of peaks and of bytes per pixel."""
    rows: list[list[object]] = []
    keys = ("packed_MiB", "torch_MiB", "MiB", "packed_over_torch")
    for name, entry in found.get("peaks", {}).items():
        for part, facts in entry.items():
            rows.append([f"{name}, {part}", *(facts.get(key) for key in keys)])
    if rows:
        print_table("Peak above base", ["what", *keys], rows)
    for key in ("bytes_per_pixel", "large"):
        if key in found:
            print(f"{key}: {json.dumps(found[key])}")


def main(
    width: Annotated[int, typer.Option(help="Width for the bytes per pixel.")] = 32,
    widths: Annotated[str, typer.Option(help="Widths whose peaks are compared.")] = "32,128",
    side: Annotated[int, typer.Option(help="Pixels of a side for these peaks.")] = 512,
    pixel: Annotated[bool, typer.Option(help="The bytes per pixel.")] = True,
    large: Annotated[bool, typer.Option("--large", help="4096 x 4096 pixels too.")] = False,
    sides: Annotated[str, typer.Option(help="The two sizes of the bytes per pixel.")] = "512,1024",
    threads: Annotated[int, typer.Option(help="Threads of the large refinement.")] = 1,
    as_json: JsonOption = False,
    output: Annotated[Path | None, typer.Option(help="JSON to write or to add to.")] = None,
) -> None:
    """Measure on the CPU of this machine (Linux)."""
    found: dict[str, Any] = {"machine": machine(1)}
    found["peaks"] = {f"width {n}, {side} x {side}": at_width(n, side) for n in numbers(widths)}
    if pixel:
        small, big = numbers(sides)
        found |= {"width": width, "bytes_per_pixel": per_pixel(width, (small, big))}
    if large:
        found["large"] = child(WHOLE, LARGE, "packed", threads)
    write(output, found)
    if as_json:
        print_json(found)
    else:
        show(found)


if __name__ == "__main__":
    typer.run(main)
