"""A list of images in a text file, each with its own prior and fixed pixels."""

from pathlib import Path
from typing import NamedTuple

from napari_hidiff.errors import InputError


class Listed(NamedTuple):
    """A line of a list: an image, its prior and its fixed pixels, if the line names them."""

    image: Path
    prior: Path | None = None
    fixed: Path | None = None


def read_list(file: Path) -> list[Listed]:
    """The images that a text file names, one a line: image, tab, prior, tab, fixed pixels.

    The last two may be missing or empty. Relative names start at the list's folder; empty lines
    and lines that begin with # are left out. Raises InputError for a list that cannot be read, is
    empty, names an image twice, or has more columns.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"{file}: the list cannot be read: {reason}") from error
    found: dict[Path, Listed] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        names = [name.strip() for name in line.split("\t")]
        if len(names) > 3 or not names[0]:
            raise InputError(
                f"{file}, line {number}: wanted an image, and after tabs its prior and its fixed "
                "pixels"
            )
        paths = [file.parent / name if name else None for name in names] + [None, None]
        image = file.parent / names[0]
        if image in found:
            raise InputError(f"{file}, line {number}: {image} is in the list already")
        found[image] = Listed(image, *paths[1:3])
    if not found:
        raise InputError(f"{file}: the list names no images")
    return list(found.values())
