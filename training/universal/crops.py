"""Crops for a batch, cut and altered on the device: geometry, targets, looks."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hidiff.training.universal.pictures import Pictures

SMALLEST = 24
"""Pixels that an object in a crop needs to become its target."""
LARGEST = 0.7
"""Share of the crop that it may fill."""
MADE_UP, RIDGED, UNION, NESTED = 0.18, 0.06, 0.28, 0.5
"""Shares of superpixels as targets, of thin structures that the picture itself shows, of all labels
as one, and of labels with what they enclose."""
RIDGES = {7: 1.0, 15: 1.2}
"""What is thin: brighter or darker than its surroundings of so many pixels by so many deviations.
"""
NOISE = 0.2
"""Most deviation of the noise, in deviations of the picture."""
ZOOM, STRETCH, TURNED = 0.5, 0.15, 0.6
"""Logarithms of the largest zoom and stretch; share of crops that are turned by any angle."""


class Crops(NamedTuple):
    """image : float32 [B, 3, C, C], standardized; target : bool [B, C, C], the object;
    others : bool [B, C, C], pixels of other labels of the picture."""

    image: Tensor
    target: Tensor
    others: Tensor


class Draws(NamedTuple):
    """A generator and its device, for short calls."""

    generator: torch.Generator

    def uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 in [low, high)."""
        device = self.generator.device
        return torch.rand(*size, device=device, generator=self.generator) * (high - low) + low

    def normal(self, *size: int) -> Tensor:
        return torch.randn(*size, device=self.generator.device, generator=self.generator)

    def sign(self, *size: int) -> Tensor:
        """float32, 1 or -1."""
        return 1 - 2 * (self.uniform(*size) < 0.5).float()

    def pick(self, weights: Tensor) -> Tensor:
        """One index per row of weights [B, n], int64 [B]; a row needs one weight above 0.

        The first of exponential waits with rates w is that of index i with the chance w_i, as in
        torch.multinomial, which makes a GPU wait for a check.
        """
        return (weights / torch.empty_like(weights).exponential_(generator=self.generator)).argmax(
            1
        )


def draw(pictures: Pictures, chances: Tensor, batch: int, side: int, draws: Draws) -> Crops:
    """A batch of crops of ``side`` pixels from pictures drawn with ``chances`` [N]."""
    which = draws.pick(chances.expand(batch, -1))
    where = places(pictures.sizes[which], side, draws)
    image = _sampled(pictures.images, which, where)
    labels, superpixels = (
        _nearest(maps, which, where) for maps in (pictures.labels, pictures.superpixels)
    )
    target = targets(pictures, pictures.sets[which], labels, superpixels, draws)
    thin = ridges(image, draws)
    enough = (thin.flatten(1).sum(1) >= SMALLEST)[:, None, None]
    target = torch.where(_chance(draws, batch, RIDGED) & enough, thin, target)
    looks = standardized(altered(image / 255, draws))
    looks = looks.contiguous(memory_format=torch.channels_last)
    return Crops(looks, target, (labels > 0) & ~target)


def places(sizes: Tensor, side: int, draws: Draws) -> Tensor:
    """Where the pixels of a crop lie in its picture, (row, column) in pixels, [B, C, C, 2].

    sizes : int64 [B, 2]. Turned, flipped, zoomed and stretched; what would lie outside the picture
    is reflected into it.
    """
    batch = len(sizes)
    step = torch.exp(draws.uniform(batch, low=-ZOOM, high=ZOOM))
    stretch = torch.exp(draws.uniform(batch, low=-STRETCH, high=STRETCH))
    free = draws.uniform(batch, low=-math.pi / 4, high=math.pi / 4)
    angle = free * (draws.uniform(batch) < TURNED)
    angle = angle + (draws.uniform(batch) * 4).floor() * (math.pi / 2)
    flip = draws.sign(batch)
    reach = step * side / 2
    centre = torch.stack(
        [_centre(sizes[:, axis].float(), reach, draws) for axis in (0, 1)], -1
    )  # [B, 2]
    offsets = torch.arange(side, device=sizes.device) + 0.5 - side / 2
    v = offsets[None, :, None] * (step * stretch)[:, None, None]
    u = offsets[None, None, :] * (step / stretch * flip)[:, None, None]
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    rows = centre[:, 0, None, None] + cosine * v - sine * u
    columns = centre[:, 1, None, None] + sine * v + cosine * u
    limits = sizes[:, :, None, None].float()
    return torch.stack([_reflected(rows, limits[:, 0]), _reflected(columns, limits[:, 1])], -1)


def targets(
    pictures: Pictures, sets: Tensor, labels: Tensor, superpixels: Tensor, draws: Draws
) -> Tensor:
    """The object of every crop, bool [B, C, C].

    sets : int64 [B]; labels, superpixels : int64 [B, C, C]. A label, with the labels that it
    encloses or without; all labels together; or a superpixel, always where no label is there.
    """
    batch = len(labels)
    weights = _weights(labels, 1, pictures.within.shape[-1])
    empty = weights.sum(1) == 0
    parts = _weights(superpixels, 0, pictures.parts) + torch.finfo(torch.float32).tiny
    at = draws.pick(torch.where(empty[:, None], parts, weights))
    label = labels.flatten(1).gather(1, at[:, None])
    alone = labels == label[..., None]
    holds = pictures.within[sets, label[:, 0]].gather(1, labels.flatten(1)).view_as(labels)
    target = torch.where(_chance(draws, batch, NESTED), holds, alone)
    together = _chance(draws, batch, UNION) & ~pictures.nested[sets][:, None, None]
    target = torch.where(together, labels > 0, target)
    part = superpixels.flatten(1).gather(1, draws.pick(parts)[:, None])
    made_up = _chance(draws, batch, MADE_UP) | empty[:, None, None]
    return torch.where(made_up, superpixels == part[..., None], target)


def ridges(image: Tensor, draws: Draws) -> Tensor:
    """Lines and spots of pictures [B, C, H, W], the bright or the dark ones, bool [B, H, W].

    They lie along the vessels, fibres and membranes of a picture, which few sets have as labels.
    """
    grey = image.mean(1, keepdim=True) * draws.sign(len(image), 1, 1, 1)
    fine, kinds = _mean(grey, 3), []
    for side, deviations in RIDGES.items():
        above = fine - _mean(grey, side)
        found = above > deviations * above.std((2, 3), keepdim=True)
        kinds.append(_mean(found.float(), 3) > 0.5)
    wide = draws.uniform(len(image))[:, None, None] < 0.5
    return torch.where(wide, kinds[1][:, 0], kinds[0][:, 0])


def _mean(x: Tensor, side: int) -> Tensor:
    """The mean of [B, C, H, W] around each pixel."""
    return F.avg_pool2d(F.pad(x, (side // 2,) * 4, mode="reflect"), side, 1)


def altered(image: Tensor, draws: Draws) -> Tensor:
    """Other looks of pictures [B, 3, C, C] in [0, 1]: grey, gain, offset, inversion, gamma, blur,
    noise."""
    batch = len(image)

    def some(share: float) -> Tensor:
        return (draws.uniform(batch) < share)[:, None, None, None]

    image = torch.where(some(0.3), image.mean(1, keepdim=True), image)
    image = image * torch.exp(draws.uniform(batch, 3, 1, 1, low=-0.25, high=0.25))
    image = (image + draws.uniform(batch, 3, 1, 1, low=-0.15, high=0.15)).clamp(0, 1)
    image = torch.where(some(0.15), 1 - image, image)
    image = image ** torch.exp(draws.uniform(batch, 1, 1, 1, low=-0.4, high=0.4))
    image = torch.where(some(0.2), _mean(image, 3), image)
    noise = draws.normal(*image.shape) * draws.uniform(batch, 1, 1, 1, high=NOISE)
    return image + noise * image.std((1, 2, 3), keepdim=True)


def standardized(image: Tensor) -> Tensor:
    """Mean 0 and deviation 1 per picture and channel [B, C, H, W]; noise is not blown up."""
    deviation = image.std((2, 3), keepdim=True).clamp(min=0.01)
    return (image - image.mean((2, 3), keepdim=True)) / deviation


def _centre(length: Tensor, reach: Tensor, draws: Draws) -> Tensor:
    """The centre of a crop along one axis: inside the picture as far as it has room."""
    room = (length / 2 - reach).clamp(min=0.1 * length)
    return length / 2 + draws.uniform(len(length), low=-1, high=1) * room


def _reflected(x: Tensor, length: Tensor) -> Tensor:
    """Coordinates mirrored at 0 and at ``length``, between the centres of the outermost pixels."""
    inside = length - (torch.remainder(x, 2 * length) - length).abs()
    return torch.minimum(inside.clamp(min=0.5), length - 0.5)


def _sampled(images: Tensor, which: Tensor, where: Tensor) -> Tensor:
    """Bilinear values float32 [B, 3, C, C] of images uint8 [N, 3, S, S]."""
    side = images.shape[-1]
    grid = (where.flip(-1) / side) * 2 - 1
    return F.grid_sample(images[which].float(), grid, padding_mode="border", align_corners=False)


def _nearest(maps: Tensor, which: Tensor, where: Tensor) -> Tensor:
    """Values int64 [B, C, C] of maps int16 [N, S, S]."""
    side = maps.shape[-1]
    cell = where.long().clamp(0, side - 1)
    flat = cell[..., 0] * side + cell[..., 1]
    return maps[which].flatten(1).gather(1, flat.flatten(1)).view_as(flat).long()


def _weights(labels: Tensor, lowest: int, top: int) -> Tensor:
    """Chances of pixels [B, C * C] to name the target: small objects come nearly as often as large
    ones, labels under ``lowest``, of few pixels, or of most of the crop never; all are below
    ``top``."""
    flat = labels.flatten(1)
    counts = flat.new_zeros(len(flat), top, dtype=torch.float32)
    counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))
    own = counts.gather(1, flat)
    fits = (own >= SMALLEST) & (own <= LARGEST * flat.shape[1])
    return (own**-0.75).masked_fill((flat < lowest) | ~fits, 0)


def _chance(draws: Draws, batch: int, share: float) -> Tensor:
    return (draws.uniform(batch) < share)[:, None, None]
