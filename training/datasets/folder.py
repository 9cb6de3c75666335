"""A folder of one's own: ``images/`` with ``masks/`` (or ``labels/``), the same stem for a pair.

``classes.txt`` beside them names the classes, one a line: either all labels with ``background``
first, or the foreground classes only.  Without it the largest label in the masks says how many
there are.  Every image is a group of its own unless a split file says otherwise.
"""

from pathlib import Path

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.io import IMAGES, JPEG, read_image, read_mask

from .base import RGB, Case, Dataset, DatasetFormat, palette
from .splits import random_split

MOST_LABELS = 64


def open_folder(root: Path, seed: int = 0) -> Dataset:
    """Pair the files by stem and deal them 70 / 15 / 15 by ``seed``; InputError for any odd one."""
    images = _by_stem(root / "images")
    masks = _by_stem(_mask_folder(root))
    for stem in sorted(images.keys() ^ masks.keys()):
        if stem in images:
            raise InputError(f"{images[stem]}: no mask of this name in {_mask_folder(root).name}/")
        raise InputError(f"{masks[stem]}: no image of this name in images/")
    cases = [Case(stem, stem, (images[stem],), masks[stem]) for stem in sorted(images)]
    classes = _classes(root, cases)
    return Dataset(
        name="folder",
        classes=classes,
        channels=_channels(cases[0].images[0]),
        colors=palette(len(classes)),
        licence="as the owner of the folder states",
        attribution=root.resolve().name,
        splits=random_split(cases, seed),
    )


def _mask_folder(root: Path) -> Path:
    found = [root / name for name in ("masks", "labels") if (root / name).is_dir()]
    if len(found) == 2:
        raise InputError(f"{root}: both masks/ and labels/ are there; keep the one with the truth")
    return found[0]


def _by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.name.lower().endswith((".nii", ".nii.gz")):
            raise InputError(f"{path}: NIfTI volumes are not read yet; store 2-D png or tif slices")
        if path.suffix.lower() not in IMAGES:
            continue
        if path.stem in files:
            raise InputError(f"{path}: {files[path.stem].name} has the same stem")
        files[path.stem] = path
    if not files:
        raise InputError(f"{folder}: empty; wanted are files of {', '.join(sorted(IMAGES))}")
    return files


def _classes(root: Path, cases: list[Case]) -> tuple[str, ...]:
    path = root / "classes.txt"
    if not path.is_file():
        return _counted_classes(cases)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text in UTF-8 ({error})") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if names and names[0].lower() != "background":
        names = ("background", *names)
    if len(names) < 2:
        raise InputError(f"{path}: names no foreground class; write one name a line")
    if len(set(names)) < len(names):
        raise InputError(f"{path}: a class name appears twice")
    return names


def _counted_classes(cases: list[Case]) -> tuple[str, ...]:
    """Class names from the largest label of all masks (JPEG masks hold one class)."""
    largest = 1
    for case in cases:
        if case.mask.suffix.lower() in JPEG:
            continue
        label = int(np.max(read_mask(case.mask), initial=0))
        if label >= MOST_LABELS:
            raise InputError(
                f"{case.mask}: label {label}; masks hold labels 0, 1, 2 ... or 0 and 255 only "
                "(name more classes in classes.txt)"
            )
        largest = max(largest, label)
    if largest == 1:
        return ("background", "foreground")
    return ("background", *(f"class {label}" for label in range(1, largest + 1)))


def _channels(path: Path) -> tuple[str, ...]:
    image = read_image(path)
    if image.ndim == 2:
        return ("grey",)
    count = image.shape[2]
    return RGB if count == 3 else tuple(f"channel {i + 1}" for i in range(count))


FOLDER = DatasetFormat(
    name="folder",
    title="your own images and masks",
    folders=(),
    layout="images/NAME.png and masks/NAME.png (or labels/NAME.png), any of png, jpg, tif, "
    "and optionally classes.txt",
    offered="this is a folder of your own",
    recognise=lambda root: (
        (root / "images").is_dir() and ((root / "masks").is_dir() or (root / "labels").is_dir())
    ),
    open=open_folder,
)
