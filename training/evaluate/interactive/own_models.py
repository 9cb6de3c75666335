"""Segmentors of the annotator's own, trained on the images that were finished so far."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from napari_hidiff.inference.catalog import find_model, read_card
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.fine_tuning import dealt
from napari_hidiff.training.recipes import RECIPES
from napari_hidiff.training.universal.own_segmentor import own_recipe, train


@dataclass(frozen=True)
class Finished:
    """A finished image: its name, uint8 [H, W, C], and its mask uint8 [H, W]."""

    name: str
    image: np.ndarray
    mask: np.ndarray


def own_model(
    start: str, finished: Sequence[Finished], seed: int, folder: Path, device: str
) -> Path:
    """The file of a model with a segmentor trained on finished images, as the program trains one.

    start : the name or file of the prompted model, or of the model before. folder : of the run,
    which is resumed, or left where it is finished. The card's ``training["held_out"]`` says whether
    it is better than none.
    """
    file = folder / "run" / "model.safetensors"
    if not file.is_file():
        data = folder / "data"
        for one in finished:
            _write(data / "images" / f"{one.name}.png", one.image)
            _write(data / "masks" / f"{one.name}.png", (one.mask > 0).astype(np.uint8))
        opened = open_dataset("folder", data)
        cases = [case for split in opened.splits.values() for case in split]
        card = read_card(find_model(start))
        recipe = own_recipe(RECIPES["folder"], card, start, {"seed": seed})
        opened = replace(opened, splits=dealt(cases, seed, card))
        resume = (folder / "run" / "recipe.json").is_file()
        train(recipe, opened, folder / "run", device, resume)
    return file


def _write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as (part,):
        Image.fromarray(pixels).save(part, format="PNG")
