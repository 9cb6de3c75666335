"""Refine one image file of a batch, a picture or a volume, in any process.

:func:`refine_file` writes mask and record. A volume is normalised once as a whole and refined slice
by slice, with one record for all slices. :func:`attempt` counts how often a job was tried.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hidiff.batch.jobs import MAX_ATTEMPTS, BatchSettings, Job, JobResult, Progress
from napari_hidiff.batch.records import count, finished, head, sources
from napari_hidiff.errors import InputError, first_line
from napari_hidiff.inference import volumes
from napari_hidiff.inference.box import prior_in_box
from napari_hidiff.io.images import (
    fixed_labels,
    from_black_and_white,
    known_labels,
    read_fixed,
    read_image,
    read_labels,
)
from napari_hidiff.io.pictures import check_turn, orientation
from napari_hidiff.io.registry import is_volume, read
from napari_hidiff.io.volume import Volume, apart, whole
from napari_hidiff.io.write import write_labels

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

AT_ONCE = 2**28
"""Bytes of probabilities (prior and refined slices) in memory at a time."""


@dataclass(frozen=True)
class Slices:
    """Progress in slices."""

    index: int
    total: int


def refine_volume(
    model: "HiDiff",
    job: Job,
    settings: dict[str, Any],
    on_step: Callable[[Progress], None] = lambda step: None,
    made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Refine one volume, write its mask and its record, and return the record.

    settings, on_step, made : as for :func:`refine_file`; on_step counts slices.

    Slices are refined along Z of the canonical orientation in batches, so that only the
    probabilities of one batch are in memory. Raises InputError naming the file.
    """
    start = time.perf_counter()
    volume = read(job.image)
    array = volume.array if volume.array.ndim == 4 else volume.array[..., None]
    shape = array.shape[:3]
    prior_mask = None if job.prior is None else _prior(job.prior, volume, model.labels)
    fixed = None if job.fixed is None else _fixed(job.fixed, volume, model.labels)
    seen = list(volume.array.shape)
    image = volumes.normalise(model, array)
    volume = replace(volume, array=volume.array[:0])  # frees the grey values
    del array
    masks = [np.empty(shape, np.uint8), np.empty(shape, np.uint8)]
    sampling = model.sampling(**settings)
    if sampling.scale is None:
        sides = volume.spacing[-2:] if _placed(volume) else None
        sampling = replace(sampling, scale=model.card.scale(shape[1:], sides))
    for here in _runs(shape, model.labels):

        def on_slice(index: int, first: int = here.start) -> None:
            on_step(Slices(first + index, shape[0]))

        planes = image[here]
        if prior_mask is None:
            prior = volumes.prior(model, planes, sampling.scale)
        else:
            prior = prior_mask[here]
        known = None if fixed is None else fixed[here]
        probability = volumes.refine(model, planes, prior, on_slice, sampling, known)
        before = model.mask_of(prior, 0) if prior_mask is None else prior
        masks[0][here] = before if known is None else np.where(known >= 0, known, before)
        masks[1][here] = model.mask_of(probability, 0)
    on_step(Slices(shape[0], shape[0]))
    seconds = round(time.perf_counter() - start, 3)
    moved = int((masks[0] != masks[1]).sum())
    done = {"changed": moved, "pixels": count(masks[1], model.labels), "seconds": seconds}
    record = head(model, job, settings, seen, masks[0], fixed) | {
        "spacing": list(volume.spacing),
        "slices": shape[0],
        "scale": sampling.scale,
        "steps": [done],
        "changed": moved,
    }
    record |= {**(made or {}), "seconds": seconds}
    with finished(job.steps, record):
        write_labels(job.mask, masks[1], model.card.classes, volume.source)
    return record


def held(array: np.ndarray) -> int:
    """Bytes of a volume [Z, Y, X(, C)] during refinement, without the networks.

    Its grey values, raw and normalised, its masks, and the probabilities of one batch.
    """
    voxels = int(np.prod(array.shape[:3]))
    return array.nbytes + 4 * array.size + 8 * voxels + AT_ONCE


def _runs(shape: tuple[int, ...], labels: int) -> Iterator[slice]:
    """Batches of slices whose probabilities take :data:`AT_ONCE`, in order."""
    depth, height, width = shape
    together = max(1, AT_ONCE // (8 * labels * height * width))
    for first in range(0, depth, together):
        yield slice(first, min(first + together, depth))


def _labels(path: Path, image: Volume) -> Volume:
    """A label volume on the voxels of an image; InputError for another size or place."""
    volume = read(path)
    array = volume.array
    if array.shape != image.array.shape[:3]:
        raise InputError(
            f"{path}: has shape {array.shape}, the image {image.array.shape[:3]} (Z, Y, X)"
        )
    if _placed(volume) and _placed(image):
        off = apart(volume.affine, image.affine, array.shape[::-1])
        if off > 0.1 * min(image.spacing):
            raise InputError(
                f"{path}: lies elsewhere than {image.source.path}, by up to {off:.3g} mm"
            )
    if unclear := volume.source.header.get("doubt"):
        raise InputError(f"{path}: {unclear}")
    return replace(volume, array=whole(array, path))


def _placed(volume: Volume) -> bool:
    """Whether a file has the place of its voxels."""
    return volume.source.turned and volume.source.header.get("unit") != "pixel"


def _prior(path: Path, image: Volume, labels: int) -> np.ndarray:
    """A mask uint8 [Z, Y, X] as the prior."""
    mask = _labels(path, image).array
    return known_labels(from_black_and_white(mask) if labels == 2 else mask, labels, path)


def _fixed(path: Path, image: Volume, labels: int) -> np.ndarray:
    """The fixed map int16 [Z, Y, X], -1 where free."""
    mask = _labels(path, image).array
    return fixed_labels(mask, mask.dtype.kind, labels - 1, path)


def refine_file(
    model: "HiDiff",
    job: Job,
    settings: dict[str, Any],
    on_step: Callable[[Progress], None] = lambda step: None,
    made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Refine one image, write its mask and its record, and return the record.

    A volume is refined slice by slice (:func:`refine_volume`).

    settings: sampler, steps, samples, scale (None = the model's card) and seed.
    on_step: progress, called after every step, or before every batch of slices of a volume.
    made: further facts for the record.
    Raises InputError naming the file.
    """
    start = time.perf_counter()
    try:
        if is_volume(job.image):
            return refine_volume(model, job, settings, on_step, made)
        image = read_image(job.image)
        model.check_image(image)
        prior = None if job.prior is None else read_labels(job.prior, model.labels)
        fixed = None if job.fixed is None else read_fixed(job.fixed)
        for path, mask in ((job.prior, prior), (job.fixed, fixed)):
            if path is not None and mask is not None:
                check_turn(job.image, path, image.shape[:2], mask.shape)
        boxed = None if job.box is None else prior_in_box(model, image, job.box)
        prior = prior if boxed is None else boxed.prior
        scale = model.sampling(**settings).scale or model.card.scale(image.shape[:2])
        run = model.steps(image, prior=prior, fixed=fixed, **{**settings, "scale": scale})
        start_from = model.prior(image, scale=scale) if prior is None else prior
        mask = model.mask_of(start_from) if start_from.dtype.kind == "f" else start_from
        if fixed is not None:
            mask = np.where(fixed >= 0, fixed, mask).astype(np.uint8)
        record = head(model, job, settings, image.shape, mask, fixed)
        record |= {"scale": scale, "steps": []}
        if boxed is not None:
            record["prior"] |= boxed.record
        first, before = mask, time.perf_counter()
        for step in run:
            now, after = time.perf_counter(), step.mask
            record["steps"].append(
                {
                    "index": step.index,
                    "t": step.t,
                    "changed": int((after != mask).sum()),
                    "pixels": count(after, model.labels),
                    "seconds": round(now - before, 3),
                }
            )
            mask, before = after, now
            on_step(step)
        record["changed"] = int((mask != first).sum())
        if (turn := orientation(job.image)) != 1:
            record["orientation"] = turn
        record |= made or {}
        record["seconds"] = round(time.perf_counter() - start, 3)
        with finished(job.steps, record):
            write_labels(job.mask, mask, model.card.classes)
        return record
    except InputError as error:
        line = str(error)
        raise InputError(line if str(job.image) in line else f"{job.image}: {line}") from error


def refine_one(
    model: "HiDiff",
    job: Job,
    order: BatchSettings,
    on_step: Callable[[Progress], None] = lambda step: None,
) -> JobResult:
    """Refine a job's image; any error is its result and does not end the batch."""
    try:
        made = {"made_from": sources(job, order.digest), "run": order.run}
        return JobResult(job, refine_file(model, job, dict(order.settings), on_step, made))
    except InputError as error:
        return JobResult(job, error=str(error))
    except Exception as error:  # out of memory, a bug: the batch continues
        line = f"{job.image}: {type(error).__name__}: {first_line(error)}"
        return JobResult(job, error=line, trace=traceback.format_exc())


@contextmanager
def attempt(job: Job, run: str) -> Iterator[None]:
    """Mark an attempt at a job by a ``.started`` file, which stays if the process is killed.

    dask reports all queued jobs of a dead worker as failed; the mark shows the one that was
    running. Raises InputError after :data:`MAX_ATTEMPTS` unfinished attempts.
    """
    for life in range(1, MAX_ATTEMPTS + 1):
        mark = job.steps.with_name(f".{job.steps.name}.{run}-{life}.started")
        try:
            with mark.open("x", encoding="utf-8") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{mark}: cannot be written: {error.strerror or error}") from error
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)
        return
    raise InputError(
        f"{job.image}: its worker died {MAX_ATTEMPTS} times while it was at it (too little memory?)"
    )
