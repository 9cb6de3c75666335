"""Refine a volume file slice by slice: normalised once as a whole, one record for all slices."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hidiff.batch.jobs import Job, Progress, count, finished, head
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.io.images import fixed_labels, from_black_and_white, known_labels
from napari_hidiff.io.registry import read
from napari_hidiff.io.volume import Volume, apart, whole
from napari_hidiff.io.write import write_labels

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

AT_ONCE = 2**28
"""Bytes of probabilities, of prior and refined slices together, that are held at a time."""


@dataclass(frozen=True)
class Slices:
    """So many slices of all are done."""

    index: int
    total: int


def refine_volume(
    model: "HiDiff",
    job: Job,
    settings: dict[str, Any],
    on_step: Callable[[Progress], None] = lambda step: None,
    made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Refine one volume, write its mask over it and its record, and return the record.

    settings, on_step, made : as for :func:`batch.refine_file`; on_step counts slices.

    Slices are refined in the order Z of the canonical orientation, some at a time, so that of all
    probabilities only theirs are in memory. Raises InputError naming the file.
    """
    start = time.perf_counter()
    volume = read(job.image)
    array = volume.array if volume.array.ndim == 4 else volume.array[..., None]
    shape = array.shape[:3]
    given = None if job.prior is None else _prior(job.prior, volume, model.labels)
    fixed = None if job.fixed is None else _fixed(job.fixed, volume, model.labels)
    seen = list(volume.array.shape)
    image = volumes.normalise(model, array)
    volume = replace(volume, array=volume.array[:0])  # grey values are not needed any more
    del array
    masks = [np.empty(shape, np.uint8), np.empty(shape, np.uint8)]
    for here in _runs(shape, model.labels):

        def on_slice(index: int, first: int = here.start) -> None:
            on_step(Slices(first + index, shape[0]))

        planes = image[here]
        prior = volumes.prior(model, planes) if given is None else given[here]
        known = None if fixed is None else fixed[here]
        probability = volumes.refine(model, planes, prior, on_slice, fixed=known, **settings)
        before = model.mask_of(prior, 0) if given is None else prior
        masks[0][here] = before if known is None else np.where(known >= 0, known, before)
        masks[1][here] = model.mask_of(probability, 0)
    on_step(Slices(shape[0], shape[0]))
    seconds = round(time.perf_counter() - start, 3)
    moved = int((masks[0] != masks[1]).sum())
    done = {"changed": moved, "pixels": count(masks[1], model.labels), "seconds": seconds}
    record = head(model, job, settings, seen, masks[0], fixed) | {
        "spacing": list(volume.spacing),
        "slices": shape[0],
        "steps": [done],
        "changed": moved,
    }
    record |= {**(made or {}), "seconds": seconds}
    with finished(job.steps, record):
        write_labels(job.mask, masks[1], model.card.classes, volume.source)
    return record


def held(array: np.ndarray) -> int:
    """Bytes that a volume [Z, Y, X(, C)] takes while it is refined, beside the networks' work.

    Its grey values, as they are and normalised, its masks, and probabilities of some slices.
    """
    voxels = int(np.prod(array.shape[:3]))
    return array.nbytes + 4 * array.size + 8 * voxels + AT_ONCE


def _runs(shape: tuple[int, ...], labels: int) -> Iterator[slice]:
    """Runs of slices whose probabilities take :data:`AT_ONCE`, in order."""
    depth, height, width = shape
    together = max(1, AT_ONCE // (8 * labels * height * width))
    for first in range(0, depth, together):
        yield slice(first, min(first + together, depth))


def _labels(path: Path, image: Volume) -> Volume:
    """Whole numbers on the voxels of an image; InputError for another size or place."""
    found = read(path)
    array = found.array
    if array.shape != image.array.shape[:3]:
        raise InputError(
            f"{path}: has shape {array.shape}, the image {image.array.shape[:3]} (Z, Y, X)"
        )
    if _placed(found) and _placed(image):
        off = apart(found.affine, image.affine, array.shape[::-1])
        if off > 0.1 * min(image.spacing):
            raise InputError(
                f"{path}: lies elsewhere than {image.source.path}, by up to {off:.3g} mm"
            )
    if unclear := found.source.header.get("doubt"):
        raise InputError(f"{path}: {unclear}")
    return replace(found, array=whole(array, path))


def _placed(volume: Volume) -> bool:
    """Whether a file says where its voxels are."""
    return volume.source.turned and volume.source.header.get("unit") != "pixel"


def _prior(path: Path, image: Volume, labels: int) -> np.ndarray:
    """A mask uint8 [Z, Y, X] to start from."""
    mask = _labels(path, image).array
    return known_labels(from_black_and_white(mask) if labels == 2 else mask, labels, path)


def _fixed(path: Path, image: Volume, labels: int) -> np.ndarray:
    """The labels that voxels keep, int16 [Z, Y, X], -1 where free."""
    mask = _labels(path, image).array
    return fixed_labels(mask, mask.dtype.kind, labels - 1, path)
