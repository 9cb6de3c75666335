"""Frozen classes from one session to the next.

A sidecar has strokes and accepted masks, and a frozen class may be neither. But it neither shrinks
nor grows: the entry of the log that says that it was frozen can say for as long as it is frozen
which pixels it has.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hidiff.masks import pack, unpack
from napari_hidiff.slices import slicer

if TYPE_CHECKING:
    from napari_hidiff.annotation.annotation import Annotation

Held = list[dict[str, Any]]
"""Pixels of a class: per slice its index, ``slice``, and packed positions there, ``pixels``."""


def freeze(annotation: "Annotation", label: int, mask: np.ndarray, on: bool = True) -> None:
    """Freeze a class where it is in the whole mask, or let it go, and keep its pixels in the log.

    mask : integers of the annotation's shape.
    """
    for entry in annotation.log:  # the last one says it all
        if entry["action"] == "lock" and entry["label"] == label:
            entry.pop("held", None)
    annotation.freeze(label, mask, on)
    if on:
        annotation.log[-1]["held"] = _pixels(annotation, label)


def relock(annotation: "Annotation", log: Sequence[dict[str, Any]], mask: np.ndarray) -> None:
    """Freeze what was frozen at the end of an earlier session's ``log``, and bring its pixels back.

    annotation : gone on with (restored and begun); mask : its whole mask, which is written into.
    """
    for label, held in frozen(log).items():
        for one in held:
            index = tuple(one["slice"])
            view = mask[slicer(index)]
            where, labels = unpack(one["pixels"], view.size)
            back = annotation.session(index, view).timeline.content.copy()
            back.reshape(-1)[where] = labels
            view[...] = annotation.around_fixed(index, back)
            annotation.wrote(index, mask)
        freeze(annotation, label, mask)


def frozen(log: Sequence[dict[str, Any]]) -> dict[int, Held]:
    """The classes that are frozen at the end of a log, with their pixels; logs of older versions
    have none."""
    found: dict[int, Held] = {}
    for entry in log:
        if entry["action"] in ("open", "restore"):  # what is frozen after that is said again
            found.clear()
        elif entry["action"] == "lock":
            found.pop(entry["label"], None)
            if entry["on"]:
                found[entry["label"]] = entry.get("held", [])
    return found


def _pixels(annotation: "Annotation", label: int) -> Held:
    found = []
    for index, session in annotation.sessions.items():
        where = np.flatnonzero(session.timeline.content == label)
        if where.size:
            labels = np.full(where.size, label)
            found.append({"slice": index, "pixels": pack(where, labels)})
    return found
