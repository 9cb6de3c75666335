"""The images of a folder, and the names of their masks: names decide, no file is opened."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from napari_hidiff.errors import InputError, refused
from napari_hidiff.io import nrrd
from napari_hidiff.io.dicom import SUFFIXES as DICOM
from napari_hidiff.io.images import IMAGES, TIFF
from napari_hidiff.io.nifti import is_nifti, stem
from napari_hidiff.io.registry import MASK_NAME


def list_images(folder: Path) -> list[Path]:
    """The images of a folder by their names, in natural order; no file is opened.

    A subfolder with DICOM files is one image, and so is the folder itself if these lie in it.
    Masks that lie among them are listed, too. Raises InputError for what is no readable folder.
    """
    found, series = [], False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = folder / entry.name
                if entry.is_dir():
                    if _holds_series(path):
                        found.append(path)
                elif path.suffix.lower() in DICOM:
                    series = True
                elif _is_image(path):
                    found.append(path)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {refused(error)}") from error
    return sorted(found, key=lambda path: natural(path.name)) + ([folder] if series else [])


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key to sort names by as people do: ``case2`` before ``case10``."""
    parts: Iterable[str] = re.split(r"(\d+)", name.casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def mask_name(image: Path, whole: bool = False) -> str:
    """The name of the file of an image's mask; whole : with the suffix of the image in it."""
    suffix = image.suffix.lower()
    if suffix in TIFF:
        kind = ".tif"
    elif suffix == ".npz":
        kind = ".npz"
    else:
        kind = ".png" if suffix in IMAGES else ".nii.gz"
    series = kind == ".nii.gz" and not is_nifti(image) and suffix not in nrrd.SUFFIXES
    base = image.name if series else stem(image)
    return f"{base}{f'_{suffix[1:]}' if whole else ''}_mask{kind}"


def free_name(path: Path) -> Path:
    """This name, or the next that no file has."""
    if not path.exists():
        return path
    end = ".nii.gz" if is_nifti(path) else path.suffix
    names = (path.with_name(f"{stem(path)}_{number}{end}") for number in range(2, 10_000))
    return next(name for name in names if not name.exists())


def _is_image(path: Path) -> bool:
    suffix, name = path.suffix.lower(), path.name.lower()
    known = suffix in (*IMAGES, *nrrd.SUFFIXES, ".npz") or is_nifti(path)
    return known and not name.endswith(".seg.nrrd")


def is_mask_name(path: Path, stems: Collection[str]) -> bool:
    """Whether a file has the name of a mask of an image that is there, such as ``case_seg``.

    stems : of the files that are there.
    """
    name = re.sub(r"_\d+$", "", stem(path))
    return MASK_NAME.search(name) is not None and MASK_NAME.sub("", name) in stems


def _holds_series(folder: Path) -> bool:
    """Whether the name of a file in a folder is one of DICOM."""
    return any(Path(name).suffix.lower() in DICOM for name in names_in(folder))


def names_in(folder: Path) -> Iterator[str]:
    """The names in a folder; none where it is missing or cannot be read."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name
