"""Sets of pixels with values, as runs: small in memory, small as text, quick to compare.

What an annotator paints and what a model changes hangs together: a run of neighbours in a row with
one value takes a few bytes, however long it is.
"""

import base64
import zlib
from dataclasses import dataclass

import numpy as np


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
        return np.arange(total) + np.repeat(self.starts - (ends - self.lengths), self.lengths)

    def column(self, number: int) -> np.ndarray:
        """One of the values, for every pixel: [n]."""
        return np.repeat(self.values[number], self.lengths)

    @property
    def nbytes(self) -> int:
        """The memory that the runs take."""
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
    """A number for pixels with values, such that the numbers of disjoint sets add up (mod 2**64).

    0 counts as no pixel. The sum over a mask is its digest, and a change of a few pixels changes
    it by their weights: nothing has to be read twice.
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
