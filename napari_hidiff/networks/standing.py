"""What the input convolution makes of image, prior and edits: it stands while y_t moves.

It is computed in blocks, each in one call of the same shape, so that a block has the same values
whether it is computed with all the others or alone, after an edit that touched nothing else.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hidiff.networks.segmentor import MULTIPLE

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


def inside(x: Tensor, area: Area, rim: int) -> Tensor:
    """What [B, C, H, W] has of an area with ``rim`` more pixels all around; a view."""
    rows, columns = (slice(max(0, part.start - rim), part.stop + rim) for part in area)
    return x[..., rows, columns]


def read(x: Tensor, area: Area, rim: int, beyond: float = 0) -> Tensor:
    """The same, with ``beyond`` outside the image; a view where all of it is inside."""
    pads = []
    for part, length in zip(reversed(area), reversed(x.shape[-2:]), strict=True):
        pads += [max(0, rim - part.start), max(0, part.stop + rim - length)]
    found = inside(x, area, rim)
    return F.pad(found, pads, value=beyond) if any(pads) else found


def touched(now: Tensor, before: Tensor, area: Area, rim: int) -> bool:
    """Whether two tensors [B, C, H, W] differ in an area or within ``rim`` pixels around it."""
    return not torch.equal(inside(now, area, rim), inside(before, area, rim))
