"""Accepted masks with their images, kept to learn from: the layout ``folder`` of our training.

A set belongs to a model and to all that are tuned from it. A file is named after its image and the
content of the image, so that adding the same image again replaces what was there.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from napari_hidiff.annotation import sidecar
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.preprocessing import check_image
from napari_hidiff.io.storage import whole
from napari_hidiff.io.write import write_labels
from napari_hidiff.slices import Index

VARIABLE = "NAPARI_HIDIFF_TRAINING_SETS"
"""Name of the environment variable that says where training sets are kept."""
HELD_OUT = 4
"""One image in so many is held out when a model is fine-tuned."""
KEY = 12
"""Digits of an image's key in the names of its files."""


def folder() -> Path:
    """Where training sets are: ``$NAPARI_HIDIFF_TRAINING_SETS``, else beside the sidecars."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    return sidecar.folder().parent / "training-sets"


class TrainingSet:
    """The set of a model.

    name : of the model that others are tuned from (:func:`catalog.root_name`).
    """

    def __init__(self, name: str) -> None:
        self.root = folder() / re.sub(r"[^A-Za-z0-9._ -]", "_", name)

    @property
    def stems(self) -> list[str]:
        """The images, by name."""
        return sorted(path.stem for path in (self.root / "masks").glob("*.png"))

    @property
    def images(self) -> int:
        """How many images there are; all slices of a volume count as one."""
        groups = self._groups()
        return len({groups.get(stem, stem) for stem in self.stems})

    def add(
        self, image: np.ndarray, mask: np.ndarray, name: str, key: str, index: Index, card: Card
    ) -> str:
        """Store an image [H, W] or [H, W, C] and its mask [H, W], in place of older ones of it.

        name : of the image; key : :func:`sidecar.image_key` of all of it; index : the slice.
        Returns the stem of the files: a slice's says which one it is.

        Raises
        ------
        InputError : labels or channels that are not the model's, a set of other classes, or a
            folder that cannot be written to.
        """
        check_image(image, card.channels)
        if mask.max(initial=0) >= len(card.classes):
            raise InputError(
                f"The mask has label {mask.max()}; {card.name} knows 0 to {len(card.classes) - 1}."
            )
        place = "".join(f"-{at:03}" for at in index if at >= 0)
        end = f"-{key[:KEY]}{f'-slice{place}' if place else ''}"
        stem = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] + end
        images, masks = self.root / "images", self.root / "masks"
        try:
            for made in (images, masks):
                made.mkdir(parents=True, exist_ok=True)
            self._check_classes([label.name for label in card.classes])
            for old in (*images.glob(f"*{end}.*"), *masks.glob(f"*{end}.*")):
                old.unlink()
            _write_image(
                images / stem, image[..., : len(card.channels)] if _alpha(image) else image
            )
            write_labels(masks / f"{stem}.png", mask, card.classes)
            _write_text(
                self.root / "groups.json",
                json.dumps(self._groups() | {stem: key[:KEY]}, indent=1, sort_keys=True),
            )
        except OSError as error:
            raise InputError(f"{self.root} cannot be written to ({error}).") from error
        return stem

    def _check_classes(self, classes: Sequence[str]) -> None:
        path, text = self.root / "classes.txt", "\n".join(classes) + "\n"
        if not path.exists():
            _write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            raise InputError(f"{self.root} holds masks of other classes: see {path.name} in it.")

    def _groups(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads((self.root / "groups.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        kept = set(self.stems)
        return {stem: group for stem, group in found.items() if stem in kept}


def _alpha(image: np.ndarray) -> bool:
    return image.ndim == 3 and image.shape[2] == 4


def _write_image(path: Path, image: np.ndarray) -> None:
    """Pixels as they are: png where it can hold them, else tif."""
    image = np.ascontiguousarray(image.astype(np.uint8) if image.dtype == bool else image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] == 3):
        with whole(path.with_name(f"{path.name}.png")) as (part,):
            Image.fromarray(image).save(part, format="PNG")
        return
    planar = "contig" if image.ndim > 2 else None
    with whole(path.with_name(f"{path.name}.tif")) as (part,):
        tifffile.imwrite(part, image, photometric="minisblack", planarconfig=planar)


def _write_text(path: Path, text: str) -> None:
    with whole(path) as (part,):
        part.write_text(text, encoding="utf-8")
