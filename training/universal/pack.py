"""A collection at the size of training, small enough to send to another machine.

``python -m napari_hidiff.training.universal.pack DATA OUT`` writes OUT as a collection of its own,
with pictures as JPEG, and their superpixels, so that a GPU need not wait for these.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from napari_hidiff.cli.console import new_app, progress, run
from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import Case, Dataset, open_dataset
from napari_hidiff.training.datasets.collection import read_pair, report
from napari_hidiff.training.universal.pictures import SUPERPIXELS, fitted, superpixels_of

QUALITY = 92

app = new_app()


def packed(case: Case, out: Path, side: int) -> None:
    """Write one picture, its label map and its superpixels into the set's folders in ``out``."""
    image, labels = fitted(*read_pair(case), side)
    name_of_set, stem = case.id.split("/", 1)
    folder = out / name_of_set
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    picture = folder / "images" / f"{stem}.jpg"
    Image.fromarray(image).save(picture, quality=QUALITY)
    kind = "uint8" if labels.max() < 255 else "uint16"
    Image.fromarray(labels.astype(kind)).save(folder / "masks" / f"{stem}.png", optimize=True)
    again, _ = read_pair(Case(case.id, case.group, (picture,), folder / "masks" / f"{stem}.png"))
    superpixels_of(again, picture, out / SUPERPIXELS)


def describe(dataset: Dataset, out: Path) -> None:
    """Copy the lists of cases, and state what the labels of every set are."""
    assert dataset.root is not None
    for row in report(dataset):
        folder = out / row["set"]
        (folder / "set.json").write_text(json.dumps({"kind": row["kind"]}) + "\n")
        cases = dataset.root / row["set"] / "cases.txt"
        if cases.is_file():
            shutil.copyfile(cases, folder / "cases.txt")


@app.command()
def pack_command(
    data: Annotated[Path, typer.Argument(help="The collection.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    side: Annotated[int, typer.Option(help="Longer side of every picture.")] = 256,
) -> None:
    """Write a collection at the size of training."""
    if out.exists():
        raise InputError(f"{out}: is there already")
    dataset = open_dataset("collection", data)
    cases = [case for split in dataset.splits.values() for case in split]
    (out / SUPERPIXELS).mkdir(parents=True)
    with progress() as bar:
        for case in bar.track(cases, description="pictures"):
            packed(case, out, side)
    describe(dataset, out)


def main() -> None:
    """Entry point: bad input is one line on stderr and exit status 2."""
    run(app, "pack")


if __name__ == "__main__":
    main()
