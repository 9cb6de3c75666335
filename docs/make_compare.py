"""Make the picture of docs/compare.md in docs/images.

    python docs/make_compare.py [--data FOLDER] [--size 1280x720] [--output FILE]

Two observers' masks of a photograph of CHASE_DB1, compared, at the largest disagreement. The data
are not part of the repository: without them the picture stays as it is, and one line says so. It
needs a display; ``make pictures`` gives it a virtual one.
"""

import os
from pathlib import Path

import napari
from camera import own_sessions, parser_of, pause, photograph, save, wait
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
    shot = photograph(viewer)
    viewer.close()
    return shot


def main() -> None:
    """Write the picture, given the data."""
    parser = parser_of(__doc__, "compare.png")
    home = Path(os.environ.get("NAPARI_HIDIFF_TEST_DATA", HOME))
    parser.add_argument("--data", type=Path, default=home / "any" / "chasedb1_2raters")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"docs/make_compare.py makes no picture: no folder {options.data}")
        return
    with own_sessions():
        save(picture(options.data, options.size), options.output)


if __name__ == "__main__":
    main()
