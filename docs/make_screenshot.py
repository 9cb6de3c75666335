"""Make the screenshot of the whole window in docs/images.

    python docs/make_screenshot.py [--model NAME] [--size 1400x900] [--output FILE]

The bundled sample is segmented and refined, a missed vessel is painted with the mouse, and the
mask is refined again. It needs a display; ``make pictures`` gives it a virtual one.
"""

from camera import Desk, along, missed_vessel, own_sessions, parser_of, save
from PIL import Image

import napari_hidiff
from napari_hidiff.io.images import sample


def picture(model: str, size: tuple[int, int]) -> Image.Image:
    """The window after a correction."""
    image, truth = sample()
    desk = Desk(model, size, image, name="fundus", rgb=True)
    desk.click("segment")
    missed = missed_vessel(desk.mask.data, truth)
    desk.look_at(missed, closer=3)
    desk.stroke(along(missed))
    desk.click("rerefine")
    shot = desk.picture()
    desk.close()
    return shot


def main() -> None:
    """Write the picture."""
    parser = parser_of(__doc__, "window.png", "1400x900")
    parser.add_argument("--model", help="a bundled model or a file; default: the first bundled one")
    options = parser.parse_args()
    bundled = napari_hidiff.available_models()
    if not (options.model or bundled):
        parser.error("no model is bundled: name one with --model")
    with own_sessions():
        save(picture(options.model or bundled[0], options.size), options.output)


if __name__ == "__main__":
    main()
