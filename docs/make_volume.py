"""Make the pictures of docs/annotate-volume.md in docs/images.

    python docs/make_volume.py [--data FOLDER] [--output FOLDER]

A test volume of the Decathlon's Task04 with the bundled model: a slice is segmented, refined,
corrected and refined again. Volume, slice and stroke are always the same. The data are not part of
the repository: without them the pictures stay as they are, and one line says so. It needs a
display; ``make pictures`` gives it a virtual one.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from camera import IMAGES, Desk, own_sessions, save
from scipy.ndimage import distance_transform_edt

from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import open_dataset

MODEL = "hippocampus"
CASE, SLICE = "hippocampus_019", 19
SIZE = 1280, 720
HOME = Path(__file__).parent.parent.parent / "shared" / "data"
"""Where data for tests are looked for, unless NAPARI_HIDIFF_TEST_DATA names another folder."""


def error_of(mask: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, int]:
    """Where a mask [H, W] is wrong at its widest, (row, column) as [1, 2], and the right label."""
    wrong = [(truth == label) & (mask != label) for label in (1, 2)]
    deep = max(map(distance_transform_edt, wrong), key=np.max)
    place = np.argwhere(deep == deep.max())[:1]
    return place, int(truth[tuple(place[0])])


def pictures(volume: np.ndarray, truth: np.ndarray, output: Path) -> None:
    """Write the pictures; volume : [D, H, W]; truth : uint8 of the same shape."""
    desk = Desk(MODEL, SIZE, volume, at=SLICE, name="T1")
    desk.click("segment")
    save(desk.picture(), output / "volume-run.png")
    place, label = error_of(desk.mask.data[SLICE], truth[SLICE])
    desk.stroke(np.repeat(place, 3, axis=0), label=label, brush=3)
    desk.click("rerefine")
    save(desk.picture(), output / "volume-rerefine.png")
    desk.close()


def main() -> None:
    """Write the pictures, given the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    home = Path(os.environ.get("NAPARI_HIDIFF_TEST_DATA", HOME))
    parser.add_argument("--data", type=Path, default=home / "Task04_Hippocampus")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder of the pictures")
    options = parser.parse_args()
    try:
        dataset = open_dataset("msd", options.data)
    except InputError as error:
        print(f"docs/make_volume.py makes no pictures: {error}")
        return
    case = next(case for case in dataset.split("test") if case.id == CASE)
    loaded = dataset.load(case)
    with own_sessions():
        pictures(loaded.image[..., 0], loaded.mask, options.output)


if __name__ == "__main__":
    main()
