"""``python -m benchmarks.prompted_boxes DATA``: how to hand a box to a prompted model, chosen on
the sets that it was trained on.

DATA is a collection. Of every object the exact box is given, in several ways, and nothing else.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from napari_hidiff import load_model
from napari_hidiff.cli.console import JsonOption
from napari_hidiff.inference.box import found_in
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Box, dice
from napari_hidiff.training.datasets import open_dataset

from .prompted_choices import Marked, mean_by_set, objects, tell

MIDDLES = (0.1, 0.15, 0.3)


def ways(model: HiDiff, one: Marked, box: Box) -> Iterator[tuple[str, np.ndarray]]:
    """Masks bool [H, W] by the way of handing on the box; the first asks no model."""
    size = one.image.shape[0], one.image.shape[1]
    inside = np.zeros(size, bool)
    inside[box.y0 : box.y1, box.x0 : box.x1] = True
    yield "the box itself", inside
    yield "prior: the box as a mask", model.refine(one.image, inside.astype(np.uint8)).mask > 0
    told = np.where(inside, np.nextafter(np.float32(0.5), np.float32(1)), np.float32(0.05))
    yield "prior: 1/2 inside, .05 outside", model.refine(one.image, told[None]).mask > 0
    for middle in MIDDLES:
        found = found_in(model, one.image, box, middle)
        yield f"strokes: background outside, a middle of {middle}", found > 0
        yield f"the same, and its mask refined, {middle}", model.refine(one.image, found).mask > 0


def main(
    data: Annotated[Path, typer.Argument(help="A collection that the model was trained on.")],
    model: Annotated[str, typer.Option(help="A prompted model.")] = "universal",
    each: Annotated[int, typer.Option(min=1, help="Objects of every set.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Mean Dice by way of handing on the box."""
    loaded = load_model(model, "cpu")
    marked = objects(open_dataset("collection", data), loaded, each)
    names, scores = [one.name for one in marked], dict[str, list[float]]()
    for one in marked:
        for way, mask in ways(loaded, one, Box.around(one.truth)):
            scores.setdefault(way, []).append(dice(mask, one.truth))
    table = {way: round(mean_by_set(values, names), 4) for way, values in scores.items()}
    tell(model, marked, f"python -m benchmarks.prompted_boxes DATA --each {each}", table, as_json)


if __name__ == "__main__":
    typer.run(main)
