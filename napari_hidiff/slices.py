"""Where a slice lies in a mask of more axes, and where two slices meet."""

from collections.abc import Iterable

Index = tuple[int, ...]
"""A slice of a mask with n axes: a position per axis, -1 on the two axes that are shown."""

Place = tuple[int | slice, ...]


def slicer(index: Index) -> Place:
    """What to index an array with to get the slice ``index`` as a view [H, W]."""
    return tuple(slice(None) if at < 0 else at for at in index)


def shown(shape: Iterable[int], index: Index) -> tuple[int, ...]:
    """The size [H, W] of a slice of a mask of this shape."""
    return tuple(size for size, at in zip(shape, index, strict=True) if at < 0)


def meeting(one: Index, other: Index) -> tuple[Place, Place] | None:
    """Where two slices that show different axes meet: what to index each of them [H, W] with.

    None where they do not meet, or are parallel.
    """
    if [at < 0 for at in one] == [at < 0 for at in other]:
        return None
    pairs = list(zip(one, other, strict=True))
    if any(a >= 0 and b >= 0 and a != b for a, b in pairs):
        return None
    here = tuple(slice(None) if b < 0 else b for a, b in pairs if a < 0)
    there = tuple(slice(None) if a < 0 else a for a, b in pairs if b < 0)
    return here, there
