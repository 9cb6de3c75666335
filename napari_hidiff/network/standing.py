"""What the input convolution makes of image, prior and edits: it stands while y_t moves.

It is computed in blocks, each in one call of the same shape, so that a block has the same values
whether it is computed with all the others or alone, after an edit that touched nothing else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hidiff.network.segmentor import MULTIPLE

SIDE = 256
"""Most pixels of a side of a block."""

Area = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Standing:
    """Prior and edits of an image, and what follows from them alone.

    given : [B, K + 1, H', W'], the prior and the fixed map (-1 = free), padded.
    static : what the input convolution makes of image, prior and edits, [B, width, H', W'] for the
    padded sides divided by the stem; channels last.
    residual : logits of the prior, [B, K, H, W].
    """

    given: Tensor
    static: Tensor
    residual: Tensor

    @property
    def nbytes(self) -> int:
        return self.given.nbytes + self.static.nbytes + self.residual.nbytes


def blocks(height: int, width: int, side: int = SIDE) -> list[Area]:
    """Areas of equal shape that cover an image whose sides are multiples of 32; the last of a row
    or column may reach beyond it."""
    rows, columns = (_spans(length, side) for length in (height, width))
    return [(row, column) for row in rows for column in columns]


def _spans(length: int, side: int) -> list[slice]:
    step = -(-length // (-(-length // side) * MULTIPLE)) * MULTIPLE
    return [slice(start, start + step) for start in range(0, length, step)]


def read(x: Tensor, area: Area, rim: int, beyond: float = 0) -> Tensor:
    """An area of [B, C, H, W] with ``rim`` more pixels all around; ``beyond`` outside the image."""
    (rows, columns), (height, width) = area, x.shape[-2:]
    top, left = max(0, rows.start - rim), max(0, columns.start - rim)
    inside = x[..., top : rows.stop + rim, left : columns.stop + rim]
    before = top - rows.start + rim, left - columns.start + rim
    after = (max(0, rows.stop + rim - height), max(0, columns.stop + rim - width))
    return F.pad(inside, (before[1], after[1], before[0], after[0]), value=beyond)


def touched(now: Tensor, before: Tensor, area: Area, rim: int) -> bool:
    """Whether two tensors [B, C, H, W] differ in an area or within ``rim`` pixels around it."""
    return not torch.equal(read(now, area, rim), read(before, area, rim))
