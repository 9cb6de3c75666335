"""Label masks in NumPy: sets of pixels, uncertainty, differences, Dice, slices.

:class:`Runs` are sets of pixels with values, run-length encoded: small in memory, small as text,
quick to compare. Strokes and changes are connected, so a run of equal neighbours in a row takes a
few bytes however long it is.

:class:`Changes` counts where two masks differ. :func:`dice` is the only score that the program
itself prints; a full evaluation is ``napari-hidiff-evaluate``. An :data:`Index` is the place of a
slice in a mask of more axes. A :class:`Box` is drawn around an object.
"""

import base64
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from napari_hidiff.errors import InputError

FREE = -1
"""The value of a free pixel in a fixed map."""
LABELS = 256
"""How many labels a mask can have, background included."""
EPSILON = 1e-6
"""Distance of priors and y0_hat from 0 and 1, which avoids 0/0 in equation (7)."""
DARK = 255
"""The label of the dark dashes of an outline."""
DASH = 3
"""Pixels of a dash, along rows and columns."""
SAME, ADDED, REMOVED, RELABELLED = range(4)
"""The values of :func:`difference`."""


@dataclass(frozen=True)
class Label:
    """One label value of a mask: its name and its colour ``#rrggbb``."""

    name: str
    color: str


class Box(NamedTuple):
    """A rectangle of pixels around an object, ``mask[y0:y1, x0:x1]``: y1 and x1 are outside."""

    y0: int
    x0: int
    y1: int
    x1: int

    @classmethod
    def parse(cls, text: str) -> "Box":
        """A box as it is written in a command, ``Y0,X0,Y1,X1``; InputError for anything else."""
        try:
            y0, x0, y1, x1 = map(int, text.split(","))
        except ValueError:
            raise InputError(
                f"a box is four whole numbers of pixels, Y0,X0,Y1,X1, not {text!r}"
            ) from None
        return cls(y0, x0, y1, x1)

    @classmethod
    def around(cls, mask: np.ndarray) -> "Box":
        """The smallest box that holds all pixels > 0 of a mask [H, W], which must have some."""
        sides = (np.flatnonzero((mask > 0).any(axis)) for axis in (1, 0))
        (y0, y1), (x0, x1) = ((int(side[0]), int(side[-1]) + 1) for side in sides)
        return cls(y0, x0, y1, x1)

    def check(self, size: tuple[int, int]) -> None:
        """InputError if it holds no pixel, or is not inside an image of size (H, W)."""
        height, width = size
        if not (0 <= self.y0 < self.y1 <= height and 0 <= self.x0 < self.x1 <= width):
            raise InputError(
                f"the box {','.join(map(str, self))} does not fit: 0 <= Y0 < Y1 <= {height} and "
                f"0 <= X0 < X1 <= {width} are needed"
            )


@dataclass(frozen=True)
class Runs:
    """Pixels in runs of neighbours with the same values.

    starts : int64 [R], the flat position of each run's first pixel, rising.
    lengths : int32 [R]. values : any number of integer arrays [R], one value per run each.
    """

    starts: np.ndarray
    lengths: np.ndarray
    values: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, index: np.ndarray, *values: np.ndarray) -> "Runs":
        """Runs of pixels: index int [n], flat positions, rising; values : integer arrays [n]."""
        new = np.ones(index.size, bool)
        new[1:] = np.diff(index) != 1
        for column in values:
            new[1:] |= column[1:] != column[:-1]
        first = np.flatnonzero(new)
        lengths = np.diff(first, append=index.size).astype(np.int32)
        return cls(index[first].astype(np.int64), lengths, tuple(v[first] for v in values))

    @property
    def index(self) -> np.ndarray:
        """The flat positions, int64 [n]."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        total = int(ends[-1]) if ends.size else 0
        array: np.ndarray = np.arange(total) + np.repeat(
            self.starts - (ends - self.lengths), self.lengths
        )
        return array

    def column(self, number: int) -> np.ndarray:
        """One of the values, for every pixel: [n]."""
        return np.repeat(self.values[number], self.lengths)

    @property
    def nbytes(self) -> int:
        """Memory of the runs in bytes."""
        return sum(part.nbytes for part in (self.starts, self.lengths, *self.values))


def pack(index: np.ndarray, values: np.ndarray) -> str:
    """Pixels as a short text of printable ASCII.

    index : int [n], flat positions, rising. values : integers [n] in 0..2**31 - 1.
    """
    runs = Runs.of(index, values)
    gaps = runs.starts.copy()
    gaps[1:] -= (runs.starts + runs.lengths)[:-1]
    rows = np.stack([gaps, runs.lengths, runs.values[0]]).astype("<u4")
    # Most high bytes are 0: side by side they pack to nothing.
    planes = rows.view(np.uint8).reshape(3, -1, 4).transpose(0, 2, 1)
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def of_mask(mask: np.ndarray) -> str:
    """The labels of a mask, integers of any shape, that are not 0, packed."""
    where = np.flatnonzero(mask)
    return pack(where, mask.ravel()[where])


def unpack(text: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`pack`: index int64 [n] and values int64 [n].

    Raises
    ------
    ValueError : the text is damaged, or a pixel lies outside 0..``size`` - 1.
    """
    try:
        planes = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), np.uint8)
    except zlib.error as error:
        raise ValueError(f"packed pixels are damaged ({error})") from error
    if planes.size % 12:
        raise ValueError("packed pixels are damaged (their length)")
    rows = np.ascontiguousarray(planes.reshape(3, 4, -1).transpose(0, 2, 1)).view("<u4")[..., 0]
    gaps, lengths, values = rows.astype(np.int64)
    ends = np.cumsum(gaps + lengths)
    if ends.size and ends[-1] > size:
        raise ValueError("packed pixels lie outside the image")
    runs = Runs(ends - lengths, lengths, (values,))
    return runs.index, runs.column(0)


def weight(index: np.ndarray, values: np.ndarray) -> int:
    """An additive hash of pixels with values: hashes of disjoint sets add up (mod 2**64).

    A pixel of value 0 adds nothing. The sum over a mask is its digest; a change of a few pixels
    changes it by their weights, without reading the whole mask.
    """
    with np.errstate(over="ignore"):
        z = (index.astype(np.uint64) << np.uint64(16)) | (
            values.astype(np.uint64) & np.uint64(0xFFFF)
        )
        # The finaliser of SplitMix64 (Steele et al. 2014): every bit depends on every other.
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
        return int(z[np.asarray(values) != 0].sum(dtype=np.uint64))


def check_labels(values: np.ndarray, labels: int, what: str) -> None:
    """Check that ``values``, integers of any shape, lie in 0..labels - 1.

    Raises
    ------
    InputError : another label; the line has ``what``, the label and its number of pixels.
    """
    outside = values[(values >= labels) | (values < 0)]
    if outside.size:
        label = int(outside[0])
        count = int(np.count_nonzero(values == label))
        raise InputError(
            f"{what} holds label {label} in {count} pixel{'s' * (count > 1)}, but the model knows "
            f"0 to {labels - 1}: give them one of its labels."
        )


def mask_of(probability: np.ndarray, axis: int = -3) -> np.ndarray:
    """uint8 [..., H, W] from float [..., K, H, W]: >= .5 for K = 1, else the argmax.

    axis : that of the K classes; 0 for a volume [K, D, H, W].
    """
    one = probability.shape[axis] == 1
    mask = probability.take(0, axis) >= 0.5 if one else probability.argmax(axis)
    return np.asarray(mask, np.uint8)


def entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy in nats of each pixel's class distribution [K, H, W], float32 [H, W]."""
    p = np.concatenate([1 - probability, probability]) if len(probability) == 1 else probability
    p = p.clip(EPSILON, 1)
    return np.asarray(-(p * np.log(p)).sum(0), np.float32)


class Changes(NamedTuple):
    """Numbers of changed pixels: background to a label, to background, label to label."""

    added: int
    removed: int
    relabelled: int


def difference(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, Changes]:
    """The difference of two masks [H, W].

    Returns a map uint8 [H, W] of SAME, ADDED, REMOVED and RELABELLED, and the counts.
    """
    kind = np.where(before == 0, ADDED, np.where(after == 0, REMOVED, RELABELLED))
    kinds = np.where(before != after, kind, SAME).astype(np.uint8)
    counts = np.bincount(kinds.ravel(), minlength=4)
    return kinds, Changes(*(int(count) for count in counts[ADDED:]))


def dashed_outlines(mask: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """The outlines of the regions of a mask [H, W], one pixel wide, in dashes: uint8 [H, W].

    Every other dash is ``bright`` [H, W], 1..254, the ones between are :data:`DARK`: one of both is
    seen on any image. 0 elsewhere.
    """
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    edge = (inner > 0) & np.any([inner != one for one in neighbours], axis=0)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    dark = (rows + columns) // DASH % 2 == 1
    return np.where(edge, np.where(dark, DARK, bright), 0).astype(np.uint8)


def dice(mask: np.ndarray, truth: np.ndarray, label: int | None = None) -> float:
    """Dice coefficient ``2 |A & B| / (|A| + |B|)`` of two masks of one shape, in [0, 1].

    label: compare the pixels of this class; None compares everything that is not background (0).
    Two empty sets are equal: 1.0.  Raises ValueError if the shapes differ.
    """
    mask, truth = np.asarray(mask), np.asarray(truth)
    if mask.shape != truth.shape:
        raise ValueError(f"shapes differ: {mask.shape} and {truth.shape}")
    a, b = (mask != 0, truth != 0) if label is None else (mask == label, truth == label)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def mean_dice(mask: np.ndarray, truth: np.ndarray, labels: int) -> float:
    """Mean of :func:`dice` over the foreground classes ``1..labels-1``."""
    return float(np.mean([dice(mask, truth, label) for label in range(1, labels)]))


Index = tuple[int, ...]
"""A slice of a mask with n axes: a position per axis, -1 on the two axes that are shown."""

Place = tuple[int | slice, ...]


def slicer(index: Index) -> Place:
    """The NumPy index that gives the slice ``index`` as a view [H, W]."""
    return tuple(slice(None) if at < 0 else at for at in index)


def shown(shape: Iterable[int], index: Index) -> tuple[int, ...]:
    """The size [H, W] of a slice of a mask of this shape."""
    return tuple(size for size, at in zip(shape, index, strict=True) if at < 0)


def meeting(first: Index, second: Index) -> tuple[Place, Place] | None:
    """The shared pixels of two slices of different axes, as a NumPy index into each [H, W].

    None for slices that do not meet, or are parallel.
    """
    if [at < 0 for at in first] == [at < 0 for at in second]:
        return None
    pairs = list(zip(first, second, strict=True))
    if any(a >= 0 and b >= 0 and a != b for a, b in pairs):
        return None
    here = tuple(slice(None) if b < 0 else b for a, b in pairs if a < 0)
    there = tuple(slice(None) if a < 0 else a for a, b in pairs if b < 0)
    return here, there


def typical_half_width(mask: np.ndarray) -> float | None:
    """Half the typical width of the labelled regions of a mask [H, W] in pixels, or None.

    It is the median, over the ridges of the labelled regions, of the distance to their border.
    """
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(mask > 0, 1))
    ridge = (depth > 0) & (depth >= ndimage.maximum_filter(depth, 3))
    return float(np.median(depth[ridge])) if ridge.any() else None
