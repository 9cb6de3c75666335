"""The focal loss's link, undone.

The focal loss is not a proper scoring rule: for a true probability q its least value is reached at
another p, with q / (1 - q) = [p^g / (1 - p) - g p^(g-1) ln(1 - p)] / [(1 - p)^g / p
- g (1 - p)^(g-1) ln p], the quotient of the slopes of its two branches. For q = .01, .05 and .10
it wants p = .154, .250 and .306 (g = 2). A network that was trained with it predicts p; what a
sampler needs is q.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from napari_hidiff.engine.engine import Engine, Picked, Steps
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.networks import Known, Standing, probabilities
from napari_hidiff.probability import EPSILON


def inverse(p: Tensor, gamma: float = 2.0) -> Tensor:
    """q in (0, 1) for the p in (0, 1) at which the focal loss of q is least; element by element."""
    p = p.double().clamp(EPSILON, 1 - EPSILON)
    rest = 1 - p
    above = p**gamma / rest - gamma * p ** (gamma - 1) * torch.log1p(-p)
    below = rest**gamma / p - gamma * rest ** (gamma - 1) * p.log()
    return above / (above + below)


class Unlinked:
    """A refiner, in torch or packed, whose predicted flips are q in place of the p that the focal
    loss taught it."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def condition(
        self, image: Tensor, prior: Tensor, fixed: Tensor, features: Sequence[Tensor]
    ) -> Any:
        return self._steps.condition(image, prior, fixed, features)

    def on(self, known: Known, standing: Standing) -> Any:
        return self._steps.on(known, standing)

    def __call__(self, y_t: Tensor, t: Tensor | int, condition: Any) -> Tensor:
        """Logits of y_0 as :meth:`Refiner.forward`; K classes are made to sum to 1 again."""
        y0_hat = probabilities(self._steps(y_t, t, condition))
        flips = inverse((y_t - y0_hat).abs())
        y0_hat = (y_t - flips).abs().clamp(EPSILON, 1 - EPSILON)
        return (y0_hat.logit() if y0_hat.shape[1] == 1 else y0_hat.log()).to(torch.float32)

    def answers(self, y_t: Tensor, t: Tensor | int, condition: Any) -> Tensor:
        """The same: such a refiner offers no hypotheses."""
        return self(y_t, t, condition)


class UnlinkedEngine(Engine):
    """An engine whose refiners are :class:`Unlinked`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.note, self.preparing = engine.note, False

    def pick(self) -> Picked:
        name, steps = self._engine.pick()
        return Picked(name, Unlinked(steps))


def unlinked(model: HiDiff) -> HiDiff:
    """The same networks, on the same engine, with the link undone."""
    mended = model.with_card()
    mended.runs = UnlinkedEngine(model.runs)
    return mended
