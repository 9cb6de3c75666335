"""The focal loss's link, undone.

The focal loss is not a proper scoring rule: for a true probability q its least value is reached at
another p, with q / (1 - q) = [p^g / (1 - p) - g p^(g-1) ln(1 - p)] / [(1 - p)^g / p
- g (1 - p)^(g-1) ln p], the quotient of the slopes of its two branches. For q = .01, .05 and .10
it wants p = .154, .250 and .306 (g = 2). A network that was trained with it predicts p; what a
sampler needs is q.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_hidiff.model import HiDiff
from napari_hidiff.network import Refiner, probabilities
from napari_hidiff.network.refiner import Condition, Known
from napari_hidiff.probability import EPSILON


def inverse(p: Tensor, gamma: float = 2.0) -> Tensor:
    """q in (0, 1) for the p in (0, 1) at which the focal loss of q is least; element by element."""
    p = p.double().clamp(EPSILON, 1 - EPSILON)
    rest = 1 - p
    above = p**gamma / rest - gamma * p ** (gamma - 1) * torch.log1p(-p)
    below = rest**gamma / p - gamma * rest ** (gamma - 1) * p.log()
    return above / (above + below)


class Unlinked(nn.Module):
    """A refiner whose predicted flips are q in place of the p that the focal loss taught it."""

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner, self.classes, self.stem = refiner, refiner.classes, refiner.stem

    def remember(self, image: Tensor, features: Sequence[Tensor]) -> Known:
        return self.refiner.remember(image, features)

    def on(self, known: Known, prior: Tensor, fixed: Tensor) -> Condition:
        return self.refiner.on(known, prior, fixed)

    def forward(self, y_t: Tensor, t: Tensor | int, condition: Condition) -> Tensor:
        """Logits of y_0 as :meth:`Refiner.forward`; K classes are made to sum to 1 again."""
        y0_hat = probabilities(self.refiner(y_t, t, condition))
        flips = inverse((y_t - y0_hat).abs())
        y0_hat = (y_t - flips).abs().clamp(EPSILON, 1 - EPSILON)
        return (y0_hat.logit() if self.classes == 1 else y0_hat.log()).to(torch.float32)


def unlinked(model: HiDiff) -> HiDiff:
    """The same model with an :class:`Unlinked` refiner, in torch."""
    refiner = Unlinked(model.refiner)
    return HiDiff(model.card, model.segmentor, refiner, model.device)  # type: ignore[arg-type]
