"""What is carried from a corrected slice to its neighbours: its mask, a blend, or the correction.

The validation cases of the hippocampus model's data set are refined. In each, the slice with most
wrong voxels is set to the truth, and carried both ways until a slice changes by less than 2 %.
Reported is the Dice of all other slices (mean of both classes), after minus before.

    python -m benchmarks.carry --data Task04_Hippocampus --output results/carry.json
"""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import napari_hidiff
from napari_hidiff._version import __version__
from napari_hidiff.annotation.refinement import (
    SETTLED,
    SliceResult,
    changed_part,
    propagate,
    refine_slices,
)
from napari_hidiff.inference import volumes
from napari_hidiff.inference.card import Sampling
from napari_hidiff.inference.preprocessing import soften
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import Index
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.metrics import paired_bootstrap

SAMPLING = Sampling("one-step", steps=1, samples=1)
RULES = ("correction", "mask", "blend")
"""The prior of the next slice: its own mask with the correction in it; the mask of the slice
before, softened; the mean of that and the segmentor's prior of the slice."""


def main(
    data: Annotated[Path | None, typer.Option(help="The folder Task04_Hippocampus.")] = None,
    model: Annotated[str, typer.Option(help="A model of this data set.")] = "hippocampus",
    limit: Annotated[int | None, typer.Option(help="Only so many cases.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Measure every rule on every validation case."""
    dataset = open_dataset("msd", data)
    loaded = napari_hidiff.load_model(model, device="cpu")
    cases = dataset.split("val")[:limit]
    rows = [measure(loaded, dataset.load(case), case.id) for case in cases]
    found = {rule: summary(rows, rule) for rule in RULES}
    for rule, one in found.items():
        low, high = one["interval"]
        print(
            f"{rule:11} {one['gain']:+.4f} [{low:+.4f}, {high:+.4f}]  better {one['better']:.0%}, "
            f"worse {one['worse']:.0%}, {one['slices']:.1f} slices"
        )
    if output:
        record = {
            "command": "python -m benchmarks.carry --data Task04_Hippocampus",
            "dataset": "msd",
            "split": "val",
            "model": loaded.card.name,
            "version": __version__,
            "settled": SETTLED,
            "n": len(rows),
            "rules": found,
            "cases": rows,
        }
        output.write_text(json.dumps(record, indent=1) + "\n")


def measure(model: Any, sample: Any, name: str) -> dict[str, Any]:
    """One case: its Dice before, and what every rule adds to it."""
    stack, truth = Stack([np.ascontiguousarray(sample.image[..., 0])]), sample.mask
    where = [(at, -1, -1) for at in range(len(truth))]
    refined = list(refine_slices(model, stack, where, {}, {}, SAMPLING))
    before = np.stack([one.mask for one in refined])
    at = int((before != truth).sum((1, 2)).argmax())
    others = np.arange(len(truth)) != at
    row: dict[str, Any] = {"id": name, "slice": at, "dice": dice(before[others], truth[others])}
    for rule in RULES:
        after = before.copy()
        after[at] = truth[at]
        for there in (where[at + 1 :], where[:at][::-1]):
            for one in carried(rule, model, stack, there, before, at, truth[at], refined):
                after[one[0]] = one[1]
        row[rule] = dice(after[others], truth[others]) - row["dice"]
        row[f"{rule} slices"] = int((after != before).any((1, 2))[others].sum())
    return row


def carried(
    rule: str,
    model: Any,
    stack: Stack,
    where: list[Index],
    before: np.ndarray,
    at: int,
    mask: np.ndarray,
    refined: list[SliceResult],
) -> list[tuple[int, np.ndarray]]:
    """The slices that change, and their masks; the rule in use is the program's own."""
    if rule == "correction":

        def standing(index: Index) -> np.ndarray:
            return before[index[0]]

        swept = propagate(model, stack, where, before[at], mask, standing, {}, SAMPLING)
        return [(one.at[0], one.mask) for one in swept]
    found = []
    for index in where:
        prior = soften(mask, model.classes, **model.card.soften)
        if rule == "blend":
            prior = (prior + refined[index[0]].prior) / 2
        planes = stack.normalised(model, index)[None]
        probability = volumes.together(model, planes, [prior], [None], SAMPLING).probability
        new = model.mask_of(probability[:, 0])
        if changed_part(before[index[0]], new) < SETTLED:
            break
        found.append((index[0], new))
        mask = new
    return found


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """The mean Dice of both classes over some slices."""
    scores = []
    for label in (1, 2):
        one, other = mask == label, truth == label
        total = one.sum() + other.sum()
        scores.append(2 * (one & other).sum() / total if total else 1.0)
    return float(np.mean(scores))


def summary(rows: list[dict[str, Any]], rule: str) -> dict[str, Any]:
    """Mean gain with its bootstrap interval, and how often it was one."""
    gains = np.array([row[rule] for row in rows])
    mean, low, high = paired_bootstrap(gains)
    return {
        "gain": mean,
        "interval": [low, high],
        "better": float((gains > 0).mean()),
        "worse": float((gains < 0).mean()),
        "slices": float(np.mean([row[f"{rule} slices"] for row in rows])),
    }


if __name__ == "__main__":
    typer.run(main)
