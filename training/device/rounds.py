"""Rounds of strokes for a whole batch on the device, for every recipe that trains on a GPU.

:func:`napari_hidiff.training.simulated_annotator.play` paints one sample at a time with SciPy,
while a GPU waits. Here the same policy is a few hundred operations on the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_hidiff.training.device import strokes
from napari_hidiff.training.device.graphs import Captured
from napari_hidiff.training.losses import uniform
from napari_hidiff.training.simulated_annotator import STROKE, Answer, play

MOST = 64
"""Numbers drawn for one stroke, at most."""


@dataclass
class Numbered:
    """Random numbers of samples: a function of their number, of ``stream`` and of how many were
    drawn before, whatever the device and the batch.

    numbers : int64 [B]. stream : int64, a scalar.
    """

    numbers: Tensor
    stream: Tensor
    drawn: int = 0

    def uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 in [low, high); the first of ``size`` is B."""
        self.drawn += 1
        values = uniform(self.numbers, self.stream + self.drawn, size[1:])
        return values * (high - low) + low


class Rounds:
    """An annotator that never leaves the device; a GPU replays what it does.

    seed : of the strokes. replays : as of :class:`Captured`.
    """

    def __init__(self, device: torch.device, seed: int, replays: bool = True) -> None:
        self.seed = seed
        self.slender = Captured(self._slender, device, replays=replays)
        self.stroke = Captured(self._stroke, device, replays=replays)

    def play(
        self,
        rounds: int,
        answer: Answer,
        prior: Tensor,
        truth: Tensor,
        fixed: Tensor,
        numbers: Tensor,
    ) -> Tensor:
        """As :func:`napari_hidiff.training.simulated_annotator.play`."""
        slender = self.slender(truth) if rounds else None

        def paint(probability: Tensor, number: int) -> Tensor:
            stream = ((self.seed * 8 + STROKE) * MOST + number) * MOST
            # Filled in by a kernel: a copy from the host would make a GPU wait.
            first = torch.full((), stream, dtype=torch.int64, device=truth.device)
            new: Tensor = self.stroke(probability, truth, slender, numbers, first)
            return new

        return play(rounds, answer, prior, truth, fixed, numbers, self.seed, paint)

    def _slender(self, truth: Tensor) -> Tensor:
        objects = truth > 0
        return strokes.thin(objects, strokes.inside_depth(objects))

    def _stroke(
        self, probability: Tensor, truth: Tensor, slender: Tensor, numbers: Tensor, stream: Tensor
    ) -> Tensor:
        single = probability.shape[1] == 1
        mask = (probability >= 0.5)[:, 0] if single else probability.argmax(1)
        draws = Numbered(numbers, stream)
        return torch.where(strokes.next_strokes(mask != truth, truth, draws, slender), truth, -1)
