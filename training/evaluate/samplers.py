"""Sampler settings by name, and the focal loss's link undone.

The focal loss is not a proper scoring rule: for a true probability q its least value is reached at
another p, with q / (1 - q) = [p^g / (1 - p) - g p^(g-1) ln(1 - p)] / [(1 - p)^g / p
- g (1 - p)^(g-1) ln p], the quotient of the slopes of its two branches. For q = .01, .05 and .10
it is p = .154, .250 and .306 (g = 2). A network that was trained with it predicts p; a sampler
needs q.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.engine.engine import Backend, Engine, Steps
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import EPSILON
from napari_hidiff.networks.refiner import ImageCondition, PriorCondition, probabilities

from .scoring import ONE_STEP, PRIOR, Arm, PreparedSample
from .study import Options


@dataclass(frozen=True)
class SamplerSetting:
    """A sampler (``one-step``, ``ddim``, ``ancestral``) with its steps and samples.

    unlink : undo the focal loss's link in what the network predicts (:func:`focal_link_undone`).
    ensemble : the mean of the prior, of one pass and of this sampler.
    """

    sampler: str
    steps: int = 1
    samples: int = 1
    unlink: bool = False
    ensemble: bool = False

    def probability(self, model: HiDiff, prepared: PreparedSample, seed: int) -> np.ndarray:
        """The refined probability, float32 [K, D, H, W]."""
        if self.ensemble:
            ways = replace(self, ensemble=False), replace(self, sampler=ONE_STEP, ensemble=False)
            refined = [way.probability(model, prepared, seed) for way in ways]
            mean: np.ndarray = np.mean([prepared.prior, *refined], 0)
            return mean
        return volumes.refine(
            focal_link_undone(model) if self.unlink else model,
            prepared.planes,
            prepared.prior,
            sampling=model.sampling(
                self.sampler, self.steps, self.samples, seed, prepared.scale(model)
            ),
        )

    @property
    def forwards(self) -> int:
        """Forward passes of the refiner."""
        return self.steps * self.samples + self.ensemble


SETTINGS: Mapping[str, SamplerSetting] = {
    ONE_STEP: SamplerSetting(ONE_STEP),
    **{
        f"{sampler}-{steps}x{samples}": SamplerSetting(sampler, steps, samples)
        for sampler, counts in (("ddim", (2, 3, 5, 10)), ("ancestral", (10,)))
        for steps in counts
        for samples in (1, 5)
    },
    "ensemble": SamplerSetting("ddim", 3, 5, ensemble=True),
}
"""Every setting by its name, sampler-STEPSxSAMPLES; any of them may end in ``-unlinked``.
``ensemble`` is the mean of the prior, one pass and ddim-3x5.
"""
UNLINKED = "-unlinked"


def setting_of(name: str) -> SamplerSetting:
    """The setting of a name; KeyError for others."""
    if name.endswith(UNLINKED):
        return replace(SETTINGS[name.removesuffix(UNLINKED)], unlink=True)
    return SETTINGS[name]


def recommended(model: HiDiff, options: Options) -> SamplerSetting:
    """The setting that the options ask for, or else the model's card."""
    chosen = model.sampling(options.sampler, options.steps, options.samples)
    if chosen.sampler == ONE_STEP:
        return SETTINGS[ONE_STEP]
    return SamplerSetting(chosen.sampler, chosen.steps, chosen.samples)


def settings_named(names: Iterable[str], model: HiDiff) -> dict[str, SamplerSetting]:
    """Settings by name; InputError for an unknown one, or more steps than the model has."""
    chosen = {}
    for name in names:
        try:
            chosen[name] = setting_of(name)
        except KeyError:
            known = ", ".join(SETTINGS)
            raise InputError(f"unknown arm {name!r}: choose among {known}") from None
        if chosen[name].steps > model.process.steps:
            raise InputError(f"{name}: {model.card.name} has {model.process.steps} steps")
    return chosen


def plain_settings(settings: Mapping[str, SamplerSetting]) -> dict[str, dict[str, object]]:
    """Settings by name as JSON-able data."""
    return {name: asdict(setting) for name, setting in settings.items()}


def arms_with(model: HiDiff, settings: Mapping[str, SamplerSetting], seed: int) -> dict[str, Arm]:
    """The prior, and every setting of the sampler with one seed, as arms."""

    def arm(setting: SamplerSetting) -> Arm:
        def masks(prepared: PreparedSample) -> Iterator[np.ndarray]:
            yield prepared.mask(model, setting.probability(model, prepared, seed))

        return masks

    arms: dict[str, Arm] = {PRIOR: lambda prepared: iter([prepared.mask(model, prepared.prior)])}
    return arms | {name: arm(setting) for name, setting in settings.items()}


def inverse_focal_link(p: Tensor, gamma: float = 2.0) -> Tensor:
    """The q in (0, 1) whose focal loss is least at the given p in (0, 1), element by element."""
    p = p.double().clamp(EPSILON, 1 - EPSILON)
    rest = 1 - p
    above = p**gamma / rest - gamma * p ** (gamma - 1) * torch.log1p(-p)
    below = rest**gamma / p - gamma * rest ** (gamma - 1) * p.log()
    return above / (above + below)


class UnlinkedRefiner:
    """A refiner, in torch or packed, that predicts the flip probability q where the focal loss
    taught it p."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def condition(
        self, image: Tensor, prior: Tensor, fixed: Tensor, features: Sequence[Tensor]
    ) -> Any:
        return self._steps.condition(image, prior, fixed, features)

    def combine(self, image: ImageCondition, prior: PriorCondition) -> Any:
        return self._steps.combine(image, prior)

    def __call__(self, y_t: Tensor, t: Tensor | int, condition: Any) -> Tensor:
        """Logits of y_0 as :meth:`Refiner.forward`; K classes are made to sum to 1 again."""
        y0_hat = probabilities(self._steps(y_t, t, condition))
        flips = inverse_focal_link((y_t - y0_hat).abs())
        y0_hat = (y_t - flips).abs().clamp(EPSILON, 1 - EPSILON)
        return (y0_hat.logit() if y0_hat.shape[1] == 1 else y0_hat.log()).to(torch.float32)

    def answers(self, y_t: Tensor, t: Tensor | int, condition: Any) -> Tensor:
        """The same: such a refiner offers no hypotheses."""
        return self(y_t, t, condition)


class UnlinkedEngine(Engine):
    """An engine whose refiners are :class:`UnlinkedRefiner`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.note, self.preparing = engine.note, False

    def pick(self) -> Backend:
        name, steps = self._engine.pick()
        return Backend(name, UnlinkedRefiner(steps))


def focal_link_undone(model: HiDiff) -> HiDiff:
    """The same networks on the same engine, with the focal loss's link undone."""
    mended = model.with_card()
    mended.backend = UnlinkedEngine(model.backend)
    return mended
