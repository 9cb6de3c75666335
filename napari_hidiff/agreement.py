"""How far two masks of one image agree, class by class, and where they do not.

Masks are compared by their labels; :func:`compare` is all that a window or a command calls. Where
they differ is shown by a map; the places worth a visit are those that differ by more than the
tolerance, so that two outlines drawn a pixel apart are one opinion, not a thousand places.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from napari_hidiff.errors import InputError
from napari_hidiff.io.record import named
from napari_hidiff.io.registry import Labelled
from napari_hidiff.io.storage import write_table
from napari_hidiff.masks import dice, difference
from napari_hidiff.surfaces import ROUNDING, TOLERANCE, hd95, nsd, surface_distances

COLUMNS = ("label", "class", "first", "second", "Dice", "NSD", "distance", "HD95", "unit")
"""Of a table; in a file the two masks, their raters and the tolerance come first."""
PAIR = ("first file", "second file", "first rater", "second rater", "tolerance")
PIXELS, MM = "px", "mm"
SIZES = 1e-3
"""Share by which pixel sizes of two files may differ: formats round them."""


class Agreement(NamedTuple):
    """How far two masks agree in one class.

    label, name : of the class. first, second : pixels, or voxels, in either mask.
    dice : 0..1. nsd : 0..1, the share of both surfaces that lies within the tolerance of the other.
    distance, hd95 : mean and HD95 of the distances of each surface from the other, in ``unit`` (mm
    or px); None where one mask has no pixel.
    """

    label: int
    name: str
    first: int
    second: int
    dice: float
    nsd: float
    distance: float | None
    hd95: float | None
    unit: str


class Place(NamedTuple):
    """A connected part in which two masks differ by more than the tolerance.

    position : of its pixel nearest to its middle. pixels : how many it has. kind : REMOVED where
    only the first mask is there, ADDED only the second, RELABELLED both with other labels.
    extent : pixels along its longest side.
    """

    position: tuple[int, ...]
    pixels: int
    kind: int
    extent: int


class Comparison(NamedTuple):
    """What :func:`compare` finds.

    rows : every class that either mask has. kinds : uint8 of the masks' shape, as of
    :func:`napari_hidiff.masks.difference`. places : the largest first. unit : of distances and of
    the tolerance. notes : lines that the reader should know.
    """

    rows: list[Agreement]
    kinds: np.ndarray
    places: list[Place]
    unit: str
    tolerance: float
    notes: list[str]


def compare(
    first: Labelled,
    second: Labelled,
    tolerance: float = TOLERANCE,
    names: tuple[str, str] = ("the first mask", "the second mask"),
) -> Comparison:
    """Compare two masks of one image, integers of the same shape, two or three axes.

    tolerance : distance in mm, or in pixels where neither mask has a spacing, at which surfaces
    still agree. names : of the masks, for what is said about them.

    Raises
    ------
    InputError : in one line: other shapes, other pixel sizes, a tolerance below 0.
    """
    spacing = check_pair(first, second, names)
    if not tolerance >= 0:
        raise InputError(f"a tolerance is 0 or more, not {tolerance:g}")
    one, other = np.asarray(first.mask), np.asarray(second.mask)
    labels = np.union1d(one, other)
    classes = named(first.classes or second.classes, int(labels.max(initial=0)) + 1)
    unit = PIXELS if spacing is None else MM
    rows, far = [], np.zeros(one.shape, bool)
    for label in map(int, labels[labels > 0]):
        mine, theirs = one == label, other == label
        rows.append(_agreement(label, classes[label].name, mine, theirs, spacing, tolerance, unit))
        far |= _beyond(mine, theirs, spacing, tolerance)
    kinds, _ = difference(one, other)
    notes = [] if spacing else ["No pixel size in mm is known: pixels are counted."]
    return Comparison(
        rows, kinds, _places(kinds, far), unit, tolerance, notes + _other_names(first, second)
    )


def cells(row: Agreement) -> list[str]:
    """A row of the table; empty where there is no distance."""
    scores = [f"{score:.3f}" for score in (row.dice, row.nsd)]
    distances = ["" if d is None else f"{d:.3g}" for d in (row.distance, row.hd95)]
    return [
        str(row.label),
        row.name,
        str(row.first),
        str(row.second),
        *scores,
        *distances,
        row.unit,
    ]


def write_agreement(path: Path, found: Iterable[tuple[Sequence[str], Agreement]]) -> None:
    """Write rows, each with the cells of :data:`PAIR`, as a .csv file; InputError if it cannot be
    written."""
    write_table(path, (*PAIR, *COLUMNS), ((*pair, *cells(row)) for pair, row in found))


def check_pair(
    first: Labelled, second: Labelled, names: tuple[str, str]
) -> tuple[float, ...] | None:
    """The spacing of both masks, or of the one that has it; InputError if they cannot be compared,
    as :func:`compare`."""
    one, other = first.mask.shape, second.mask.shape
    if len(one) not in (2, 3):
        raise InputError(f"{names[0]} has {len(one)} axes; pictures and volumes are compared.")
    if one != other:
        raise InputError(
            f"Two masks of one image have one shape: {names[0]} has {one}, {names[1]} {other}."
        )
    if first.spacing and second.spacing and not np.allclose(first.spacing, second.spacing, SIZES):
        sizes = [" x ".join(f"{side:g}" for side in one.spacing or ()) for one in (first, second)]
        raise InputError(
            f"Other pixel sizes: {names[0]} has {sizes[0]} mm, {names[1]} {sizes[1]} mm."
        )
    return first.spacing or second.spacing


def _other_names(first: Labelled, second: Labelled) -> list[str]:
    """A line where the masks call a label by different names."""
    pairs = zip(first.classes or (), second.classes or (), strict=False)
    other = [
        f"{label} is {mine.name} in one and {theirs.name} in the other"
        for label, (mine, theirs) in enumerate(pairs)
        if label and mine.name != theirs.name
    ]
    return [f"Compared by number, but label {'; label '.join(other)}."] if other else []


def _agreement(
    label: int,
    name: str,
    mine: np.ndarray,
    theirs: np.ndarray,
    spacing: Sequence[float] | None,
    tolerance: float,
    unit: str,
) -> Agreement:
    """The row of a class that is in one of the masks at least; mine, theirs : bool."""
    counts = int(mine.sum()), int(theirs.sum())
    distances = surface_distances(mine, theirs, spacing) if all(counts) else None
    return Agreement(
        label,
        name,
        *counts,
        dice(mine, theirs),
        nsd(mine, theirs, tolerance, spacing, distances),
        None if distances is None else float(np.concatenate(distances).mean()),
        None if distances is None else hd95(mine, theirs, spacing, distances),
        unit,
    )


def _beyond(
    mine: np.ndarray, theirs: np.ndarray, spacing: Sequence[float] | None, tolerance: float
) -> np.ndarray:
    """Pixels of either mask farther than the tolerance from the other; bool, as the masks."""
    either: np.ndarray = mine | theirs
    if not (mine.any() and theirs.any()):
        return either
    beyond = np.zeros(mine.shape, bool)
    box = ndimage.find_objects(either.astype(np.uint8))[0]
    for there, other in ((mine[box], theirs[box]), (theirs[box], mine[box])):
        distance = ndimage.distance_transform_edt(~other, sampling=spacing)
        beyond[box] |= there & (distance > tolerance + ROUNDING)
    return beyond


def _places(kinds: np.ndarray, far: np.ndarray) -> list[Place]:
    """The connected parts of each kind among the pixels ``far``; pixels touch at corners too."""
    found = []
    for kind in map(int, np.unique(kinds[far])):
        parts, count = ndimage.label((kinds == kind) & far, np.ones((3,) * kinds.ndim))
        for number, box in enumerate(ndimage.find_objects(parts, count), 1):
            inside = np.argwhere(parts[box] == number)
            middle = ((inside - inside.mean(0)) ** 2).sum(1).argmin()
            position = inside[middle] + [side.start for side in box]
            extent = max(side.stop - side.start for side in box)
            found.append(Place(tuple(map(int, position)), len(inside), kind, extent))
    return sorted(found, key=lambda place: (-place.pixels, place.position))
