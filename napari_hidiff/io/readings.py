"""The pixels of a file in every way that a window may have shown them: a log names only them."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io import registry
from napari_hidiff.io.extent import check_pages, check_picture
from napari_hidiff.io.images import TIFF, read_image
from napari_hidiff.io.pages import check_chain
from napari_hidiff.io.volume import Source


class Reading(NamedTuple):
    """array : an image as a layer held it. source : what is known of its file, if anything."""

    array: np.ndarray
    source: Source | None


def readings(path: Path) -> Iterator[Reading]:
    """Every reading of a file or folder, the likeliest first; two of them may be the same.

    A volume of several channels comes with them in front, as its layer has it, and behind.

    Raises
    ------
    InputError : names the file; no reader can read it.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    kind = registry.kind_of(path)
    if kind in registry.VOLUMES:
        ways = [_volume]
    elif path.suffix.lower() == ".npy":
        ways = [_stored]
    else:
        ways = [_picture, _stored, *([_volume] if kind == "tiff" else [])]
    refused = []
    for way in ways:
        try:
            yield from way(path)
        except InputError as error:
            refused.append(error)
    if len(refused) == len(ways):
        raise refused[0]


def _volume(path: Path) -> Iterator[Reading]:
    volume = registry.read(path)
    yield Reading(registry.as_layer(volume)[0], volume.source)
    if volume.array.ndim > 3:
        yield Reading(volume.array, volume.source)


def _picture(path: Path) -> Iterator[Reading]:
    """As this package reads pictures: colours are RGB, channels come last."""
    yield Reading(read_image(path), registry.source_of(path))


def _stored(path: Path) -> Iterator[Reading]:
    """As napari's own reader does: bits, print colours and the planes of a TIFF as they are."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            # a map fails where the file is shorter than its header says
            array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
        elif suffix in TIFF:
            with tifffile.TiffFile(path) as tiff:
                check_chain(tiff)
                check_pages(path, tiff.series[0])
                array = tiff.asarray()
        else:
            with Image.open(path) as picture:
                check_picture(path, picture)
                array = np.array(picture)
    except InputError:
        raise
    except Exception as error:  # damaged bytes raise many kinds
        raise InputError(f"{path}: cannot be read: {first_line(error)}") from error
    yield Reading(array, registry.source_of(path))
