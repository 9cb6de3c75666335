"""Make the picture of docs/compare.md in docs/images.

    python docs/make_compare.py [--data FOLDER] [--size 1280x720] [--output FILE]

Two observers' masks of a photograph of CHASE_DB1, compared, at the largest disagreement. The data
are not part of the repository: without them the picture stays as it is, and one line says so. It
needs a display; ``make pictures`` gives it a virtual one.
"""

import argparse
import os
from pathlib import Path

import napari
from camera import IMAGES, own_sessions, pause, save, wait
from PIL import Image

from napari_hidiff._qt.commands import add_comparison
from napari_hidiff._qt.comparison import dock_comparison
from napari_hidiff.surfaces import TOLERANCE

NAME = "Image_01L_c0"
HOME = Path(__file__).parent.parent.parent / "shared" / "data"
"""Where data for tests are looked for, unless NAPARI_HIDIFF_TEST_DATA names another folder."""


def picture(data: Path, size: tuple[int, int]) -> Image.Image:
    """The window with the ring round the first disagreement."""
    viewer = napari.Viewer()
    viewer.window.resize(*size)
    masks = data / "masks" / f"{NAME}.png", data / "masks2" / f"{NAME}.png"
    add_comparison(viewer, data / "images" / f"{NAME}.jpg", masks, TOLERANCE)
    for layer, name in zip(viewer.layers[1:3], ("observer 1", "observer 2"), strict=True):
        layer.name = name
    widget = dock_comparison(viewer)
    widget.compare()
    wait(widget.page.next.isEnabled)
    pause(400)
    widget.next()
    pause(400)
    shot = viewer.screenshot(canvas_only=False, flash=False)
    viewer.close()
    return Image.fromarray(shot[..., :3])


def main() -> None:
    """Write the picture, given the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    home = Path(os.environ.get("NAPARI_HIDIFF_TEST_DATA", HOME))
    parser.add_argument("--data", type=Path, default=home / "any" / "chasedb1_2raters")
    parser.add_argument("--size", default="1280x720", help="width x height of the window")
    parser.add_argument("--output", type=Path, default=IMAGES / "compare.png")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"docs/make_compare.py makes no picture: no folder {options.data}")
        return
    width, height = (int(side) for side in options.size.split("x"))
    with own_sessions():
        save(picture(options.data, (width, height)), options.output)


if __name__ == "__main__":
    main()
