"""The hippocampus of the Medical Segmentation Decathlon as a set of a collection.

``python -m benchmarks.hippocampus_slices Task04_Hippocampus OUT`` writes the middle one of each
volume's slices with foreground, as OUT/hippocampus/images and masks: label 1 is the whole
hippocampus. A prompted model is then scored on it beside other sets (docs/universal.md).
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from napari_hidiff.training.datasets import open_dataset


def main(
    data: Annotated[Path, typer.Argument(help="The folder Task04_Hippocampus.")],
    output: Annotated[Path, typer.Argument(help="The folder of the collection.")],
) -> None:
    """Write the set."""
    found = open_dataset("msd", data)
    for name in ("images", "masks"):
        (output / "hippocampus" / name).mkdir(parents=True, exist_ok=True)
    for case in found.split("test"):
        sample = found.load(case)
        filled = np.flatnonzero(sample.mask.any((1, 2)))
        middle = int(filled[len(filled) // 2])
        plane = sample.image[middle, ..., 0].astype(np.float32)
        grey = (plane - plane.min()) / max(float(np.ptp(plane)), 1e-6) * 255
        for name, pixels in (("images", grey), ("masks", sample.mask[middle] > 0)):
            picture = Image.fromarray(np.round(pixels).astype(np.uint8))
            picture.save(output / "hippocampus" / name / f"{case.id}.png")


if __name__ == "__main__":
    typer.run(main)
