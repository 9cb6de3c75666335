"""A simulated annotator: strokes on the largest error, painted with the truth.

The policy is that of interactive segmentation studies: of the errors take the 8-connected
component with the largest inscribed disc; paint a disc there, or, on thin structures, where a disc
corrects almost nothing, a scribble along the component's skeleton (:func:`next_stroke`).

:func:`play` repeats it in rounds on the refiner's own output, as interactive networks are trained:
in use a network also meets the errors that are left after its answer to the stroke before.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from skimage.graph import MCP_Geometric
from skimage.morphology import skeletonize
from torch import Tensor

from napari_hidiff.annotation.constraints import EIGHT
from napari_hidiff.diffusion.samplers import clamp_fixed, to_mask
from napari_hidiff.masks import mask_of

Rng = np.random.Generator


DISC, SCRIBBLE = "disc", "scribble"
KINDS = (DISC, SCRIBBLE)
WIDEST = 1 / 16
"""Radius of a disc, at most this share of the image's shorter side."""
LONGEST = 1 / 8
"""Length of a scribble, at most this share of the image's height."""
THIN = 20
"""The area of a thin structure is more than this multiple of its largest inscribed disc."""

ROUNDING = 1e-6
"""Squared distances are whole numbers, but the square of a root may be a little more."""
SHARE = 0.5
"""Share of the iterations with rounds."""
ELSEWHERE = 0.25
"""Share of the strokes on any error instead of the largest: people choose differently."""
COUNT, STROKE = 7, 8
"""Random streams, next to those of crops and noise."""


class Stroke(NamedTuple):
    """where : bool [H, W], the painted pixels; centre : (row, column); radius : pixels."""

    where: np.ndarray
    centre: tuple[int, int]
    radius: float


def next_stroke(mask: np.ndarray, truth: np.ndarray, kind: str = DISC) -> Stroke | None:
    """The stroke on the largest error of ``mask``, or None without an error.

    mask, truth : integer [H, W]. The border of the image counts as a border of an error. The
    largest error is that with the largest inscribed disc, the first in reading order on ties.
    """
    errors = mask != truth
    if not errors.any():
        return None
    depth = inside_depth(errors)
    centre = np.unravel_index(int(depth.argmax()), depth.shape)
    at = (int(centre[0]), int(centre[1]))
    widest = min(mask.shape) * WIDEST
    radius = float(min(widest, depth[at]))
    if kind == DISC:
        return Stroke(discs(mask.shape, np.array([at]), np.array([radius])), at, radius)
    if kind != SCRIBBLE:
        raise ValueError(f"a stroke is one of {', '.join(KINDS)}, not {kind!r}")
    component = ndimage.label(errors, EIGHT)[0]
    path = skeleton_path(component == component[at], at, mask.shape[0] * LONGEST)
    path = np.concatenate([[at], path])  # the skeleton may pass beside the centre
    radii = np.minimum(depth[tuple(path.T)], widest)
    return Stroke(discs(mask.shape, path, radii), at, float(radii.max()))


def inside_depth(region: np.ndarray) -> np.ndarray:
    """Distance float64 [H, W] of each pixel of a region to the nearest one outside it."""
    return np.asarray(ndimage.distance_transform_edt(np.pad(region, 1)))[1:-1, 1:-1]


def discs(shape: tuple[int, ...], centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """The union of open discs, bool [H, W]; a disc contains at least its centre.

    centres : int [n, 2], (row, column); radii : float [n], pixels.
    """
    painted = np.zeros(shape, bool)
    for (y, x), radius in zip(centres, radii, strict=True):
        reach = int(np.ceil(radius))
        top, left = max(0, y - reach), max(0, x - reach)
        view = painted[top : y + reach + 1, left : x + reach + 1]
        rows, columns = np.ogrid[top : top + view.shape[0], left : left + view.shape[1]]
        view |= (rows - y) ** 2 + (columns - x) ** 2 < radius**2 - ROUNDING
        painted[y, x] = True
    return painted


def skeleton_path(component: np.ndarray, start: tuple[int, int], length: float) -> np.ndarray:
    """Pixels int [n, 2] of a path on the skeleton of a component, at most ``length`` long.

    It passes the skeleton's pixel nearest to ``start``: up to half the length to one side, the rest
    to another; a short side leaves more for the other.
    """
    rows, columns = np.nonzero(component)
    top, left = int(rows.min()), int(columns.min())
    box = component[top : rows.max() + 1, left : columns.max() + 1]
    skeleton = np.pad(skeletonize(box), 1)
    points = np.argwhere(skeleton)
    near = points[((points - (start[0] - top + 1, start[1] - left + 1)) ** 2).sum(1).argmin()]
    cost = np.where(skeleton, 1.0, np.inf)
    walked, one = _farthest(cost, tuple(near), length / 2)
    walked, other = _farthest(cost, tuple(near), length - walked, one)
    _, one = _farthest(cost, tuple(near), length - walked, other)  # what the other side left
    return np.add([*one[:0:-1], *other], (top - 1, left - 1))


def _farthest(
    cost: np.ndarray,
    start: tuple[int, ...],
    length: float,
    taken: Sequence[tuple[int, ...]] = (),
) -> tuple[float, list[tuple[int, ...]]]:
    """Length and pixels of the path from ``start`` to the farthest pixel of the skeleton within
    ``length``, off the ``taken`` pixels."""
    cost = cost.copy()
    for pixel in taken:
        if pixel != start:
            cost[pixel] = np.inf
    walk = MCP_Geometric(cost)
    costs, _ = walk.find_costs([start])
    reached = np.where(costs <= length, costs, -1)
    reached[start] = 0  # also where the length is shorter than a pixel
    end = tuple(int(i) for i in np.unravel_index(int(reached.argmax()), reached.shape))
    return float(reached[end]), walk.traceback(end)


def thin(truth: np.ndarray) -> bool:
    """Whether the foreground of a mask [H, W] is thin, so that strokes must be scribbles."""
    foreground = truth > 0
    if not foreground.any():
        return False
    largest = np.pi * inside_depth(foreground).max() ** 2
    return bool(foreground.sum() > THIN * largest)


def kind_for(truth: np.ndarray) -> str:
    """The kind of strokes for a mask [H, W]: scribbles on thin structures, else discs."""
    return SCRIBBLE if thin(truth) else DISC


def painted(
    stroke: Stroke, truth: np.ndarray, labels: int, wrong: np.random.Generator | None = None
) -> np.ndarray:
    """The fixed map of a stroke, int64 [H, W]: the true label, -1 off the stroke.

    wrong : the annotator errs: every painted pixel has another label, by one common shift.
    """
    values = truth.astype(np.int64)
    if wrong is not None:
        values = (values + int(wrong.integers(1, labels))) % labels
    return np.where(stroke.where, values, -1)


def simulate_corrections(
    mask: np.ndarray, truth: np.ndarray, rng: Rng, most: int = 8
) -> np.ndarray:
    """The fixed map after a few random strokes on the errors of ``mask``.

    mask, truth : int [H, W]. Returns int64 [H, W], -1 = free, else the true label. A stroke is
    on a component of the errors, larger ones first, and is either a disc painted with the truth
    or a scribble along the error itself.
    """
    fixed = np.full(truth.shape, -1, dtype=np.int64)
    errors, count = ndimage.label(mask != truth, structure=np.ones((3, 3)))
    if not count:
        return fixed
    sizes = np.bincount(errors.ravel())[1:]
    strokes = min(count, int(rng.integers(1, most + 1)))
    chosen = rng.choice(count, strokes, replace=False, p=sizes / sizes.sum())
    rows, columns = np.ogrid[: truth.shape[0], : truth.shape[1]]
    for component in chosen + 1:
        ys, xs = np.nonzero(errors == component)
        at = rng.integers(len(ys))
        reach = rng.uniform(2, max(truth.shape) / 16)
        near = (rows - ys[at]) ** 2 + (columns - xs[at]) ** 2 <= reach**2
        scribble = rng.random() < 0.5
        stroke = near & (errors == component) if scribble else near
        fixed[stroke] = truth[stroke]
    return fixed


Answer = Callable[[Tensor, Tensor], Tensor]
"""(y_T, fixed) -> y0_hat [B, K, H, W] of the one-step pass."""


def rounds_of(most: int, seed: int, iteration: int) -> int:
    """Number of strokes before this iteration: 0 in half of the iterations, else 1..most."""
    rng = np.random.default_rng([seed, COUNT, iteration])
    return int(rng.integers(1, most + 1)) if most and rng.random() < SHARE else 0


Paint = Callable[[Tensor, int], Tensor]
"""(probability [B, K, H, W], round) -> new strokes int64 [B, H, W], -1 elsewhere."""


def play(
    rounds: int,
    answer: Answer,
    prior: Tensor,
    truth: Tensor,
    fixed: Tensor,
    numbers: Tensor,
    seed: int,
    paint: Paint | None = None,
) -> Tensor:
    """The fixed map after some strokes, each on the network's answer to those before.

    prior : [B, K, H, W]; truth, fixed : int64 [B, H, W], -1 = free; numbers : int64 [B], which
    with ``seed`` determine the strokes. paint : None paints sample by sample (:func:`stroke_on`).
    Without gradient.
    """

    def by_sample(probability: Tensor, number: int) -> Tensor:
        masks, truths = mask_of(probability.cpu().numpy()), truth.cpu().numpy()
        new = [
            stroke_on(masks[i], truths[i], np.random.default_rng([seed, STROKE, sample, number]))
            for i, sample in enumerate(numbers.tolist())
        ]
        return torch.from_numpy(np.stack(new)).to(fixed.device)

    for number in range(rounds):
        with torch.no_grad():
            probability = clamp_fixed(answer(clamp_fixed(to_mask(prior), fixed), fixed), fixed)
        new = (paint or by_sample)(probability, number)
        fixed = torch.where(new >= 0, new, fixed)
    return fixed


def stroke_on(mask: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One stroke int64 [H, W] with the truth, -1 elsewhere: mostly that of the simulated
    annotator, a disc or, on thin structures, a scribble; sometimes on any error."""
    if rng.random() < ELSEWHERE:
        return simulate_corrections(mask, truth, rng, most=1)
    stroke = next_stroke(mask, truth, kind_for(truth))
    if stroke is None:
        return np.full(truth.shape, -1, np.int64)
    return np.where(stroke.where, truth, -1)
