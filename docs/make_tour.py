"""Make the pictures and the animation of the tour, docs/tour.md, in docs/images.

    python docs/make_tour.py [--output FOLDER]

A cell (scikit-image's, CC0) from one stroke; then two sessions on the bundled sample with the model
for vessels: from opening the image to accepting the mask, and from a damaged mask to a mended one.
There is a picture of the whole window (1280 x 720) per stage, and tour.webp, which shows them all.
It needs a display; ``make pictures`` gives it a virtual one.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from camera import IMAGES, Desk, along, missed_vessel, own_sessions, save
from PIL import Image, ImageDraw, ImageFont
from skimage.data import cell

from napari_hidiff.io.images import sample
from napari_hidiff.training.evaluate.damage import damage

MODEL = "chase-vessels"
SIZE = 1280, 720
FILM = 960, 540
"""Size of a frame of the animation, without its caption."""
CAPTION = 34
"""Height of the caption in pixels."""
QUALITY = 72
INSIDE = np.array([(375, 405), (375, 450)])
"""A stroke inside the cell: rows and columns."""
STILL, MOVING = 1800, 250
"""Milliseconds that a frame stays."""
Stage = Callable[[str, str], None]
"""Takes a picture: name and caption."""
ARROW = ((0, 0), (0, 17), (4, 13), (7, 20), (10, 19), (7, 12), (12, 12))
"""The mouse pointer."""


class Film:
    """Collects frames with captions."""

    def __init__(self) -> None:
        self.frames: list[Image.Image] = []
        self.milliseconds: list[int] = []

    def add(self, desk: Desk, shot: Image.Image, caption: str, still: bool = True) -> None:
        """Add a picture of the window, with the mouse pointer where it is."""
        frame = Image.new("RGB", (FILM[0], FILM[1] + CAPTION), "#20242c")
        frame.paste(shot.resize(FILM, Image.Resampling.LANCZOS), (0, CAPTION))
        draw = ImageDraw.Draw(frame)
        draw.text((12, 7), caption, fill="white", font=ImageFont.load_default(18))
        if desk.pointer is not None:
            scale = FILM[0] / shot.width
            left, top = (round(part * scale) for part in desk.pointer)
            shape = [(left + x, top + CAPTION + y) for x, y in ARROW]
            draw.polygon(shape, fill="white", outline="black")
        self.frames.append(frame)
        self.milliseconds.append(STILL if still else MOVING)

    def save(self, path: Path) -> None:
        """Write an animated webp that begins again and again."""
        first, *others = self.frames
        first.save(
            path,
            save_all=True,
            append_images=others,
            duration=self.milliseconds,
            loop=0,
            quality=QUALITY,
            method=4,
        )
        print(f"{path}: {len(self.frames)} frames, {path.stat().st_size / 1e3:.0f} kB")


def point(desk: Desk, stage: Stage, film: Film) -> None:
    """One stroke in an image that no other model knows."""
    desk.widget.panel.annotate.after_stroke.setChecked(True)
    desk.click("paint")
    caption = "Open any image, and Paint one stroke inside the object ..."
    film.add(desk, desk.picture(), caption)
    desk.stroke(INSIDE, brush=16)
    desk.known()
    stage("object", "... done. Correct it with more strokes, or take a New object.")


def correct(desk: Desk, stage: Stage, film: Film, truth: np.ndarray) -> None:
    """The model's mask, a stroke, an update; and the steps of a run."""
    stage("open", "An image is open, and the model that fits is chosen.")
    desk.click("segment")
    stage("segment", "Find: a first mask, refined at once.")
    missed = missed_vessel(desk.mask.data, truth)
    desk.look_at(missed, closer=3)
    desk.stroke(
        along(missed),
        lambda: film.add(desk, desk.picture(), "Paint the vessel that was missed.", still=False),
    )
    stage("paint", "Paint the vessel that was missed.")
    desk.click("rerefine")
    stage("rerefine", "Update: what you painted stays; the outlines show what changed.")
    desk.viewer.reset_view()
    desk.click("accept")
    stage("accept", "Done: the mask is final, and kept. Save mask writes it to a file.")
    desk.show_steps()
    desk.click("run")
    stage("run", "Show the steps: watch the diffusion refine the mask, step by step.")


def mend(desk: Desk, stage: Stage) -> None:
    """A draft with holes and cuts, as evaluation damages masks, comes back whole."""
    prior = desk.widget.models.loaded().prior(desk.widget.image.data)
    draft = desk.widget.models.loaded().mask_of(damage(prior))
    desk.show_steps()
    desk.start_from(draft, "draft")
    desk.look_at(np.ones_like(draft), closer=1.8)
    desk.click("segment")
    stage("draft", "Or start from a mask that you have: here one with holes and cuts.")
    desk.click("run")
    stage("mended", "Run: green is what came back, pink what was taken away.")


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder of the pictures")
    output = parser.parse_args().output
    film = Film()
    image, truth = sample()
    with own_sessions():
        desk = Desk("universal", SIZE, cell(), name="cell")
        point(desk, partial(take, desk, film, output), film)
        desk.close()
    for part in (lambda desk, stage: correct(desk, stage, film, truth), mend):
        with own_sessions():
            desk = Desk(MODEL, SIZE, image, name="fundus", rgb=True)
            part(desk, partial(take, desk, film, output))
            desk.close()
    film.save(output / "tour.webp")


def take(desk: Desk, film: Film, output: Path, name: str, caption: str) -> None:
    """A picture of the window, for the page and for the film."""
    shot = desk.picture()
    save(shot, output / f"tour-{name}.png")
    film.add(desk, shot, caption)


if __name__ == "__main__":
    main()
