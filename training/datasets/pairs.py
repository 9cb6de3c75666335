"""Images and masks that belong together because their files have the same stem."""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from napari_hidiff.errors import InputError
from napari_hidiff.io.images import IMAGES
from napari_hidiff.io.nifti import stem

from .sample import Case


def paired(
    images: Path,
    masks: Path,
    suffixes: Collection[str] = IMAGES,
    prefix: str = "",
    ending: re.Pattern[str] | None = None,
) -> list[Case]:
    """A case per stem found in either folder, by name; its id (and group) is prefix and stem.

    ``ending``: what the stem of a mask may have behind that of its image.

    An image without mask, or a mask without image, is a case too: loading it says which file is
    missing.  InputError for an empty folder and for two files of one stem.
    """
    pictures = by_stem(images, suffixes)

    def of_image(path: Path) -> str:
        name = stem(path)
        return name if ending is None or name in pictures else ending.sub("", name)

    truths = by_stem(masks, suffixes, of_image)
    return [
        Case(
            id=prefix + name,
            group=prefix + name,
            images=(pictures.get(name, _expected(name, pictures)),),
            mask=truths.get(name, _expected(name, truths)),
        )
        for name in sorted(pictures.keys() | truths.keys())
    ]


def by_stem(
    folder: Path, suffixes: Collection[str] = IMAGES, named: Callable[[Path], str] = stem
) -> dict[str, Path]:
    """Files of these suffixes by stem, or by another name; InputError if there are none or two of
    one name."""
    if not folder.is_dir():
        raise InputError(f"{folder}: missing")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not _is_one_of(path, suffixes):
            continue
        name = named(path)
        if name in files:
            other = files[name].name
            same = stem(path) == stem(files[name])
            why = "has the same stem" if same else f"is for {name} too; keep one of them"
            raise InputError(f"{path}: {other} {why}")
        files[name] = path
    if not files:
        raise InputError(f"{folder}: empty; wanted are files of {', '.join(sorted(suffixes))}")
    return files


def holds(folder: Path, suffixes: Collection[str] = IMAGES) -> bool:
    """Whether a folder is there and has a file of one of these suffixes."""
    return folder.is_dir() and any(_is_one_of(path, suffixes) for path in folder.iterdir())


def _is_one_of(path: Path, suffixes: Collection[str]) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and path.name.lower().endswith(tuple(suffixes)) and path.is_file()


def _expected(name: str, files: dict[str, Path]) -> Path:
    """Where the missing file of a pair is looked for: named as the others of its folder."""
    known, other = next(iter(files.items()))
    return other.with_name(name + other.name[len(known) :])
