"""Which drafts of a queue are worth looking at first? Measures against the true error.

    python -m benchmarks.draft_ranks --hippocampus Task04_Hippocampus --polyps Kvasir-SEG
        --output results/draft-ranks.json

A draft is made of every image of a set, and its error is 1 - Dice (mean of the classes). Measures
that a program can take without the truth are compared: ``border``, the mean entropy along the
border of the draft; ``image``, the mean entropy of all pixels; ``area``, the sum of the entropy by
the pixels found; ``soft``, 1 - the Dice that the probability itself promises; ``moved``, 1 - the
Dice of the first and the refined mask. Reported are Spearman's rank correlation with the error, and
the share of all errors in the quarter that a measure puts first: a quarter in any order, ``best``
if the errors were known.

The sets are the test images of two bundled models: volumes of the hippocampus, every slice of them
as an image of its own, and the polyps of Kvasir-SEG.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import stats

import napari_hidiff
from napari_hidiff._version import __version__
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import dice, entropy, mean_dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.output import as_text, plain

MEASURES = ("border", "image", "area", "soft", "moved")
QUARTER = 4


def border(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask [..., H, W] beside one of another label above, below, left or right."""
    edge = np.zeros(mask.shape, bool)
    rows, columns = mask[..., 1:, :] != mask[..., :-1, :], mask[..., 1:] != mask[..., :-1]
    edge[..., 1:, :] |= rows
    edge[..., :-1, :] |= rows
    edge[..., 1:] |= columns
    edge[..., :-1] |= columns
    return edge


def measured(
    prior: np.ndarray, probability: np.ndarray, truth: np.ndarray, model: HiDiff
) -> dict[str, float]:
    """Error and measures of one image. prior, probability : float32 [K, D, H, W]; truth : integers
    [D, H, W]."""
    first, mask = model.mask_of(prior, 0), model.mask_of(probability, 0)
    unsure, edge, found = entropy(probability), border(mask), mask > 0
    chance = probability[0] if len(probability) == 1 else 1 - probability[0]
    soft = 2 * chance[found].sum() / (chance.sum() + found.sum())
    return {
        "error": 1 - mean_dice(mask, truth, model.labels),
        "border": float(unsure[edge].mean()) if edge.any() else 0.0,
        "image": float(unsure.mean()),
        "area": float(unsure.sum() / max(1, found.sum())),
        "soft": float(1 - soft),
        "moved": 1 - dice(first, mask),
    }


def of_set(model: HiDiff, name: str, data: Path | None) -> Iterator[tuple[list[Any], list[Any]]]:
    """Case by case the measures of all of it, and of its slices."""
    dataset = open_dataset(name, data)
    for case in dataset.split("test"):
        sample = dataset.load(case)
        image = sample.image if sample.image.ndim == 4 else sample.image[None]
        truth = sample.mask if sample.mask.ndim == 3 else sample.mask[None]
        planes = volumes.normalise(model, image)
        scale = model.card.scale(image.shape[1:3])
        prior = volumes.prior(model, planes, scale)
        found = volumes.refine(model, planes, prior, sampling=model.sampling(scale=scale))
        slices = []
        for at in range(len(image)):
            here = slice(at, at + 1)
            slices.append(measured(prior[:, here], found[:, here], truth[here], model))
        yield [measured(prior, found, truth, model)], slices


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Correlation and share of every measure."""
    error = np.array([row["error"] for row in rows])
    count = round(len(rows) / QUARTER)

    def share(order: np.ndarray) -> float:
        return float(error[order[:count]].sum() / error.sum())

    found: dict[str, Any] = {
        "n": len(rows),
        "error": float(error.mean()),
        "in_order": share(np.arange(len(rows))),
        "best": share(np.argsort(-error)),
        "measures": {},
    }
    for name in MEASURES:
        values = np.array([row[name] for row in rows])
        order = np.argsort(-values, kind="stable")
        found["measures"][name] = {
            "spearman": float(stats.spearmanr(values, error).statistic),
            "share": share(order),
        }
    return found


def main(
    hippocampus: Annotated[Path | None, typer.Option(help="The folder Task04_Hippocampus.")] = None,
    polyps: Annotated[Path | None, typer.Option(help="The folder Kvasir-SEG.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Measure every set."""
    model = napari_hidiff.load_model("hippocampus", device="cpu")
    rows: dict[str, list[dict[str, float]]] = {"hippocampus volumes": [], "hippocampus slices": []}
    for whole, slices in of_set(model, "msd", hippocampus):
        rows["hippocampus volumes"] += whole
        rows["hippocampus slices"] += slices
    model = napari_hidiff.load_model("polyps", device="cpu")
    rows["polyps"] = [row for whole, _ in of_set(model, "kvasir", polyps) for row in whole]
    sets = {name: summary(own) for name, own in rows.items()}
    for name, found in sets.items():
        print(f"{name}: {found['n']} images, mean error {found['error']:.3f}")
        print(f"  in order {found['in_order']:.2f}, best {found['best']:.2f}")
        for measure, values in found["measures"].items():
            print(f"  {measure}: {values['spearman']:.2f}, {values['share']:.2f}")
    if output:
        content = {
            "command": "python -m benchmarks.draft_ranks --hippocampus Task04_Hippocampus "
            "--polyps Kvasir-SEG",
            "version": __version__,
            "sets": sets,
        }
        output.write_text(as_text(plain(content)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
