"""Images and masks that belong together because their files have the same stem."""

from collections.abc import Collection
from pathlib import Path

from napari_hidiff.errors import InputError
from napari_hidiff.io import IMAGES
from napari_hidiff.nifti import stem

from .sample import Case


def paired(
    images: Path, masks: Path, suffixes: Collection[str] = IMAGES, prefix: str = ""
) -> list[Case]:
    """A case per stem found in either folder, by name; its id (and group) is prefix and stem.

    An image without mask, or a mask without image, is a case too: loading it says which file is
    missing.  InputError for an empty folder and for two files of one stem.
    """
    pictures, truths = by_stem(images, suffixes), by_stem(masks, suffixes)
    return [
        Case(
            id=prefix + name,
            group=prefix + name,
            images=(pictures.get(name, _expected(name, pictures)),),
            mask=truths.get(name, _expected(name, truths)),
        )
        for name in sorted(pictures.keys() | truths.keys())
    ]


def by_stem(folder: Path, suffixes: Collection[str] = IMAGES) -> dict[str, Path]:
    """Files of these suffixes by stem; InputError if there are none or two of one stem."""
    if not folder.is_dir():
        raise InputError(f"{folder}: missing")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not _is_one_of(path, suffixes):
            continue
        if stem(path) in files:
            raise InputError(f"{path}: {files[stem(path)].name} has the same stem")
        files[stem(path)] = path
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
    other = next(iter(files.values()))
    return other.with_name(name + other.name[len(stem(other)) :])
