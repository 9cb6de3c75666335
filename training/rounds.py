"""Rounds of simulated strokes on the refiner's own output, as interactive networks are trained.

A network that only ever saw strokes on the segmentor's errors meets others in use: those that are
left after it has answered the stroke before.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.diffusion.samplers import harden, stamp
from napari_hidiff.probability import mask_of
from napari_hidiff.training import simulated_annotator
from napari_hidiff.training.priors import simulate_corrections

SHARE = 0.5
"""Of the iterations have rounds."""
ELSEWHERE = 0.25
"""Of the strokes lie on any error, not on the largest: people see other things first."""
COUNT, STROKE = 7, 8
"""Random streams, next to those of crops and noise."""

Answer = Callable[[Tensor, Tensor], Tensor]
"""(y_T, fixed) -> y0_hat [B, K, H, W] of the one-step pass."""


def rounds_of(most: int, seed: int, iteration: int) -> int:
    """How many strokes are painted before this iteration: 0 in half of them, else 1..most."""
    rng = np.random.default_rng([seed, COUNT, iteration])
    return int(rng.integers(1, most + 1)) if most and rng.random() < SHARE else 0


def play(
    rounds: int,
    answer: Answer,
    prior: Tensor,
    truth: Tensor,
    fixed: Tensor,
    numbers: Tensor,
    seed: int,
) -> Tensor:
    """The fixed map after so many strokes, each with an answer of the network before it.

    prior : [B, K, H, W]; truth, fixed : int64 [B, H, W], -1 = free; numbers : int64 [B], which
    with ``seed`` decide the strokes. Nothing here has a gradient.
    """
    for number in range(rounds):
        with torch.no_grad():
            probability = stamp(answer(stamp(harden(prior), fixed), fixed), fixed)
        masks = mask_of(probability.cpu().numpy())
        truths, painted = truth.cpu().numpy(), fixed.cpu().numpy().copy()
        for i, sample in enumerate(numbers.tolist()):
            rng = np.random.default_rng([seed, STROKE, sample, number])
            new = stroke_on(masks[i], truths[i], rng)
            painted[i] = np.where(new >= 0, new, painted[i])
        fixed = torch.from_numpy(painted).to(fixed.device)
    return fixed


def stroke_on(mask: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One stroke int64 [H, W] with the truth, -1 elsewhere: mostly that of the simulated
    annotator, a disc or, on thin structures, a scribble; sometimes on any error."""
    if rng.random() < ELSEWHERE:
        return simulate_corrections(mask, truth, rng, most=1)
    stroke = simulated_annotator.next_stroke(mask, truth, simulated_annotator.kind_for(truth))
    if stroke is None:
        return np.full(truth.shape, -1, np.int64)
    return np.where(stroke.where, truth, -1)
