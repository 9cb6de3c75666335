"""Images of another scale than the training images: resampled to it, and as they are.

    python -m benchmarks.scales DATA --output results/scales.json

The test images of CHASE_DB1 are scored at three sizes: of a camera of 11 megapixels, their own, and
of DRIVE. Images are resized by Lanczos resampling, truths by the nearest pixel; Dice is over the
whole image at the size that is scored. Seconds are those of *Find*: first mask and one refinement
of an image that the model has not seen; other work on the machine makes them longer, and the fewest
are nearest to those of an idle one. ``--large-as-is`` also runs the largest size without
resampling, on so many images: minutes each.
"""

import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

import napari_hidiff
from benchmarks._packed import digits, machine, print_table, write
from napari_hidiff._version import __version__
from napari_hidiff.cli.console import JsonOption, log, print_json
from napari_hidiff.inference import denoiser
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.datasets.base import nearest

SIZES = {"11 megapixels": (3321, 3456), "original": (960, 999), "DRIVE": (565, 588)}
"""Height and width by name; the sides have the proportion of the original."""


def measure(
    model: HiDiff, image: np.ndarray, truth: np.ndarray, scale: float | None
) -> dict[str, float]:
    """Dice of prior and refined mask, and the seconds that both took together."""
    denoiser.trim_cache(0)
    clock, processor = time.perf_counter(), time.process_time()
    prior = model.prior(image, scale=scale)
    refined = model.refine(image, prior, scale=scale)
    processor, clock = time.process_time() - processor, time.perf_counter() - clock
    return {
        "prior": dice(model.mask_of(prior) > 0, truth > 0),
        "refined": dice(refined.mask > 0, truth > 0),
        "seconds": clock,
        "processor_seconds": processor,
    }


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Number of images, means of Dice, medians of seconds, and the fewest seconds."""
    found: dict[str, Any] = {"n": len(rows)}
    for name in ("prior", "refined"):
        found[name] = digits(statistics.mean(row[name] for row in rows), 4)
    for name in ("seconds", "processor_seconds"):
        found[name] = digits(statistics.median(row[name] for row in rows), 3)
    found["fewest_seconds"] = digits(min(row["seconds"] for row in rows), 3)
    return found


def main(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The folder of CHASE_DB1.")],
    model: Annotated[str, typer.Option(help="A model of vessels.")] = "chase-vessels",
    limit: Annotated[int, typer.Option(min=1, help="Test images.")] = 8,
    large_as_is: Annotated[
        int, typer.Option(min=0, help="Images of 11 megapixels that are not resampled.")
    ] = 0,
    output: Annotated[Path | None, typer.Option(help="Where to write the results.")] = None,
    json: JsonOption = False,
) -> None:
    """Score the three sizes and print a table."""
    dataset = open_dataset("chase", data)
    cases = dataset.split("test")[:limit]
    loaded = napari_hidiff.load_model(model, device="cpu", engine="packed")
    blank = np.random.default_rng(0).integers(0, 255, (256, 256, 3))
    loaded.refine(blank, scale=1)  # compiles, allocates
    sizes: dict[str, Any] = {}
    for name, size in SIZES.items():
        ways: dict[str, list[dict[str, float]]] = {"resampled": [], "as it is": []}
        factor = loaded.card.scale(size)
        for number, case in enumerate(cases):
            sample = dataset.load(case)
            picture = Image.fromarray(np.asarray(sample.image).astype(np.uint8))
            if picture.size != size[::-1]:
                picture = picture.resize(size[::-1], Image.Resampling.LANCZOS)
            image, truth = np.asarray(picture), nearest(sample.mask, size)
            if factor != 1:
                ways["resampled"].append(measure(loaded, image, truth, None))
            if name != "11 megapixels" or number < large_as_is:
                ways["as it is"].append(measure(loaded, image, truth, 1.0))
            log(f"{name}: {number + 1} of {len(cases)}")
        sizes[name] = {
            "size": list(size),
            "scale": digits(factor, 4),
            "ways": {way: summary(rows) for way, rows in ways.items() if rows},
            "images": {way: [_row(row) for row in rows] for way, rows in ways.items() if rows},
        }
    content = {
        "model": loaded.card.name,
        "dataset": dataset.name,
        "split": "test",
        "n": len(cases),
        "trained_side": loaded.card.trained_side,
        "sizes": sizes,
        "machine": machine(torch.get_num_threads()),
        "version": __version__,
    }
    if json:
        print_json(content)
    else:
        columns = ["size", "way", "n", "prior", "refined", "seconds", "of processors", "fewest"]
        rows = [
            [name, way, *found.values()]
            for name, one in sizes.items()
            for way, found in one["ways"].items()
        ]
        print_table(f"{loaded.card.name} on {dataset.name}", columns, rows)
    write(output, content)


def _row(row: dict[str, float]) -> dict[str, float]:
    return {name: digits(value, 4) for name, value in row.items()}


if __name__ == "__main__":
    typer.run(main)
