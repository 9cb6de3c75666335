"""The class table of a mask file: our own record, and the tables of other programs.

The record is one JSON object with the key ``napari-hidiff``: in an extension of a NIfTI header, in
the *Info* of a TIFF, in a text chunk of a PNG, in an array of an NPZ.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_hidiff.masks import Label

NAME = "napari-hidiff"
VERSION = 1

CLASSES = "napari-hidiff-classes"
"""Key of the classes in a layer's metadata: a list of dicts with ``name`` and ``color``."""
RATER = "napari-hidiff-rater"
"""Key in a layer's metadata of who annotated it, a text."""

OTHER = ("#ffd400", "#40a0ff", "#40d060", "#ff4040", "#c060ff", "#20d0d0", "#ff80b0", "#a07040")
"""Colours of labels that have no class."""


def named(classes: Sequence[Label] | None, labels: int) -> tuple[Label, ...]:
    """A name and a colour for each of the labels 0 to ``labels - 1``, and for all classes."""
    first = tuple(classes or (Label("background", "#000000"),))
    more = range(len(first), labels)
    return first + tuple(Label(f"label {i}", OTHER[i % len(OTHER)]) for i in more)


def table(classes: Sequence[Label] | None) -> np.ndarray:
    """uint8 [256, 3]: the colour of every label; black where the background has none."""
    colours = [kind.color for kind in named(classes, 256)[:256]]
    return np.array([_rgb(colour) for colour in colours], np.uint8)


def write(
    classes: Sequence[Label],
    placement: Mapping[str, Any] | None,
    spacing: Sequence[float] | None,
    turned: bool,
    rater: str = "",
) -> str:
    """The record of a mask.

    placement : of its layer in napari, plain data.  spacing : in mm, Z, Y, X.
    turned : whether the mask's array is of a volume in canonical orientation.
    rater : who annotated it; left out where that is not known.
    """
    value: dict[str, Any] = {
        "classes": [{"name": kind.name, "color": kind.color} for kind in classes],
        "placement": dict(placement) if placement else None,
        "spacing": None if spacing is None else [float(size) for size in spacing],
        "turned": turned,
    }
    if rater:
        value["rater"] = rater
    return json.dumps({NAME: VERSION, **value})


def parse(text: Any) -> dict[str, Any] | None:
    """The record in a text or in bytes; None without a usable one."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text.strip("\0 \n")) if isinstance(text, str) else text
        if value[NAME] != VERSION:
            return None
        for kind in value["classes"]:
            _rgb(kind["color"])
            str(kind["name"])
        return dict(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def labels_of(values: Any) -> tuple[Label, ...] | None:
    """Classes from plain data of a record or a layer's metadata; None for other data."""
    try:
        found = tuple(Label(str(kind["name"]), str(kind["color"])) for kind in values)
        for kind in found:
            _rgb(kind.color)
    except (KeyError, TypeError, ValueError):
        return None
    return found or None


def rater_of(values: Mapping[str, Any] | None) -> str:
    """Who annotated a mask, by its record; empty where that is not known."""
    found = (values or {}).get("rater", "")
    return found if isinstance(found, str) else ""


def itk_snap(classes: Sequence[Label]) -> str:
    """ITK-SNAP's label descriptions (*Segmentation > Import Label Descriptions*)."""
    lines = [
        "################################################",
        "# ITK-SnAP Label Description File",
        "# File format:",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "################################################",
        '    0     0    0    0        0  0  0    "Clear Label"',
    ]
    for value, kind in enumerate(classes[1:], 1):
        red, green, blue = _rgb(kind.color)
        name = kind.name.replace('"', "'")
        lines.append(f'{value:5} {red:5} {green:4} {blue:4}        1  1  1    "{name}"')
    return "\n".join(lines) + "\n"


def slicer(classes: Sequence[Label]) -> str:
    """A colour table of 3D Slicer (.ctbl)."""
    lines = ["# Color table", f"# {len(classes)} values"]
    for value, kind in enumerate(classes):
        red, green, blue = _rgb(kind.color)
        name = "_".join(kind.name.split()) or f"label_{value}"
        lines.append(f"{value} {name} {red} {green} {blue} {255 if value else 0}")
    return "\n".join(lines) + "\n"


def _rgb(colour: str) -> tuple[int, int, int]:
    """The three bytes of ``#rrggbb``; ValueError for anything else."""
    if len(colour) != 7 or colour[0] != "#":
        raise ValueError(f"a colour is #rrggbb, not {colour!r}")
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
