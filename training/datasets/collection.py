"""A folder of sets of any kind of image, for a model that segments any object it is pointed at.

Every sub-folder with ``images/`` and ``masks/`` is a set. A mask is a label map: 0 is background,
every other number a class or an object. ``cases.txt`` beside them groups images into cases (a
patient, a slide): one case per line, its name, a tab, the stems of its images; without it every
image is a case of its own. ``set.json`` may state the kind of labels, ``{"kind": "instances"}``;
without it :func:`found_kind` finds it from the masks.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io.images import IMAGES, read_image, read_mask
from napari_hidiff.io.pictures import check_turn

from .base import RGB, Case, Dataset, DatasetFormat, Sample
from .splits import holds, paired, random_split

INSTANCES, CLASSES, SINGLE = "instances", "classes", "single"
KINDS = (INSTANCES, CLASSES, SINGLE)
"""Kinds of labels: a number per object; a number per class; a single class."""

VAL_SHARE = 0.1
PERCENTILES = (0.5, 99.5)
"""Percentiles of grey values that become 0 and 255 in images of more than 8 bits."""


def open_collection(root: Path, seed: int = 0, rule: str = "by-case") -> Dataset:
    """All sets; a tenth of the cases of each validates.

    InputError for an invalid ``cases.txt`` or ``set.json``; a bad pair is an error of its loading.
    """
    del rule  # there is one
    splits: dict[str, tuple[Case, ...]] = {"train": (), "val": (), "test": ()}
    for folder in set_folders(root):
        stated_kind(folder)
        dealt = random_split(_cases(folder), seed, VAL_SHARE, 0)
        splits = {name: (*cases, *dealt[name]) for name, cases in splits.items()}
    return Dataset(
        name="collection",
        classes=("background", "object"),
        channels=RGB,
        colors=("#000000", "#ff4040"),
        licence="as the owners of the sets state",
        attribution=", ".join(folder.name for folder in set_folders(root)),
        splits=splits,
        reader=read_union,
    )


def set_folders(root: Path) -> list[Path]:
    """The sub-folders that are sets, by name."""
    return [
        path
        for path in sorted(root.iterdir())
        if path.is_dir() and holds(path / "images") and (path / "masks").is_dir()
    ]


def set_of(case: Case) -> str:
    """The name of the set of a case."""
    return case.images[0].parent.parent.name


def held_out(dataset: Dataset, names: Collection[str]) -> Dataset:
    """The data set with whole sets held out: they are val, and all others train.

    InputError for an unknown set, and if no set is left to train on.
    """
    cases = [case for split in dataset.splits.values() for case in split]
    known = {set_of(case) for case in cases}
    if unknown := sorted(set(names) - known):
        raise InputError(f"no set {unknown[0]!r} to hold out; known are {', '.join(sorted(known))}")
    if not known - set(names):
        raise InputError("every set is held out: there is nothing to train on")
    train = tuple(case for case in cases if set_of(case) not in names)
    val = tuple(case for case in cases if set_of(case) in names)
    return replace(dataset, splits={"train": train, "val": val, "test": ()})


def read_union(dataset: Dataset, case: Case) -> Sample:
    """A picture in three channels of 8 bits, and whether a pixel has any label."""
    del dataset  # the same for all sets
    image, labels = read_pair(case)
    return Sample(case, image, (labels > 0).astype(np.int32))


def read_pair(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 [H, W, 3] and its label map int32 [H, W].

    InputError names a file that is missing, has channels that are neither grey nor RGB, or does not
    fit the other.
    """
    for path in case.files:
        if not path.is_file():
            raise InputError(f"{path}: missing; case {case.id} needs it")
    image, labels = as_rgb(read_image(case.images[0]), case.images[0]), read_mask(case.mask)
    check_turn(case.images[0], case.mask, image.shape[:2], labels.shape)
    if labels.shape != image.shape[:2] or labels.min() < 0:
        raise InputError(f"{case.mask}: is not a label map of the size of {case.images[0].name}")
    return image, labels


def as_rgb(image: np.ndarray, path: Path) -> np.ndarray:
    """Any picture as uint8 [H, W, 3]; grey is repeated, alpha dropped, more bits are scaled."""
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[..., :3]
    if image.ndim == 3 and image.shape[2] != 3:
        raise InputError(f"{path}: {image.shape[2]} channels; wanted grey or RGB")
    if image.dtype != np.uint8:
        low, high = np.percentile(image, PERCENTILES)
        scaled = (image.astype(np.float32) - low) / max(high - low, 1e-6)
        image = (scaled.clip(0, 1) * 255).round().astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)


def stated_kind(folder: Path) -> str | None:
    """The kind of labels in ``set.json``, None without it; InputError if unreadable."""
    path = folder / "set.json"
    if not path.is_file():
        return None
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("kind")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f'{path}: is not {{"kind": one of {", ".join(KINDS)}}}') from error
    if kind is not None and kind not in KINDS:
        raise InputError(f"{path}: kind must be one of {', '.join(KINDS)}, not {kind!r}")
    found: str | None = kind
    return found


def found_kind(masks: Sequence[np.ndarray]) -> str:
    """The likely kind of labels of a set, from its masks int [H, W].

    ``single`` for only one label; ``instances`` if in nearly every image the labels run 1, 2, 3
    ..., and nearly every one is one connected region; else ``classes``.
    """
    present = [np.unique(mask[mask > 0]) for mask in masks]
    if max((labels.max(initial=0) for labels in present), default=0) <= 1:
        return SINGLE
    consecutive = [labels.size == labels.max(initial=0) for labels in present]
    counts = {labels.size for labels in present}
    if np.mean(consecutive) < 0.9 or len(counts) == 1:
        return CLASSES
    joined = [
        ndimage.label(mask == label, np.ones((3, 3)))[1] == 1
        for mask, labels in zip(masks, present, strict=True)
        for label in labels[:8]
    ]
    return INSTANCES if np.mean(joined) > 0.9 else CLASSES


def report(dataset: Dataset) -> list[dict[str, Any]]:
    """A row per set: name, images and cases by split, kind, largest label; bad pairs left out."""
    rows = []
    cases = [(split, case) for split, part in dataset.splits.items() for case in part]
    for name in sorted({set_of(case) for _, case in cases}):
        own = [(split, case) for split, case in cases if set_of(case) == name]
        masks = [mask for _, case in own if (mask := _readable(case)) is not None]
        folder = own[0][1].images[0].parent.parent
        rows.append(
            {
                "set": name,
                "train": sum(split == "train" for split, _ in own),
                "val": sum(split == "val" for split, _ in own),
                "cases": len({case.group for _, case in own}),
                "kind": stated_kind(folder) or found_kind(masks),
                "labels": max((int(mask.max()) for mask in masks), default=0),
            }
        )
    return rows


def _readable(case: Case) -> np.ndarray | None:
    try:
        return read_pair(case)[1]
    except InputError:
        return None


def _cases(folder: Path) -> list[Case]:
    """The pairs of a set, each in its group of ``cases.txt``."""
    pairs = paired(folder / "images", folder / "masks", IMAGES, prefix=f"{folder.name}/")
    groups = _groups(folder / "cases.txt")
    return [
        replace(case, group=f"{folder.name}/{groups.get(case.images[0].stem, case.mask.stem)}")
        for case in pairs
    ]


def _groups(path: Path) -> dict[str, str]:
    """Stem -> case, of ``cases.txt``; none without the file."""
    if not path.is_file():
        return {}
    groups: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise InputError(f"{path}: cannot be read as text in UTF-8 ({reason})") from error
    for number, line in enumerate(lines, 1):
        name, tab, stems = line.partition("\t")
        if line.strip() and not (tab and stems.split()):
            raise InputError(f"{path}, line {number}: wanted a case, a tab, and stems of images")
        groups |= dict.fromkeys(stems.split(), name)
    return groups


COLLECTION = DatasetFormat(
    name="collection",
    title="sets of any kind of image",
    folders=(),
    layout="SET/images/NAME.png with SET/masks/NAME.png for any number of sets, and optionally "
    "SET/cases.txt (case, tab, stems) and SET/set.json",
    offered="this is a folder of your own",
    recognise=lambda root: not holds(root / "images") and bool(set_folders(root)),
    open=open_collection,
    rules=("by-case",),
)
