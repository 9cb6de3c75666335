"""Training cases, normalised once and memory-mapped from disk: no decoding during training.

A case becomes an image float16 [D, C, H, W] and a truth uint8 [D, H, W] on disk (D = 1 for a
picture). The name of its files holds a digest of everything they depend on: a changed source is
read again, and an interrupted reading continues where it stopped.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.annotation.sidecar import image_key
from napari_hidiff.errors import InputError
from napari_hidiff.inference.ood import image_statistics
from napari_hidiff.inference.preprocessing import SMALLEST, Intensity, neighbours
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.training.datasets import Case, Dataset, Sample
from napari_hidiff.training.datasets.lacking import paired_only, without_pair

FORMAT = 4
SPARE = 2**30
"""Bytes of free disk space that the cache leaves."""
READERS = 4
"""Cases read in parallel; decompression releases Python's lock."""


@dataclass(frozen=True)
class Stored:
    """A case on disk; arrays are opened at each use, so that it can be sent between processes.

    shape : (D, C, H, W); foreground : indices of the planes with foreground.
    labels : the classes with any pixel in the truth, without the background.
    digests : of the contents of image and truth, independent of their paths.
    looks : statistics of the raw image (:func:`napari_hidiff.inference.ood.image_statistics`).
    spacing : of its pixels in mm, (y, x); None where the files do not say it.
    prior_file : the prior float16 [D, K, H, W] of a segmentor that never saw the case, if any.
    slices : that a network sees together (:attr:`Card.slices`).
    """

    id: str
    group: str
    path: Path
    shape: tuple[int, int, int, int]
    foreground: tuple[int, ...]
    labels: tuple[int, ...]
    digests: tuple[str, str]
    prior_file: Path | None = None
    looks: dict[str, Any] = field(default_factory=dict)
    spacing: tuple[float, ...] | None = None
    slices: int = 1

    def plane(self, at: int) -> np.ndarray:
        """Slice ``at`` of the image as the networks see it, float32 [C * slices, H, W]."""
        image, near = self.image, neighbours(at, self.shape[0], self.slices)
        return np.concatenate([image[there] for there in near]).astype(np.float32)

    @property
    def image(self) -> np.ndarray:
        """Normalised image, float16 [D, C, H, W], memory-mapped."""
        array: np.ndarray = np.load(
            self.path.with_name(self.path.name + ".image.npy"), mmap_mode="r"
        )
        return array

    @property
    def truth(self) -> np.ndarray:
        """Labels, uint8 [D, H, W], memory-mapped."""
        array: np.ndarray = np.load(
            self.path.with_name(self.path.name + ".truth.npy"), mmap_mode="r"
        )
        return array

    @property
    def prior(self) -> np.ndarray | None:
        """The prior, float16 [D, K, H, W], memory-mapped; None before there is one."""
        return None if self.prior_file is None else np.load(self.prior_file, mmap_mode="r")


@dataclass
class Store:
    """The result of :func:`build`: cases by split, and a line for each skipped case."""

    splits: dict[str, list[Stored]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


def build(
    dataset: Dataset,
    splits: Sequence[str],
    folder: Path,
    skip_bad: bool = False,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> Store:
    """Read the cases of ``splits`` into ``folder``, or reuse those of an earlier run.

    ``on_case(done, total)`` is called after each case.

    Raises
    ------
    InputError : the first unusable case (with ``skip_bad``: a split without a usable one), or a
        full disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store, done = Store(), 0
    alone, line = without_pair(dataset)
    if any(case.id in alone for split in splits for case in dataset.splits[split]):
        if not skip_bad:
            raise InputError(f"{line}; --skip-bad leaves them out")
        store.skipped.append(line)
        wanted, dataset = dataset, paired_only(dataset, alone)
        for split in splits:
            if wanted.splits[split] and not dataset.splits[split]:
                raise InputError(f"none of the {split} cases can be used; {line}")
    total = sum(len(dataset.splits[split]) for split in splits)

    def read(case: Case) -> Stored | InputError:
        try:
            return put(dataset, case, folder)
        except InputError as error:
            return error

    with ThreadPoolExecutor(READERS) as readers:
        for split in splits:
            store.splits[split] = []
            for result in _in_order(readers, read, dataset.splits[split]):
                done += 1
                on_case(done, total)
                if isinstance(result, Stored):
                    store.splits[split].append(result)
                elif skip_bad:
                    store.skipped.append(str(result))
                else:
                    readers.shutdown(wait=False, cancel_futures=True)
                    raise result
            if dataset.splits[split] and not store.splits[split]:
                raise InputError(f"none of the {split} cases can be used; {store.skipped[-1]}")
    return store


def _in_order(
    readers: ThreadPoolExecutor, read: Callable[[Case], Any], cases: Sequence[Case]
) -> Iterator[Any]:
    """A parallel ``map`` in order, with only a few volumes in memory."""
    for start in range(0, len(cases), READERS):
        yield from readers.map(read, cases[start : start + READERS])


def put(dataset: Dataset, case: Case, folder: Path) -> Stored:
    """Read one case into ``folder`` unless it is there; InputError as :meth:`Dataset.load`."""
    path = folder / f"{re.sub(r'[^A-Za-z0-9._-]', '_', case.id)}-{_digest(dataset, case)}"
    note = path.with_name(path.name + ".json")
    if not note.exists():
        sample = dataset.load(case)
        image, truth = _planes(sample, dataset)
        free = shutil.disk_usage(folder).free
        if image.nbytes + truth.nbytes + SPARE > free:
            raise InputError(
                f"{folder}: {free / 1e9:.1f} GB free is too little for the cached volumes; "
                "name a folder on another disk with --cache"
            )
        save_array(path.with_name(path.name + ".image.npy"), image)
        save_array(path.with_name(path.name + ".truth.npy"), truth)
        seen = np.flatnonzero(truth.any((1, 2))).tolist()
        looks = image_statistics([sample.image], dataset.channels)
        counts = [np.bincount(plane.ravel(), minlength=256) for plane in truth]
        found = np.flatnonzero(np.any(counts, 0)[1:]) + 1
        facts: dict[str, Any] = {"shape": image.shape, "foreground": seen, "labels": found.tolist()}
        facts |= {"digests": [image_key(image), image_key(truth)], "looks": looks}
        if sample.spacing is not None:
            facts["spacing"] = [float(side) for side in sample.spacing[-2:]]
        with atomic_write(note) as (part,):
            part.write_text(json.dumps(facts))  # last: it marks a complete case
    known = json.loads(note.read_text())
    depth, channels, height, width = known["shape"]
    shape = (depth, channels, height, width)
    holds, labels = tuple(known["foreground"]), tuple(known["labels"])
    digests = tuple(known["digests"])
    looks, spacing = known["looks"], known.get("spacing")
    spacing = None if spacing is None else tuple(spacing)
    return Stored(
        case.id,
        case.group,
        path,
        shape,
        holds,
        labels,
        digests,
        looks=looks,
        spacing=spacing,
        slices=dataset.slices,
    )


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file atomically."""
    with atomic_write(path) as (part,), part.open("wb") as file:
        np.save(file, array)


def _digest(dataset: Dataset, case: Case) -> str:
    stats = [(str(f.resolve()), f.stat()) for f in case.files if f.exists()]
    sources = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    rules = [FORMAT, dataset.name, dataset.classes, dict(dataset.intensity), dict(dataset.codes)]
    if dataset.longest_side:
        rules.append(dataset.longest_side)
    if dataset.slices_apart:
        rules.append("slices apart")
    if dataset.at_scale_of is not None:
        rules += [dataset.at_scale_of.trained_side, dataset.at_scale_of.spacing]
    text = json.dumps([rules, sources], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _planes(sample: Sample, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Image float16 [D, C, H, W] and truth uint8 [D, H, W] of a picture or volume."""
    image, truth = sample.image, sample.mask
    if not sample.volume:
        image, truth = image[None], truth[None]
    elif dataset.intensity["rule"] == "zscore" and not dataset.slices_apart:
        # The surroundings of a skull-stripped brain are empty, often most of the volume.
        box = _box((image != 0).any(-1) | (truth > 0))
        image, truth = image[box], truth[box]
    height, width = truth.shape[1:]
    if min(height, width) < SMALLEST:
        raise InputError(
            f"{sample.case.images[0]}: slices of {height} x {width} pixels; at least {SMALLEST} x "
            f"{SMALLEST} are needed"
        )
    rule = Intensity(**dataset.intensity)
    scaled = np.stack([rule(plane) for plane in image]) if dataset.slices_apart else rule(image)
    return scaled.transpose(0, 3, 1, 2).astype(np.float16), truth


def _box(inside: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around ``inside`` with planes of at least SMALLEST pixels."""
    box = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        at = np.flatnonzero(inside.any(others))
        first, last = (int(at[0]), int(at[-1]) + 1) if at.size else (0, inside.shape[axis])
        if axis > 0:
            first = max(0, min(first, last - SMALLEST))
            last = min(inside.shape[axis], max(last, first + SMALLEST))
        box.append(slice(first, last))
    return tuple(box)
