"""``python -m benchmarks.prompted_thin DATA``: thin objects seen with more pixels, on sets that the
prompted model was trained on.

The simulated annotator corrects objects of pictures of up to 384 pixels, stroke by stroke; the
model answers as in the program, once with a window of the pixels that it was trained on whatever
the object, and once with more of them where the object is thin.
"""

from pathlib import Path
from typing import Annotated

import typer

from napari_hidiff import load_model
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.inference import prompted
from napari_hidiff.inference.card import versions
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.datasets.collection import held_out, set_of
from napari_hidiff.training.universal.pictures import read_pictures
from napari_hidiff.training.universal.validation import OneByOne, prompted_scores

SIDE = 384


def main(
    data: Annotated[Path, typer.Argument(help="A collection that the model was trained on.")],
    model: Annotated[str, typer.Option(help="A prompted model.")] = "universal",
    strokes: Annotated[int, typer.Option(min=1)] = 8,
    each: Annotated[int, typer.Option(min=1, help="Pictures of every set.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Mean Dice by set after 1, 2 ... strokes."""
    loaded, finer = load_model(model, "cpu"), prompted.FINER
    held = [name for name in loaded.card.training["recipe"]["hold_out"].split(",") if name]
    by_set: dict[str, list[object]] = {}
    for case in held_out(open_dataset("collection", data), held).split("train"):
        by_set.setdefault(set_of(case), []).append(case)
    table = {}
    for name, cases in sorted(by_set.items()):
        pictures = read_pictures(cases[:: max(1, len(cases) // each)][:each], SIDE)
        rows = {}
        for times in (1.0, finer):
            prompted.FINER = times
            rows[times] = prompted_scores(OneByOne(loaded), pictures, strokes, 2 * each)[0]
        if rows[1.0]["dice"] == rows[finer]["dice"]:
            continue
        table[name] = {f"{times:g}": row["dice"] for times, row in rows.items()}
        if not as_json:
            for times, row in rows.items():
                print(f"{name:24} x {times:g} {row['strokes']:9} {row['n']:3} {row['dice']}")
    if as_json:
        asked = {"model": model, "side": SIDE, "strokes": strokes, "each": each}
        print_json(asked | {"versions": versions(), "dice": table})


if __name__ == "__main__":
    typer.run(main)
