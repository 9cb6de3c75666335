"""Which drafts of a queue are worth looking at first? Measures against the true error.

    python -m benchmarks.draft_ranks --data Task04_Hippocampus --output results/draft-ranks.json

A draft is made of every image of a set, and its error is 1 - Dice (mean of the classes). Measures
that a program can take without the truth are compared: ``border``, the mean entropy along the
border of the draft; ``image``, the mean entropy of all pixels; ``area``, the sum of the entropy by
the pixels found; ``soft``, 1 - the Dice that the probability itself promises; ``moved``, 1 - the
Dice of the first and the refined mask. Reported are Spearman's rank correlation with the error, and
the share of all errors in the quarter that a measure puts first: a quarter in any order, ``best``
if the errors were known.

The sets are test volumes of the hippocampus, and every slice of them as an image of its own; with
``--kvasir`` also the test images of Kvasir-SEG and a model of them (``--kvasir-model``). That of
results/draft-ranks.json is weak on purpose, as a first model of a new study is:

    napari-hidiff-train --dataset kvasir --size quick --longest-side 128 --crop 128
    --pretrain-iterations 700 --fold-iterations 250 --iterations 300
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import stats

import napari_hidiff
from napari_hidiff._version import __version__
from napari_hidiff.annotation.folder.drafts import border
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import dice, entropy, mean_dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.output import as_text, plain

MEASURES = ("border", "image", "area", "soft", "moved")
QUARTER = 4


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
    data: Annotated[Path | None, typer.Option(help="The folder Task04_Hippocampus.")] = None,
    kvasir: Annotated[Path | None, typer.Option(help="The folder Kvasir-SEG.")] = None,
    kvasir_model: Annotated[Path | None, typer.Option(help="A model of it.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Measure every set."""
    sets: dict[str, list[dict[str, float]]] = {"hippocampus volumes": [], "hippocampus slices": []}
    model = napari_hidiff.load_model("hippocampus", device="cpu")
    for whole, slices in of_set(model, "msd", data):
        sets["hippocampus volumes"] += whole
        sets["hippocampus slices"] += slices
    if kvasir is not None and kvasir_model is not None:
        model = napari_hidiff.load_model(kvasir_model, device="cpu")
        sets["polyps"] = [row for whole, _ in of_set(model, "kvasir", kvasir) for row in whole]
    content = {
        "command": "python -m benchmarks.draft_ranks --data Task04_Hippocampus --kvasir Kvasir-SEG "
        "--kvasir-model runs/kvasir/model.safetensors",
        "version": __version__,
        "sets": {name: summary(rows) for name, rows in sets.items()},
    }
    for name, found in content["sets"].items():  # type: ignore[attr-defined]
        print(f"{name}: {found['n']} images, mean error {found['error']:.3f}")
        print(f"  in order {found['in_order']:.2f}, best {found['best']:.2f}")
        for measure, values in found["measures"].items():
            print(f"  {measure}: {values['spearman']:.2f}, {values['share']:.2f}")
    if output:
        output.write_text(as_text(plain(content)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
