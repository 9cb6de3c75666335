"""A folder of one's own: ``images/`` with ``masks/`` (or ``labels/``), the same stem for a pair.

The stem of a mask may also end as exported masks do: ``a_mask.png`` belongs to ``a.jpg``. Either
2-D pictures or NIfTI volumes. ``classes.txt`` beside them names the classes, one per line: all
labels with ``background`` first, or the foreground classes only. Without it the largest label in
the masks gives their number. Every image is a group of its own, unless a split file or
``groups.json`` (``{"stem": "group"}``) joins the slices of a volume.
"""

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io.images import IMAGES, JPEG, read_image, read_mask
from napari_hidiff.io.nifti import SUFFIXES, is_nifti, read_volume

from .base import RGB, Case, Dataset, DatasetFormat, palette, read_nifti, read_picture
from .splits import paired, random_split

MOST_LABELS = 64
IMAGE_FOLDERS, MASK_FOLDERS = ("images",), ("masks", "labels")
"""Names of the folders, in small letters."""


def open_folder(root: Path, seed: int = 0, rule: str = "random") -> Dataset:
    """Pair the files by stem and deal them 70 / 15 / 15 by ``seed``.

    InputError for a fault of the folder as a whole; a bad pair is an error of its loading.
    """
    from napari_hidiff.io.registry import MASK_NAME

    del rule  # there is one
    images, masks = (_the_folder(root, names) for names in (IMAGE_FOLDERS, MASK_FOLDERS))
    cases = paired(images, masks, {*IMAGES, *SUFFIXES}, ending=MASK_NAME)
    groups = _groups(root)
    cases = [replace(case, group=groups.get(case.id, case.group)) for case in cases]
    volumes = _are_volumes(root, cases)
    classes, notes = _named_classes(root) or _counted_classes(cases)
    return Dataset(
        name="folder",
        classes=classes,
        channels=_channels(cases),
        colors=palette(len(classes)),
        licence="as the owner of the folder states",
        attribution=root.resolve().name,
        splits=random_split(cases, seed),
        notes=notes,
        # As in a picture, 0 and 255 alone mean 0 and 1.
        codes={0: 0, 1: 1, 255: 1} if volumes and len(classes) == 2 else {},
        reader=read_nifti if volumes else read_picture,
    )


def _folders(root: Path, names: Collection[str]) -> list[Path]:
    """The sub-folders with one of these names, in capitals or not."""
    return [path for path in sorted(root.iterdir()) if path.name.lower() in names and path.is_dir()]


def _the_folder(root: Path, names: Collection[str]) -> Path:
    folders = _folders(root, names)
    if len(folders) > 1:
        both = " and ".join(f"{path.name}/" for path in folders)
        what = "truth" if names == MASK_FOLDERS else "images"
        raise InputError(f"{root}: both {both} are there; keep the one with the {what}")
    return folders[0]


def _groups(root: Path) -> dict[str, str]:
    path = root / "groups.json"
    if not path.is_file():
        return {}
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    if not isinstance(groups, dict) or not all(isinstance(g, str) for g in groups.values()):
        raise InputError(f'{path}: is not {{"stem": "group"}}')
    return groups


def _are_volumes(root: Path, cases: list[Case]) -> bool:
    kinds = {is_nifti(path): path for case in cases for path in (case.images[0], case.mask)}
    if len(kinds) == 2:
        raise InputError(
            f"{root}: NIfTI volumes ({kinds[True].name}) and 2-D pictures ({kinds[False].name}) "
            "are mixed; keep one kind"
        )
    return True in kinds


def _named_classes(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Class names of ``classes.txt`` and no notes, or None without the file."""
    path = root / "classes.txt"
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise InputError(f"{path}: cannot be read as text in UTF-8 ({reason})") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if names and names[0].lower() != "background":
        names = ("background", *names)
    if len(names) < 2:
        raise InputError(f"{path}: names no foreground class; write one name a line")
    if len(set(names)) < len(names):
        raise InputError(f"{path}: a class name appears twice")
    return names, ()


def _counted_classes(cases: list[Case]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names from the largest label of all masks, and a note on implausible labels.

    JPEG masks have one class.  An unreadable mask is ignored: it is an error of its loading.
    """
    largest, notes = 1, []
    for case in cases:
        if case.mask.suffix.lower() in JPEG:
            continue
        try:
            label = _largest_label(case.mask)
        except InputError:
            continue
        if label < MOST_LABELS:
            largest = max(largest, label)
        else:
            notes.append(
                f"{case.mask}: label {label}; masks hold labels 0, 1, 2 ... or 0 and 255 only "
                "(name more classes in classes.txt)"
            )
    if largest == 1:
        return ("background", "foreground"), tuple(notes)
    names = ("background", *(f"class {label}" for label in range(1, largest + 1)))
    return names, tuple(notes)


def _largest_label(path: Path) -> int:
    if not is_nifti(path):
        return int(read_mask(path).max())
    mask = read_volume(path).array
    if not np.isfinite(mask).all() or np.isin(mask, (0, 255)).all():
        return 1
    return int(mask.max())


def _channels(cases: list[Case]) -> tuple[str, ...]:
    """Channel names from the first readable image; InputError without one."""
    problem = None
    for case in cases:
        path = case.images[0]
        try:
            image = read_volume(path).array if is_nifti(path) else read_image(path)
        except InputError as error:
            problem = problem or error
            continue
        flat = 3 if is_nifti(path) else 2
        count = 1 if image.ndim == flat else image.shape[-1]
        if count == 1:
            return ("grey",)
        plain = tuple(f"channel {i + 1}" for i in range(count))
        return RGB if count == 3 and not is_nifti(path) else plain
    raise problem or InputError("no image to count the channels of")


FOLDER = DatasetFormat(
    name="folder",
    title="your own images and masks",
    folders=(),
    layout="images/NAME.png and masks/NAME.png or NAME_mask.png (or in labels/), any of png, jpg, "
    "tif, or all of them nii.gz, and optionally classes.txt",
    offered="this is a folder of your own",
    recognise=lambda root: all(_folders(root, names) for names in (IMAGE_FOLDERS, MASK_FOLDERS)),
    open=open_folder,
    rules=("random",),
)
