"""Slices between known ones: interpolated, found by a model alone, or interpolated and refined.

    python -m benchmarks.between --data Task04_Hippocampus --output results/between.json

Of every volume the slices with a structure are taken; every second, third, fourth or sixth of them
is known (the truth), and the first and the last. Reported is the Dice of all slices between (mean
of both classes). ``universal`` refines each class from its interpolated mask.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import napari_hidiff
from napari_hidiff._version import __version__
from napari_hidiff.annotation.between import interpolated
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import mean_dice
from napari_hidiff.training.datasets import Sample, open_dataset
from napari_hidiff.training.evaluate.metrics import paired_bootstrap
from napari_hidiff.training.evaluate.output import as_text, interval, plain

EVERY = (2, 3, 4, 6)
ARMS = ("interpolated", "model", "refined", "universal")
PAIRS = (("refined", "interpolated"), ("refined", "model"), ("universal", "interpolated"))


def main(
    data: Annotated[Path | None, typer.Option(help="The folder Task04_Hippocampus.")] = None,
    split: Annotated[str, typer.Option(help="Which cases.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Only so many cases.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Measure every arm on every case."""
    dataset = open_dataset("msd", data)
    own, universal = (
        napari_hidiff.load_model(name, device="cpu") for name in ("hippocampus", "universal")
    )
    cases = dataset.split(split)[:limit]
    rows: dict[int, list[dict[str, Any]]] = {every: [] for every in EVERY}
    for case in cases:
        for every, row in measured(own, universal, dataset.load(case)).items():
            rows[every].append({"id": case.id, **row})
    content: dict[str, Any] = {
        "command": "python -m benchmarks.between --data Task04_Hippocampus",
        "dataset": "msd",
        "split": split,
        "models": [own.card.name, universal.card.name],
        "version": __version__,
        "n": len(cases),
        "every": {str(every): summary(found) for every, found in rows.items()},
    }
    for every, found in content["every"].items():
        means = ", ".join(f"{arm} {found['mean'][arm]:.4f}" for arm in ARMS)
        print(f"every {every}: {means}")
        for pair, difference in found["difference"].items():
            print(f"  {pair} {interval(difference)}")
    if output:
        output.write_text(as_text(plain(content)) + "\n", encoding="utf-8")


def measured(own: HiDiff, universal: HiDiff, sample: Sample) -> dict[int, dict[str, float]]:
    """The Dice of every arm by the distance of the known slices."""
    truth, planes = sample.mask, volumes.normalise(own, sample.image)
    filled = np.flatnonzero(truth.any((1, 2)))
    alone: dict[int, np.ndarray] = {}
    found = {}
    for every in EVERY:
        known = sorted({*filled[::every].tolist(), int(filled[-1])})
        masks: dict[str, list[np.ndarray]] = {arm: [] for arm in ARMS}
        between = []
        for first, last in pairwise(known):
            shapes = interpolated(truth[first], truth[last], last - first - 1)
            for at, shape in enumerate(shapes, first + 1):
                if at not in alone:
                    alone[at] = own.refine(planes[at], normalised=True).mask
                between.append(at)
                masks["interpolated"].append(shape)
                masks["model"].append(alone[at])
                masks["refined"].append(own.refine(planes[at], shape, normalised=True).mask)
                masks["universal"].append(each_class(universal, sample.image[at], shape))
        if between:
            found[every] = {
                arm: mean_dice(np.stack(masks[arm]), truth[between], own.labels) for arm in ARMS
            }
    return found


def each_class(universal: HiDiff, image: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Each class of an interpolated mask refined by the universal model, the first ones on top."""
    mask = np.zeros_like(shape)
    for label in range(int(shape.max()), 0, -1):
        if (shape == label).any():
            mask[universal.refine(image, (shape == label).astype(np.uint8)).mask > 0] = label
    return mask


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over cases, differences with intervals, and the Dice of each case."""
    values = {arm: np.array([row[arm] for row in rows]) for arm in ARMS}
    differences = {
        f"{one} - {other}": paired_bootstrap(values[one] - values[other])._asdict()
        for one, other in PAIRS
    }
    means = {arm: float(values[arm].mean()) for arm in ARMS}
    return {"n": len(rows), "mean": means, "difference": differences, "cases": rows}


if __name__ == "__main__":
    typer.run(main)
