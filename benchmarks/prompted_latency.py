"""``python -m benchmarks.prompted_latency``: from a stroke to the mask of a prompted model.

A bright disc in noise gets one stroke after another, each of which is answered; the first answer,
which also encodes the picture, is reported apart. Medians; the load of the machine is stated.
"""

import os
import time
from typing import Annotated

import numpy as np
import torch
import typer

from napari_hidiff import load_model
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.inference.card import versions

SIZES = {"window of 256 pixels": (256, 256), "one megapixel": (1000, 1000)}


def picture(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Grey uint8 [H, W], and the disc in it, bool [H, W]."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside = (rows - size[0] / 2) ** 2 + (columns - size[1] / 2) ** 2 < (min(size) / 6) ** 2
    noise = np.random.default_rng(0).normal(60, 8, size)
    return (noise + 100 * inside).clip(0, 255).astype(np.uint8), inside


def main(
    model: Annotated[str, typer.Option(help="A prompted model.")] = "universal",
    engine: Annotated[str, typer.Option(help="packed or torch.")] = "packed",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    strokes: Annotated[int, typer.Option(min=2)] = 15,
    as_json: JsonOption = False,
) -> None:
    """Milliseconds by size of the picture."""
    torch.set_num_threads(threads)
    loaded = load_model(model, "cpu", engine)
    found: dict[str, object] = {
        "model": model,
        "engine": loaded.engine,
        "threads": threads,
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "command": f"python -m benchmarks.prompted_latency --threads {threads}",
        "versions": versions(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }
    for name, size in SIZES.items():
        image, inside = picture(size)
        fixed = np.full(size, -1, np.int8)
        places = np.random.default_rng(1).permutation(np.argwhere(inside))[:strokes]
        taken = []
        for row, column in places:
            radius = max(2, min(size) // 60)
            near = slice(row - radius, row + radius + 1), slice(column - radius, column + radius)
            fixed[near] = inside[near]
            start = time.perf_counter()
            loaded.refine(image, fixed=fixed)
            taken.append(1000 * (time.perf_counter() - start))
        found[name] = {"first": round(taken[0], 1), "median": round(float(np.median(taken[1:])), 1)}
    if as_json:
        print_json(found)
    else:
        for key, value in found.items():
            print(f"{key}: {value}")


if __name__ == "__main__":
    typer.run(main)
