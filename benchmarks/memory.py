"""``python -m benchmarks.memory``: peak memory of one refiner forward, per pixel.

Each size runs in a process of its own, because a process never forgets its peak. The difference
between two sizes leaves out what Python and the libraries take. ``HiDiff.estimate`` uses the
result (``BYTES_PER_PIXEL`` in ``napari_hidiff/model.py``).
"""

import json
import subprocess
import sys
from typing import Annotated

import typer

from napari_hidiff.console import JsonOption, print_json

SIDES = (512, 1024)

PEAK = """
import resource, sys
import numpy as np
from napari_hidiff.card import Card, Label
from napari_hidiff.model import HiDiff

side, stem, width = map(int, sys.argv[1:])
labels = (Label("background", "#000000"), Label("foreground", "#ffffff"))
card = Card("memory", labels, ("red", "green", "blue"), refiner={"width": width, "stem": stem})
model = HiDiff.create(card)
image = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
model.refine(image, sampler="one-step")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(side: int, stem: int, width: int) -> int:
    """Peak resident bytes of a process that refines one image of side x side pixels once."""
    arguments = [sys.executable, "-c", PEAK, str(side), str(stem), str(width)]
    return int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)


def main(
    width: Annotated[int, typer.Option(help="Width of the refiner.")] = 32,
    as_json: JsonOption = False,
) -> None:
    """Measure on the CPU of this machine (Linux)."""
    found = {}
    small, large = SIDES
    for stem in (1, 2):
        grown = peak(large, stem, width) - peak(small, stem, width)
        found[f"stem {stem}"] = round(grown / (large**2 - small**2))
    if as_json:
        print_json({"width": width, "bytes_per_pixel": found})
    else:
        print(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
