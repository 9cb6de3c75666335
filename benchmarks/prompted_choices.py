"""``python -m benchmarks.prompted_choices DATA``: how to ask a prompted model, chosen on the sets
that it was trained on.

DATA is a collection. Every stroke of the simulated annotator is answered by one pass, whose mask
the next stroke corrects; beside it the same strokes are answered in other ways. A way that is
better here is no proof for other data, but a way that is not better here is not worth having.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from napari_hidiff import load_model
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.diffusion.samplers import clamp_fixed, to_mask
from napari_hidiff.inference.card import versions
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import dice
from napari_hidiff.training.datasets import Dataset, open_dataset
from napari_hidiff.training.datasets.collection import held_out, set_of
from napari_hidiff.training.simulated_annotator import kind_for, next_stroke
from napari_hidiff.training.universal.pictures import read_pictures
from napari_hidiff.training.universal.validation import targets

THRESHOLDS = (0.2, 0.3, 0.4, 0.6)
WINDOWS = (192, 128)
"""Pixels of a picture of 256 that are looked at."""


@dataclass
class Marked:
    """An object, the strokes on it so far, the mask they correct and the one before it."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    fixed: np.ndarray
    mask: np.ndarray

    def correct(self) -> None:
        """The annotator's next stroke."""
        stroke = next_stroke(self.mask, self.truth, kind_for(self.truth))
        if stroke is not None:
            self.fixed = np.where(stroke.where, self.truth, self.fixed)


def ways(model: HiDiff, one: Marked) -> Iterator[tuple[str, np.ndarray]]:
    """Masks bool [H, W] by the way of asking; the first is one pass from prior 1/2, at .5."""
    image, fixed = one.image, one.fixed
    first = model.refine(image, fixed=fixed).probability
    yield "one pass", first[0] >= 0.5
    for threshold in THRESHOLDS:
        yield f"threshold {threshold}", first[0] >= threshold
    yield "again, prior: its probability", model.refine(image, first, fixed).mask > 0
    mask = (first[0] >= 0.5).astype(np.uint8)
    yield "again, prior: its mask", model.refine(image, mask, fixed).mask > 0
    if one.mask.any():
        yield "prior: the mask before", model.refine(image, one.mask, fixed).mask > 0
    else:
        yield "prior: the mask before", first[0] >= 0.5
    turned = [(1,), (0,), (0, 1)]
    flips = [
        np.flip(model.refine(np.flip(image, axes), fixed=np.flip(fixed, axes)).probability[0], axes)
        for axes in turned
    ]
    yield "mean of four flips", np.mean([first[0], *flips], 0) >= 0.5
    answers = hypotheses(model, image, fixed)
    yield "mean with the hypotheses", answers.mean(0) >= 0.5
    best = max(answers, key=lambda answer: dice(answer >= 0.5, one.truth))
    yield "the best of answer and hypotheses", best >= 0.5
    for side in WINDOWS:
        area = window(fixed == 1, side)
        found = np.zeros(fixed.shape, bool)
        found[area] = model.refine(image[area], fixed=fixed[area]).mask > 0
        yield f"window of {side} pixels", found


@torch.inference_mode()
def hypotheses(model: HiDiff, image: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """The answer and the model's further masks, probabilities float32 [1 + N, H, W]."""
    scaled = model.intensity(model.check_image(image)).transpose(2, 0, 1)
    x, known = torch.from_numpy(scaled.copy())[None], torch.from_numpy(fixed)[None]
    prior = clamp_fixed(torch.full((1, 1, *fixed.shape), 0.5), known)
    refiner = model.backend.pick().refiner
    condition = refiner.condition(x, prior, known, model.segmentor(x)[1])
    logits = refiner.answers(to_mask(prior), model.process.steps, condition)
    return np.where(fixed >= 0, fixed, logits[0].sigmoid().numpy())


def window(marked: np.ndarray, side: int) -> tuple[slice, slice]:
    """A square of a picture around the middle of the marked pixels, all of which it holds."""
    spans = []
    for at, length in zip(np.nonzero(marked), marked.shape, strict=True):
        size = min(length, max(side, 2 * int(np.ptp(at) + 1)))
        start = min(max(0, (int(at.min()) + int(at.max()) - size) // 2), length - size)
        spans.append(slice(start, start + size))
    return spans[0], spans[1]


def objects(dataset: Dataset, model: HiDiff, each: int) -> list[Marked]:
    """An object of each of some pictures of every set that the model was trained on."""
    recipe = model.card.training["recipe"]
    rng, sets = np.random.default_rng(0), dict[str, list[Any]]()
    held = [name for name in recipe["hold_out"].split(",") if name]
    for case in held_out(dataset, held).split("train"):
        sets.setdefault(set_of(case), []).append(case)
    chosen = []
    for cases in sets.values():
        at = rng.choice(len(cases), min(len(cases), each), replace=False)
        chosen += [cases[i] for i in sorted(at)]
    pictures, found = read_pictures(chosen, model.card.longest_side), []
    for number in range(len(pictures)):
        if own := list(targets(pictures, number)):
            image, truth = own[rng.integers(len(own))]
            free = np.full(truth.shape, -1, np.int64)
            name = pictures.names[int(pictures.sets[number])]
            found.append(Marked(name, image, truth, free, np.zeros_like(truth)))
    return found


def mean_by_set(values: list[float], names: list[str]) -> float:
    """The mean over sets of the means of their objects."""
    each = np.array(values)
    return float(np.mean([each[np.array(names) == name].mean() for name in sorted(set(names))]))


def tell(
    model: str,
    marked: list[Marked],
    command: str,
    table: Mapping[str, float | list[float]],
    as_json: bool,
) -> None:
    """Print mean Dice by way of asking, one number or one per stroke."""
    sets = len({one.name for one in marked})
    if as_json:
        asked = {"model": model, "objects": len(marked), "sets": sets}
        print_json(asked | {"command": command, "versions": versions(), "dice": table})
        return
    print(f"{len(marked)} objects of {sets} sets")
    for way, row in table.items():
        print(f"{way:48}" + "".join(f"{value:8.4f}" for value in np.atleast_1d(row)))


def main(
    data: Annotated[Path, typer.Argument(help="A collection that the model was trained on.")],
    model: Annotated[str, typer.Option(help="A prompted model.")] = "universal",
    strokes: Annotated[int, typer.Option(min=1)] = 3,
    each: Annotated[int, typer.Option(min=1, help="Objects of every set.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Mean Dice by way of asking, after 1, 2 ... strokes."""
    loaded = load_model(model, "cpu")
    marked = objects(open_dataset("collection", data), loaded, each)
    names = [one.name for one in marked]
    table: dict[str, list[float]] = {}
    for _ in range(strokes):
        scores: dict[str, list[float]] = {}
        for one in marked:
            one.correct()
            found = dict(ways(loaded, one))
            for way, mask in found.items():
                scores.setdefault(way, []).append(dice(mask, one.truth))
            one.mask = found["one pass"].astype(one.truth.dtype)
        for way, values in scores.items():
            table.setdefault(way, []).append(round(mean_by_set(values, names), 4))
    command = f"python -m benchmarks.prompted_choices DATA --strokes {strokes} --each {each}"
    tell(model, marked, command, table, as_json)


if __name__ == "__main__":
    typer.run(main)
