"""Rounds of strokes for a whole batch on the device, for every recipe that trains on a GPU.

:func:`napari_hidiff.training.simulated_annotator.play` paints one sample at a time with SciPy,
while a GPU waits. Here the same policy is a few hundred operations on the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_hidiff.training.losses import uniform
from napari_hidiff.training.simulated_annotator import STROKE, Answer, play
from napari_hidiff.training.universal import strokes

MOST = 64
"""Numbers drawn for one stroke, at most."""


@dataclass
class Numbered:
    """Random numbers of samples: a function of their number, of ``stream`` and of how many were
    drawn before, whatever the device and the batch.

    numbers : int64 [B].
    """

    numbers: Tensor
    stream: int
    drawn: int = 0

    def uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 in [low, high); the first of ``size`` is B."""
        self.drawn += 1
        values = uniform(self.numbers, self.stream + self.drawn, size[1:])
        return values * (high - low) + low


def play_on_device(
    rounds: int,
    answer: Answer,
    prior: Tensor,
    truth: Tensor,
    fixed: Tensor,
    numbers: Tensor,
    seed: int,
) -> Tensor:
    """As :func:`napari_hidiff.training.simulated_annotator.play`, without leaving the device."""
    objects = truth > 0
    slender = strokes.thin(objects, strokes.inside_depth(objects)) if rounds else None

    def paint(probability: Tensor, number: int) -> Tensor:
        single = probability.shape[1] == 1
        mask = (probability >= 0.5)[:, 0] if single else probability.argmax(1)
        draws = Numbered(numbers, ((seed * 8 + STROKE) * MOST + number) * MOST)
        return torch.where(strokes.next_strokes(mask != truth, truth, draws, slender), truth, -1)

    return play(rounds, answer, prior, truth, fixed, numbers, seed, paint)
