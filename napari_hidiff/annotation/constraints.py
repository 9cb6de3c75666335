"""What a re-refinement may change in a mask that an annotator is correcting.

A network that answers a stroke also redraws places that nobody asked about. Changes come in
8-connected components; a guard keeps a component or leaves it as it was. Fixed pixels are not the
guards' business: no mask changes them (:mod:`napari_hidiff.annotation.undo`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

REACH = 3
"""Pixels between a stroke and a change that still counts as near it."""

MARGIN = 0.3
"""The lead of a new label over the old one from which a change is no toss-up: on validation images
it halves the answers that do harm (docs/interactive.md has what it costs where)."""

EIGHT = np.ones((3, 3), bool)
"""Neighbours of a pixel in a component: all eight."""


class Local(NamedTuple):
    """What to refine of an image: the surroundings of some pixels.

    where : bool [H, W], what was painted. standing : float32 [K, H, W], the probability that
    stays everywhere else, and that the new one fades into.
    """

    where: np.ndarray
    standing: np.ndarray


@dataclass(frozen=True)
class Guards:
    """Which changes are kept; none is dropped by default.

    near : only components of change that touch the strokes, or lie within so many pixels of them;
        None = everywhere, as where there is no stroke at all.
    certain : only components in which the model is surer of the new labels than it was of the old
        ones: the mean probability of the new labels is higher than that of the old labels in the
        probability that the mask came from.
    margin : only pixels in which the new label is more probable than the old one by at least
        this, in 0..1: places about which the model is in two minds stay as they are.
    """

    near: int | None = None
    certain: bool = False
    margin: float = 0.0

    def __call__(
        self,
        before: np.ndarray,
        after: np.ndarray,
        strokes: np.ndarray,
        believed: np.ndarray,
        probability: np.ndarray,
    ) -> np.ndarray:
        """``after`` [H, W] with the components of change that are not kept as in ``before``.

        before, after : integer [H, W]. strokes : bool [H, W], what was painted since the mask was
        last written. believed, probability : float [K, H, W] behind ``before`` and ``after``.
        """
        if self.margin > 0:
            lead = of_labels(probability, after) - of_labels(probability, before)
            after = np.where(lead >= self.margin, after, before)
        if self.near is None and not self.certain:
            return after
        changes, count = ndimage.label(before != after, EIGHT)
        if not count:
            return after
        kept = np.ones(count + 1, bool)
        if self.near is not None and strokes.any():
            reached = np.unique(changes[around(strokes, self.near + 1)])
            kept &= np.isin(np.arange(count + 1), reached)
        if self.certain:
            gain = of_labels(probability, after) - of_labels(believed, before)
            kept[1:] &= ndimage.sum(gain, changes, np.arange(1, count + 1)) > 0
        kept[0] = True
        return np.where(kept[changes], after, before)


def around(strokes: np.ndarray, reach: int) -> np.ndarray:
    """Pixels bool [H, W] within ``reach`` pixels of a stroke (there is one), itself among them."""
    return np.asarray(ndimage.distance_transform_edt(~strokes)) <= reach


def of_labels(probability: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The probability [H, W] that a distribution [K, H, W] gives to the labels of a mask."""
    if len(probability) == 1:
        return np.where(mask > 0, probability[0], 1 - probability[0])
    return np.take_along_axis(probability, mask[None].astype(np.int64), 0)[0]
