"""The pages of a TIFF that are its picture, read without any silent loss."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from struct import error as struct_error
from struct import unpack

import tifffile

REDUCED, TRANSPARENCY = 1, 4
"""Bits of NewSubfileType: a smaller copy of another page, and a page that only masks another."""

BESIDE = frozenset({"thumbnail", "label", "macro"})
"""What tifffile calls the pages of slide scanners that show something else than the slide."""


def check_chain(tiff: tifffile.TiffFile) -> None:
    """ValueError where pages follow one another in a circle, which tifffile may not leave."""
    file, form, seen = tiff.filehandle, tiff.tiff, set[int]()
    offset = tiff.pages.first.offset
    while offset:
        if offset in seen:
            raise ValueError("its pages follow one another in a circle")
        seen.add(offset)
        try:
            file.seek(offset)
            (tags,) = unpack(form.tagnoformat, file.read(form.tagnosize))
            file.seek(offset + form.tagnosize + tags * form.tagsize)
            (offset,) = unpack(form.offsetformat, file.read(form.offsetsize))
        except (struct_error, OSError):  # where tifffile ends too
            return


def main_series(tiff: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """What a file holds, in tifffile's series of pages, without reduced copies and thumbnails.

    Lower levels of a pyramid are within their series. A file of nothing but copies holds these.
    """
    check_chain(tiff)
    series = list(tiff.series)
    aside = REDUCED | TRANSPARENCY
    kept = [
        one
        for one in series
        if not one.keyframe.subfiletype & aside and one.name.lower() not in BESIDE
    ]
    return kept or series


@contextmanager
def strict() -> Iterator[None]:
    """Make an error of what tifffile only logs as one: of a file cut off it reads what is left."""
    said: list[str] = []
    thread = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, message: logging.LogRecord) -> None:
            if message.thread == thread:
                said.append(message.getMessage())

    log, listener = tifffile.logger(), Listener(logging.ERROR)
    log.addHandler(listener)
    try:
        yield
    finally:
        log.removeHandler(listener)
    if said:
        raise ValueError(said[0].removeprefix("<").split("> ")[-1])
