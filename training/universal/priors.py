"""Priors of every kind that a refiner may be given, made from the target on the device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hidiff.training.device.strokes import box
from napari_hidiff.training.universal.crops import Draws

KINDS = {
    "even": 0.48, "own": 0.12, "exact": 0.05, "damaged": 0.11, "moved": 0.1, "vague": 0.09,
    "box": 0.05,
}  # fmt: skip
"""Shares: 1/2 everywhere; the model's own answer, where there is one already, else 1/2; the right
mask, which is to stay; a mask with errors; a mask of a neighbouring slice; a soft probability; a
box."""
SIGMA, CONFIDENCE = 1.0, 0.9
"""Of the rule that softens masks, as on the card."""
FOUND, OUTSIDE = 0.5, 0.05
"""Probability inside and outside a box."""


def draw(target: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """A prior per target: float32 [B, 1, H, W]; whether it says where the object is, bool [B]; and
    whether the model's own answer is to take its place, bool [B].

    target : bool [B, H, W].
    """
    mask = target.float()[:, None]
    chance, kind, low = draws.uniform(len(target)), {}, 0.0
    for name, share in KINDS.items():
        kind[name] = (chance >= low) & (chance < low + share)
        low += share
    prior = torch.full_like(mask, 0.5)
    for name, made in (
        ("exact", softened(mask)),
        ("damaged", softened(damaged(mask, draws))),
        ("moved", softened(damaged(moved(mask, draws), draws))),
        ("vague", vague(mask, draws)),
        ("box", OUTSIDE + (FOUND - OUTSIDE) * box(target, draws)[:, None].float()),
    ):
        prior = torch.where(kind[name][:, None, None, None], made, prior)
    return prior, ~(kind["even"] | kind["own"]), kind["own"]


def softened(mask: Tensor) -> Tensor:
    """A mask [B, 1, H, W] in {0, 1} as a prior, as
    :func:`napari_hidiff.inference.preprocessing.soften` makes it."""
    half = (mask + blurred(mask, SIGMA)) / 2
    return 0.5 + (CONFIDENCE - 0.5) / 0.5 * (half - 0.5)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x [B, 1, H, W] after a Gaussian of ``sigma`` pixels; the border is repeated."""
    reach = round(4 * sigma)
    at = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    x = F.pad(x, (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(x, kernel[None, None, None]), kernel[None, None, :, None])


def moved(mask: Tensor, draws: Draws) -> Tensor:
    """The object as a neighbouring slice has it: shifted, scaled and bent, in {0, 1}."""
    batch, _, height, width = mask.shape
    scale = torch.exp(draws.uniform(batch, low=-0.2, high=0.2))
    shift = draws.normal(batch, 2) * 0.05
    theta = torch.zeros(batch, 2, 3, device=mask.device)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = F.affine_grid(theta, [batch, 1, height, width], align_corners=False)
    bend = _smooth(batch, 2, (height, width), 5, draws) * 0.03
    grid = grid + bend.permute(0, 2, 3, 1)
    return (F.grid_sample(mask, grid, align_corners=False) >= 0.5).float()


def damaged(mask: Tensor, draws: Draws) -> Tensor:
    """A mask [B, 1, H, W] in {0, 1} with one kind of error inside a smooth random region: a border
    too far out or in, a part that is missed, one that is invented."""
    batch, _, height, width = mask.shape
    field = _smooth(batch, 1, (height, width), 8, draws)
    region = field > draws.uniform(batch, 1, 1, 1, low=-0.2, high=1)
    away = mask.roll((height // 3, width // 4), (2, 3))
    errors = torch.stack(
        [
            F.max_pool2d(mask, 5, 1, 2),
            F.max_pool2d(mask, 9, 1, 4),
            -F.max_pool2d(-mask, 5, 1, 2),
            torch.zeros_like(mask),
            torch.maximum(mask, away),
        ]
    )
    kind = draws.pick(torch.ones(batch, len(errors), device=mask.device))
    wrong = errors[kind, torch.arange(batch, device=mask.device)]
    return torch.where(region, wrong, mask)


def vague(mask: Tensor, draws: Draws) -> Tensor:
    """A soft probability of another network: blurred, unsure, and with patches of doubt."""
    batch, _, height, width = mask.shape
    mix = draws.uniform(batch, 1, 1, 1)
    soft = torch.lerp(blurred(mask, 1.5), blurred(mask, 5), mix)
    sure = draws.uniform(batch, 1, 1, 1, low=0.3)
    doubt = _smooth(batch, 1, (height, width), 12, draws) * draws.uniform(batch, 1, 1, 1, high=0.25)
    return (0.5 + sure * (soft - 0.5) + doubt).clamp(0.01, 0.99)


def _smooth(batch: int, channels: int, size: tuple[int, int], cells: int, draws: Draws) -> Tensor:
    """Smooth noise [B, channels, H, W] of about unit variance, of so many cells a side."""
    coarse = draws.normal(batch, channels, cells, cells)
    return F.interpolate(coarse, size, mode="bicubic", align_corners=False)
