"""Strokes of a simulated annotator for a whole batch on the device.

The policy is that of :mod:`napari_hidiff.training.simulated_annotator`, which paints one picture at
a time with SciPy and lets a GPU wait: a disc at the deepest place of the errors, or, on thin
structures, a scribble along them. Depths are the same to the last digit up to ``reach``.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hidiff.training.simulated_annotator import LONGEST, ROUNDING, THIN, WIDEST

ELSEWHERE = 0.25
"""Share of the strokes that lie on any error instead of the deepest."""
LINES = 0.2
"""Share of the strokes on other structures that are lines, where scribbles are asked for."""
REACH = 24
"""Depths are told apart up to so many pixels."""


class Draws(Protocol):
    """Random numbers: float32 in [low, high) of a size whose first axis is the batch."""

    def uniform(self, *size: int, low: float = ..., high: float = ...) -> Tensor: ...


def inside_depth(region: Tensor, reach: int = REACH) -> Tensor:
    """Euclidean distance float32 [B, H, W] of each pixel of a region (bool) to the nearest pixel
    outside it, at most ``reach``; outside the image is outside."""
    outside = F.pad((~region).float(), (1, 1, 1, 1), value=1)[:, None]
    rows, reached = torch.zeros_like(outside), outside
    for _ in range(reach):  # steps along the row
        rows += 1 - reached
        reached = F.max_pool2d(reached, (1, 3), 1, (0, 1))
    squares = rows[:, 0] ** 2
    nearest = squares.clone()
    for step in range(1, min(reach, squares.shape[1] - 1) + 1):  # and across the rows
        torch.minimum(nearest[:, step:], squares[:, :-step] + step**2, out=nearest[:, step:])
        torch.minimum(nearest[:, :-step], squares[:, step:] + step**2, out=nearest[:, :-step])
    return nearest.sqrt().clamp(max=reach)[:, 1:-1, 1:-1]


def thin(truth: Tensor, depth: Tensor, reach: int = REACH) -> Tensor:
    """Whether each truth bool [B, H, W] of this depth is thin, bool [B], by the same rule as
    :func:`napari_hidiff.training.simulated_annotator.thin`."""
    deepest = depth.flatten(1).amax(1)
    area = truth.flatten(1).sum(1)
    return (deepest < reach) & (area > THIN * torch.pi * deepest**2)


def next_strokes(
    errors: Tensor,
    truth: Tensor,
    draws: Draws,
    along: Tensor | None = None,
    elsewhere: float = ELSEWHERE,
) -> Tensor:
    """One stroke for every mask, bool [B, H, W]; nothing where there is no error.

    errors, truth : bool [B, H, W]. along : bool [B], which get a scribble along their errors; None
    for discs and lines alone. elsewhere : share on any error, with a smaller disc.
    """
    height, width = errors.shape[1:]
    widest = min(height, width) * WIDEST
    depth = inside_depth(errors)
    anywhere = draws.uniform(len(errors)) < elsewhere
    noise = draws.uniform(*errors.shape)
    score = torch.where(anywhere[:, None, None], noise, depth + 0.9 * noise) * errors
    at = score.flatten(1).argmax(1)
    radius = depth.flatten(1).gather(1, at[:, None])[:, 0].clamp(max=widest)
    radius = torch.where(anywhere, radius * draws.uniform(len(at), low=0.4), radius)
    stroke = discs(errors.shape[1:], at, radius)
    if along is not None:
        ways = scribbles(errors, at, round(height * LONGEST), draws)
        stroke = torch.where(along[:, None, None], ways, stroke)
        lined = (draws.uniform(len(at)) < LINES) & ~along
        same = truth == truth.flatten(1).gather(1, at[:, None])[..., None]
        stroke = torch.where(lined[:, None, None], lines(same, at, 2 * widest, draws), stroke)
    return stroke & errors.flatten(1).any(1)[:, None, None]


def painted(fixed: Tensor, strokes: Tensor, truth: Tensor) -> Tensor:
    """The fixed map int64 [B, H, W] after strokes bool [B, H, W] with the truth."""
    return torch.where(strokes, truth.long(), fixed)


def discs(size: tuple[int, ...], at: Tensor, radius: Tensor) -> Tensor:
    """Open discs bool [B, H, W] of radii [B] around flat places int64 [B]; each holds its centre.

    size : (H, W).
    """
    y, x = _offsets(size, at)
    inside = y**2 + x**2 < radius[:, None, None] ** 2 - ROUNDING
    return inside | ((y == 0) & (x == 0))


def lines(where: Tensor, at: Tensor, longest: float, draws: Draws) -> Tensor:
    """Straight strokes bool [B, H, W] through the places ``at``, cut to bool [B, H, W] ``where``;
    3 to 6 pixels wide."""
    batch = len(at)
    y, x = _offsets(where.shape[1:], at)
    angle = draws.uniform(batch, 1, 1, high=torch.pi)
    along = x * angle.cos() + y * angle.sin()
    across = y * angle.cos() - x * angle.sin()
    half = draws.uniform(batch, 1, 1, low=0.25) * longest / 2
    width = draws.uniform(batch, 1, 1, low=1.5, high=3)
    return (along.abs() <= half) & (across.abs() <= width) & where


def scribbles(region: Tensor, at: Tensor, length: int, draws: Draws) -> Tensor:
    """Ways bool [B, H, W] inside a region (bool) past the places ``at``, as wide as the region.

    The ends are far apart: one is the farthest from ``at`` within half the length, the other the
    farthest from that one. Where the region is thin this is the scribble along its skeleton.
    """
    ball, _ = _walk(region, at, length // 2)
    first = _farthest(*_walk(ball, at, length // 2), draws)
    near, from_first = _walk(ball, first, length)
    second = _farthest(near, from_first, draws)
    _, from_second = _walk(ball, second, length)
    apart = from_first.flatten(1).gather(1, second[:, None])[..., None]
    return ball & (from_first + from_second <= apart + 1)


def box(target: Tensor, draws: Draws, margin: float = 0.15) -> Tensor:
    """A box bool [B, H, W] around each target (bool), up to ``margin`` of its sides too large."""
    sides = []
    for axis in (2, 1):  # rows, then columns
        held = target.any(axis)
        size = held.shape[1]
        first = held.float().argmax(1).float()
        last = size - 1 - held.flip(1).float().argmax(1).float()
        slack = (last - first + 1) * margin
        first = first - draws.uniform(len(target)) * slack
        last = last + draws.uniform(len(target)) * slack
        place = torch.arange(size, device=target.device)[None]
        sides.append((place >= first[:, None]) & (place <= last[:, None]))
    return sides[0][:, :, None] & sides[1][:, None, :]


def _offsets(size: tuple[int, ...], at: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [B, H, 1] and columns [B, 1, W] counted from flat places int64 [B]."""
    height, width = size
    rows = torch.arange(height, device=at.device)[None, :, None]
    columns = torch.arange(width, device=at.device)[None, None]
    return rows - (at // width)[:, None, None], columns - (at % width)[:, None, None]


def _walk(region: Tensor, start: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """What ``steps`` steps to 8 neighbours inside a region reach from flat places, bool [B, H, W],
    and in how many, float32 [B, H, W]; ``steps`` where they do not."""
    inside = region.float()
    reached = torch.zeros_like(inside).flatten(1).scatter_(1, start[:, None], 1)
    reached = reached.view_as(inside) * inside
    taken = torch.zeros_like(inside)
    for _ in range(steps):
        taken += 1 - reached
        reached = F.max_pool2d(reached[:, None], 3, 1, 1)[:, 0] * inside
    return reached > 0, taken


def _farthest(reached: Tensor, taken: Tensor, draws: Draws) -> Tensor:
    """A flat place int64 [B] that took the most steps, by chance among several."""
    score = (taken + 0.9 * draws.uniform(*taken.shape)) * reached
    return score.flatten(1).argmax(1)
