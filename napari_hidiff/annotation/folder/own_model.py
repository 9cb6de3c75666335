"""A segmentor of one's own from the finished images of a queue, for a model that needs prompts.

The masks that are done become a :class:`TrainingSet` of their folder; a :class:`Tuning` trains on
it in a process of its own (``napari-hidiff-train --from``). A prompted model sees and normalises
every slice of a volume by itself, so slices are learned from as pictures.
"""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

from napari_hidiff.annotation.fine_tuning import TrainingSet
from napari_hidiff.annotation.folder.drafts import read_pixels
from napari_hidiff.annotation.folder.queue import Item, Queue
from napari_hidiff.annotation.sidecar import image_key
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.preprocessing import any_channels
from napari_hidiff.io.images import IMAGES
from napari_hidiff.io.registry import read_labelled

EVERY = 8
"""Finished images after which a training is offered, and offered again."""
VOLUME = 2
"""How many images a volume counts as: it has many slices, and four volumes can be divided into
some that train and one that is held out."""
HELD, EMPTY = 24, 8
"""Slices of a volume to learn from, at most: with an object, and without."""


def finished(queue: Queue) -> list[Item]:
    """The images that can be learned from: those that are done, and whose masks are there."""
    return [item for item in queue.items if item.state == "done" and item.mask.is_file()]


def counted(items: Iterable[Item]) -> int:
    """How many images these are, of which a volume is :data:`VOLUME`; their names decide."""
    return sum(1 if item.path.suffix.lower() in IMAGES else VOLUME for item in items)


def learned(kept: TrainingSet) -> int:
    """How many images a training set holds, counted as by :func:`counted`."""
    return sum(min(slices, VOLUME) for slices in kept.slices.values())


def training_set(queue: Queue) -> TrainingSet:
    """The training set of a folder of images."""
    key = blake2b(str(queue.folder).encode(), digest_size=4).hexdigest()
    return TrainingSet(f"{queue.folder.name}-{key}")


def fill(queue: Queue, card: Card) -> TrainingSet:
    """The training set of a folder with all that is finished: every label counts as the object.

    Of a volume it gets some slices along its first axis (:func:`learned_slices`), which stay
    together when images are held out.

    InputError: a file cannot be read, an image and its mask differ in size, or the set cannot be
    written.
    """
    kept = training_set(queue)
    for item in finished(queue):
        image, _, _ = read_pixels(item.path)
        image = image[..., 0] if image.shape[-1] == 1 else image
        mask = read_labelled(item.mask).mask
        mask = mask[None] if mask.ndim == 2 else mask
        if mask.shape != image.shape[:3]:
            raise InputError(f"{item.mask}: does not have the size of {item.name}")
        single = len(mask) == 1
        key = image_key(image[0] if single else image)
        stems = set()
        for at in [0] if single else learned_slices(mask):
            seen = np.ascontiguousarray(any_channels(image[at], len(card.channels)))
            found = (mask[at] > 0).astype(np.uint8)
            where = (-1, -1) if single else (at, -1, -1)
            stems.add(kept.add(seen, found, item.path.stem, key, where, card))
        kept.keep_only(key, stems)
    return kept


def learned_slices(mask: np.ndarray) -> list[int]:
    """The slices of a volume to learn from, by their places along the first axis of its mask
    [D, H, W], in order.

    At most :data:`HELD` with an object and :data:`EMPTY` without, both evenly spaced. Half of the
    empty ones lie next to an object, so that a network learns where it ends.
    """
    holds = np.asarray(mask.any((1, 2)))
    near = holds.copy()
    near[1:] |= holds[:-1]
    near[:-1] |= holds[1:]
    kinds = (holds, HELD), (near & ~holds, EMPTY // 2), (~near, EMPTY // 2)
    return sorted(at for kind, most in kinds for at in _spaced(np.flatnonzero(kind), most))


def _spaced(places: np.ndarray, most: int) -> list[int]:
    """At most so many places, evenly spaced from the first to the last."""
    at = np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)
    found: list[int] = places[at].tolist()
    return found
