"""An image, or a window of it, at another scale: the way into the network and back.

Everything that an annotator sees lives at full size: masks, probabilities, strokes. A :class:`View`
brings them to the scale that a model works at and its answers back, with every fixed pixel exactly
as it is fixed. Prompted models look through windows (:mod:`napari_hidiff.inference.prompted`),
others at the whole image, where its scale differs clearly from theirs (:func:`whole`).
"""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.inference.card import Card, LocalRegion
from napari_hidiff.inference.preprocessing import SMALLEST, soften
from napari_hidiff.masks import FREE, mask_of

Area = tuple[slice, slice]
"""Rows and columns."""

FOUND = 0.5
"""Share of a pixel from which it belongs to a class of its own."""
MOVED = 1e-4
"""Difference of two probabilities that counts as a change: more than rounding and clipping."""


def whole(card: Card, size: tuple[int, int], scale: float | None) -> "View | None":
    """The view of a whole image of ``size`` (H, W); None where it is not resampled.

    scale : as in :class:`Sampling`. A prompted model has its own windows.
    """
    scale = card.scale(size) if scale is None else scale
    if card.prompted or scale == 1:
        return None
    return View((slice(0, size[0]), slice(0, size[1])), size, scale)


def whole_at(side: int, size: tuple[int, int]) -> "View":
    """The view of a whole image of ``size`` (H, W) with ``side`` pixels on its longer side."""
    return View((slice(0, size[0]), slice(0, size[1])), size, side / max(size))


class View:
    """A window of an image of ``whole`` (H, W) pixels.

    scale : factor from its pixels to those of the network; a side has at least :data:`SMALLEST`.
    """

    def __init__(self, area: Area, whole: tuple[int, int], scale: float) -> None:
        self.area, self.whole = area, whole
        self.shape = tuple(part.stop - part.start for part in area)
        self.size = tuple(max(SMALLEST, round(length * scale)) for length in self.shape)

    def image(self, image: np.ndarray) -> np.ndarray:
        """The window float32 [h, w, C] of an image float32 [H, W, C]."""
        return _resized(image[self.area].transpose(2, 0, 1), self.size, "bicubic").transpose(
            1, 2, 0
        )

    def prior(self, prior: np.ndarray, classes: int, rule: dict[str, float]) -> np.ndarray:
        """The window float32 [K, h, w] of probabilities float [K, H, W], or of a mask [H, W] of any
        other dtype, which is softened at the network's scale.

        classes : K. rule : keyword arguments of :func:`preprocessing.soften`.
        """
        if prior.dtype.kind == "f":
            return _resized(prior[(..., *self.area)].astype(np.float32, copy=False), self.size)
        return soften(self.mask(prior, classes), classes, **rule)

    def mask(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """The window uint8 [h, w] of a mask [H, W]: of every pixel the class with most of it."""
        part = mask[self.area]
        labels = (1,) if classes == 1 else range(classes)
        onehot = np.stack([part == label for label in labels]).astype(np.float32)
        return mask_of(_resized(onehot, self.size))

    def fixed(self, fixed: np.ndarray) -> np.ndarray:
        """The window [h, w] of a fixed map [H, W], -1 = free, in which every fixed pixel counts,
        those of the highest label first."""
        part = fixed[self.area]
        if max(self.size) >= max(self.shape):
            rows, columns = (
                np.arange(new) * old // new for new, old in zip(self.size, self.shape, strict=True)
            )
            enlarged: np.ndarray = part[rows[:, None], columns]
            return enlarged
        found = np.full(self.size, FREE, part.dtype)
        for label in range(int(part.max()) + 1):
            at = np.nonzero(part == label)
            place = [x * new // old for x, new, old in zip(at, self.size, self.shape, strict=True)]
            found[tuple(place)] = label
        return found

    def local(self, local: LocalRegion) -> LocalRegion:
        """The region of a local refinement."""
        where = self.fixed(local.where.astype(np.int8) - 1) == 0  # elsewhere FREE
        return LocalRegion(where, _resized(local.standing.astype(np.float32), self.size))

    def back(self, x: np.ndarray) -> np.ndarray:
        """Values float32 [..., h, w] of the network at the size of the window."""
        resized = _resized(x.reshape(-1, *x.shape[-2:]), self.shape)
        return resized.reshape(*x.shape[:-2], *self.shape)

    def runs_out(self, answer: np.ndarray) -> bool:
        """Whether an answer bool [h, w] touches a border of the window inside the image."""
        edges = zip(
            (answer[0], answer[-1], answer[:, 0], answer[:, -1]),
            (
                inside
                for part, length in zip(self.area, self.whole, strict=True)
                for inside in (part.start > 0, part.stop < length)
            ),
            strict=True,
        )
        return any(inside and edge.any() for edge, inside in edges)

    def full(
        self, x: np.ndarray, fixed: np.ndarray, around: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Values float32 [..., K, h, w] in 0..1 of the network as those of the whole image, with
        every fixed pixel as it is fixed.

        fixed : int [H, W], -1 = free. around : values outside the window, as :meth:`back`.
        """
        values = self.back(x)
        if self.shape != self.whole:
            full = np.empty((*x.shape[:-2], *self.whole), np.float32)
            full[...] = around
            full[(..., *self.area)] = values
            values = full
        kept = fixed if x.shape[-3] == 1 else fixed == np.arange(x.shape[-3])[:, None, None]
        return np.where(fixed == FREE, values, kept).astype(np.float32, copy=False)

    def pasted(
        self,
        step: Step,
        fixed: np.ndarray,
        around: np.ndarray | float = 0.0,
        standing: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Step:
        """A step of the window as one of the whole image, see :meth:`full`.

        standing : probabilities that stay where a local refinement did not change them, in the
            window and at full size, float32 [K, h, w] and [K, H, W].
        """

        def whole(x: np.ndarray) -> np.ndarray:
            values = self.full(x, fixed, around)
            if standing is None:
                return values
            moved = (np.abs(x - standing[0]) > MOVED).any(-3, keepdims=True).astype(np.float32)
            return np.where((self.back(moved) > 0) | (fixed != FREE), values, standing[1])

        sample = self.full(step.sample.astype(np.float32), fixed, around) >= FOUND
        each = whole(step.each)
        mean = each[0] if len(each) == 1 else whole(step.probability)
        return replace(step, sample=sample.astype(np.uint8), each=each, probability=mean)


def _resized(x: np.ndarray, size: tuple[int, ...], mode: str = "bilinear") -> np.ndarray:
    """float32 [C, H, W] at another size; what is made smaller is smoothed first."""
    if x.shape[1:] == size:
        return x
    tensor = torch.from_numpy(np.ascontiguousarray(x))[None]
    resized: np.ndarray = F.interpolate(tensor, size, mode=mode, antialias=True)[0].numpy()
    return resized.clip(0, 1) if mode == "bilinear" else resized
