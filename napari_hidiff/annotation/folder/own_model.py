"""A segmentor of one's own from the finished images of a queue, for a model that needs prompts.

The masks that are done become a :class:`TrainingSet` of their folder; a :class:`Tuning` trains on
it in a process of its own (``napari-hidiff-train --from``).
"""

from hashlib import blake2b

import numpy as np

from napari_hidiff.annotation.fine_tuning import TrainingSet
from napari_hidiff.annotation.folder.queue import Item, Queue
from napari_hidiff.annotation.sidecar import image_key
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.preprocessing import any_channels
from napari_hidiff.io.images import IMAGES, read_image, read_mask

EVERY = 8
"""Finished images after which a training is offered, and offered again."""


def finished(queue: Queue) -> list[Item]:
    """The images that can be learned from: pictures that are done, and whose masks are there."""
    pictures = (item for item in queue.items if item.path.suffix.lower() in IMAGES)
    return [item for item in pictures if item.state == "done" and item.mask.is_file()]


def training_set(queue: Queue) -> TrainingSet:
    """The training set of a folder of images."""
    key = blake2b(str(queue.folder).encode(), digest_size=4).hexdigest()
    return TrainingSet(f"{queue.folder.name}-{key}")


def fill(queue: Queue, card: Card) -> TrainingSet:
    """The training set of a folder with all that is finished: every label counts as the object.

    InputError: a file cannot be read, an image and its mask differ in size, or the set cannot be
    written.
    """
    kept, whole = training_set(queue), (-1, -1)
    for item in finished(queue):
        image, mask = read_image(item.path), read_mask(item.mask)
        if mask.shape != image.shape[:2]:
            raise InputError(f"{item.mask}: does not have the size of {item.name}")
        seen = np.ascontiguousarray(any_channels(image, len(card.channels)))
        found = (mask > 0).astype(np.uint8)
        kept.add(seen, found, item.path.stem, image_key(image), whole, card)
    return kept
