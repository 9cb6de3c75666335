"""Large images in tiles, and the surroundings of a stroke as one tile.

Everything here is in pixels of the padded image, whose sides are multiples of 32. Tiles start on
the grid of the X-Former's windows, so that a token attends to the same tokens in a tile as in the
whole image. Two windows of halo hide from the refiner where a tile ends: one because tokens of a
window know each other, one for what convolutions see beyond it. Tiled and untiled are then equal up
to rounding (with one window they differ in about one pixel of a thousand). The segmentor gets one:
tiles are exact for one that sees no farther than that, as our U-Net.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.inference.card import LocalRegion
from napari_hidiff.networks.blocks import WINDOW
from napari_hidiff.networks.segmentor import MULTIPLE, pad_to_multiple

GRID = MULTIPLE * WINDOW
"""Pixels of an attention window: 256."""
HALO, SEGMENTOR_HALO = 2 * GRID, GRID
"""Pixels around a tile that are computed and thrown away: by the refiner, by the segmentor."""
SIDE = 4 * GRID
"""Pixels of a side of what is kept of a tile."""
WHOLE = 2048**2
"""An image of up to so many pixels is one tile."""

Area = tuple[slice, slice]
"""Rows and columns."""


def pixels(area: Area) -> int:
    """How many pixels an area has."""
    return math.prod(side.stop - side.start for side in area)


class Tile(NamedTuple):
    """outer : the area that is computed; inner : the part of it that is kept."""

    outer: Area
    inner: Area

    @property
    def kept(self) -> Area:
        """``inner`` as an area of a result for ``outer``."""
        rows, columns = (
            slice(i.start - o.start, i.stop - o.start)
            for i, o in zip(self.inner, self.outer, strict=True)
        )
        return rows, columns


def cut(height: int, width: int, halo: int) -> list[Tile]:
    """Tiles whose inner parts are the whole image, once; one tile if it is small enough."""
    if height * width <= WHOLE:
        everything = slice(0, height), slice(0, width)
        return [Tile(everything, everything)]
    pairs = product(_spans(height, halo), _spans(width, halo))
    return [Tile((rows[0], columns[0]), (rows[1], columns[1])) for rows, columns in pairs]


def _spans(side: int, halo: int) -> Iterator[tuple[slice, slice]]:
    for start in range(0, side, SIDE):
        stop = min(start + SIDE, side)
        yield slice(max(0, start - halo), min(side, stop + halo)), slice(start, stop)


class LocalTile(NamedTuple):
    """One tile for a whole refinement, in the padded image.

    weight : float32 [h, w] of the inner part, how much the new probability counts there.
    standing : float32 [1, K, H', W'], what it counts against, and what stays elsewhere.
    """

    tile: Tile
    weight: Tensor
    standing: Tensor


def surroundings(local: LocalRegion, reach: int, fade: int) -> LocalTile | None:
    """The tile around the marked pixels; None where nothing is marked, or where most of the image
    would have to be computed anyway.

    The weight is 1 within ``reach`` pixels of the box around them, and falls to 0 over ``fade`` of
    the next ones.
    """
    if not local.where.any():
        return None
    where = _padded(local.where[None].astype(np.float32))[0, 0].numpy() > 0
    outer, inner, weights = [], [], []
    for axis, side in enumerate(where.shape):
        marked = np.flatnonzero(where.any(1 - axis))
        first, last = int(marked[0]), int(marked[-1])
        start, stop = max(0, first - reach - fade), min(side, last + 1 + reach + fade)
        outer.append(slice(start // GRID * GRID, min(side, -(-stop // GRID) * GRID)))
        inner.append(slice(start, stop))
        place = np.arange(start, stop)
        beyond = np.maximum(first - place, place - last).clip(0)
        weights.append(torch.from_numpy((1 - (beyond - reach) / fade).clip(0, 1)).float())
    tile = Tile((outer[0], outer[1]), (inner[0], inner[1]))
    if 2 * pixels(tile.outer) > where.size:
        return None
    rows, columns = weights
    return LocalTile(tile, rows[:, None] * columns, _padded(local.standing))


def _padded(x: np.ndarray) -> Tensor:
    """[C, H, W] as a tensor [1, C, H', W']."""
    return pad_to_multiple(torch.from_numpy(x)[None])
