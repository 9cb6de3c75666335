"""Pictures of many sets at one size, in memory: images, label maps, superpixels."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from skimage.segmentation import felzenszwalb
from torch import Tensor

from napari_hidiff.io.storage import atomic_write
from napari_hidiff.training.datasets import Case
from napari_hidiff.training.datasets.base import nearest
from napari_hidiff.training.datasets.collection import (
    CLASSES,
    found_kind,
    read_pair,
    set_of,
    stated_kind,
)

SCALES = (60, 120, 250, 500)
"""Of Felzenszwalb's superpixels; one per picture."""
SUPERPIXELS = "superpixels"
"""Name of the folder that keeps them."""
ENCLOSED = 0.6
"""A label lies inside another if so much of the rim around it is of that one."""
MOST = 150
"""Pictures of a set beyond this number do not make it be drawn more often."""


@dataclass(frozen=True)
class Pictures:
    """N pictures in squares of side S, on one device.

    images : uint8 [N, 3, S, S]; labels, superpixels : int16 [N, S, S], 0 = background, superpixels
    from 1; a picture fills the upper left of its square. sizes : int64 [N, 2], its height and
    width. sets : int64 [N], its set; names : of the sets; ids : of the pictures.
    parts : one more than the largest superpixel.
    within : bool [sets, L, L], whether an object of label k holds the pixels of label l: its own,
    and those of labels that lie inside it. nested : bool [sets], whether there are such.
    """

    images: Tensor
    labels: Tensor
    superpixels: Tensor
    sizes: Tensor
    sets: Tensor
    within: Tensor
    nested: Tensor
    parts: int
    names: tuple[str, ...]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "Pictures":
        """The same on another device."""
        moved = {
            name: value.to(device) for name, value in vars(self).items() if torch.is_tensor(value)
        }
        return Pictures(**(vars(self) | moved))

    def chances(self) -> Tensor:
        """How likely each picture is drawn, float32 [N]: its set by the root of min(n, 150)."""
        counts = torch.bincount(self.sets, minlength=len(self.names)).float()
        return (counts.clamp(max=MOST).sqrt() / counts.clamp(min=1))[self.sets]


def read_pictures(
    cases: Sequence[Case],
    side: int,
    cache: Path | None = None,
    workers: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Pictures:
    """Read and resize pictures of a collection; on the CPU.

    cases : at least one. side : the longer side of every picture becomes this. cache : folder that
    keeps superpixels, which take a tenth of a second each; without it none are made (all 1).
    workers : processes. advance : called once per picture.

    Raises
    ------
    InputError : a pair cannot be read.
    """
    read = partial(_read, side=side, cache=cache)
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found = list(_told(pool.map(read, cases, chunksize=8), advance))
    else:
        found = list(_told(map(read, cases), advance))
    images, labels, superpixels, sizes = zip(*found, strict=True)
    names = tuple(sorted({set_of(case) for case in cases}))
    sets = np.array([names.index(set_of(case)) for case in cases])
    within = enclosures(cases, labels, sets, len(names))
    return Pictures(
        images=torch.from_numpy(np.stack(images)),
        labels=torch.from_numpy(np.stack(labels)),
        superpixels=torch.from_numpy(np.stack(superpixels)),
        sizes=torch.tensor(sizes),
        sets=torch.from_numpy(sets),
        within=torch.from_numpy(within),
        nested=torch.from_numpy(within.sum((1, 2)) > within.shape[1]),
        parts=1 + max(int(one.max()) for one in superpixels),
        names=names,
        ids=tuple(case.id for case in cases),
    )


def fitted(image: np.ndarray, labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 [H, W, 3] and its labels with a longer side of ``side`` pixels; the labels
    are numbered 1, 2, 3 ... only where they would not fit into 16 bits."""
    height, width = labels.shape
    factor = side / max(height, width)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    if size != (height, width):
        way = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
        image = np.asarray(Image.fromarray(image).resize(size[::-1], way))
        labels = nearest(labels, size)
    if labels.max() > np.iinfo(np.int16).max:
        labels = np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
    return image, labels.astype(np.int16)


def superpixels_of(image: np.ndarray, source: Path, cache: Path) -> np.ndarray:
    """Superpixels int16 [H, W] of a picture uint8 [H, W, 3], from 1; from the cache where it has
    them for this source file and size. The file decides their scale."""
    size = "x".join(map(str, image.shape[:2]))
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:24]
    path = cache / f"{digest}-{size}.png"
    if path.is_file():
        return np.asarray(Image.open(path)).astype(np.int16)
    scale = SCALES[int(digest[0], 16) % len(SCALES)]
    found = (felzenszwalb(image, scale=scale, sigma=1.2, min_size=80) + 1).astype(np.uint16)
    small = found.astype(np.uint8) if found.max() < 256 else found
    with atomic_write(path) as (part,):
        Image.fromarray(small).save(part, "PNG", optimize=True)
    array: np.ndarray = found.astype(np.int16)
    return array


def _read(
    case: Case, side: int, cache: Path | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """Image [3, S, S], labels [S, S], superpixels [S, S] and the size of the picture in them."""
    image, labels = fitted(*read_pair(case), side)
    parts = (
        superpixels_of(image, case.images[0], cache) if cache is not None else np.ones_like(labels)
    )
    height, width = labels.shape
    room = (0, side - height), (0, side - width)
    return (
        np.pad(image.transpose(2, 0, 1), ((0, 0), *room), mode="edge"),
        np.pad(labels, room),
        np.pad(parts, room),
        (height, width),
    )


def _told(values: Iterable[Any], advance: Callable[[], None]) -> Iterator[Any]:
    for value in values:
        advance()
        yield value


def enclosures(
    cases: Sequence[Case], labels: Sequence[np.ndarray], sets: np.ndarray, count: int
) -> np.ndarray:
    """``within`` of :class:`Pictures`: in sets of classes, labels that lie inside others.

    labels : a map int [H, W] of every case; sets : int [N], the number of its set, of ``count``.
    """
    largest = max(int(mask.max()) for mask in labels) + 1
    within = np.zeros((count, largest, largest), bool)
    within[:] = np.eye(largest, dtype=bool)
    for number in range(count):
        own = np.flatnonzero(sets == number).tolist()
        masks = [labels[i] for i in own]
        folder = cases[own[0]].images[0].parent.parent
        if (stated_kind(folder) or found_kind(masks)) == CLASSES:
            top = max(int(mask.max()) for mask in masks) + 1
            within[number, :top, :top] |= _inside(masks, top)
    return within


def _inside(masks: Sequence[np.ndarray], top: int) -> np.ndarray:
    """bool [top, top], whether label l lies inside label k, from the rims around l."""
    rims = np.zeros((top, top))
    for mask in masks:
        for label in np.unique(mask[mask > 0]):
            own = mask == label
            around = ndimage.binary_dilation(own, np.ones((3, 3))) & ~own
            rims[:, label] += np.bincount(mask[around], minlength=top)
    shares = rims / rims.sum(0).clip(1)
    shares[0] = 0  # the background holds nothing
    array: np.ndarray = shares > ENCLOSED
    return array
