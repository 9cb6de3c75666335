"""Ways to refine with one model: a sampler with its steps and samples, by name.

The focal loss's link, undone.

The focal loss is not a proper scoring rule: for a true probability q its least value is reached at
another p, with q / (1 - q) = [p^g / (1 - p) - g p^(g-1) ln(1 - p)] / [(1 - p)^g / p
- g (1 - p)^(g-1) ln p], the quotient of the slopes of its two branches. For q = .01, .05 and .10
it wants p = .154, .250 and .306 (g = 2). A network that was trained with it predicts p; what a
sampler needs is q.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.engine.engine import Engine, Picked, Steps
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import EPSILON
from napari_hidiff.networks.refiner import Known, Standing, probabilities

from .scoring import Subject


@dataclass(frozen=True)
class Way:
    """A sampler (``one-step``, ``ddim``, ``ancestral``) with its steps and samples.

    unlink : undo the focal loss's link in what the network predicts (:mod:`.link`).
    """

    sampler: str
    steps: int = 1
    samples: int = 1
    unlink: bool = False

    def probability(self, model: HiDiff, subject: Subject, seed: int) -> np.ndarray:
        """The refined probability of a subject, float32 [K, D, H, W]."""
        used = unlinked(model) if self.unlink else model
        return volumes.refine(
            used,
            subject.planes,
            subject.prior,
            sampling=model.sampling(self.sampler, self.steps, self.samples, seed),
        )

    @property
    def forwards(self) -> int:
        """Passes of the refiner."""
        return self.steps * self.samples


WAYS: Mapping[str, Way] = {
    "one-step": Way("one-step"),
    "ddim-2x1": Way("ddim", 2),
    "ddim-2x5": Way("ddim", 2, 5),
    "ddim-3x1": Way("ddim", 3),
    "ddim-3x5": Way("ddim", 3, 5),
    "ddim-5x1": Way("ddim", 5),
    "ddim-5x5": Way("ddim", 5, 5),
    "ddim-10x1": Way("ddim", 10),
    "ddim-10x5": Way("ddim", 10, 5),
    "ancestral-10x1": Way("ancestral", 10),
    "ancestral-10x5": Way("ancestral", 10, 5),
}
"""Every way by its name, sampler-STEPSxSAMPLES; any of them may end in ``-unlinked``."""
UNLINKED = "-unlinked"


def way_of(name: str) -> Way:
    """The way of a name; KeyError for others."""
    if name.endswith(UNLINKED):
        return replace(WAYS[name.removesuffix(UNLINKED)], unlink=True)
    return WAYS[name]


def spelled(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Ways by name as plain data."""
    return {name: asdict(way_of(name)) for name in names}


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
