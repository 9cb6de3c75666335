"""The ways to a mask that an evaluation compares, on pictures and volumes alike.

A picture is a volume of one slice here: every array has a slice axis, and no arm asks what it has
before it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Dataset, Sample
from napari_hidiff.training.prior_source import PriorSource

from .damage import damage
from .metrics import TOLERANCE

PRIOR, REFINED, SECOND = "prior", "refined", "second_observer"
DAMAGED, REPAIRED = "damaged", "repaired"
ONE_STEP = "one-step"


@dataclass(frozen=True)
class Plan:
    """What an evaluation does; None takes what the model's card recommends.

    seeds: sampling seeds; a sampler without randomness runs once.  also: further samplers to
    compare with.  damage: refine from damaged priors too.  second_observer: score the human too.
    tolerance: that of the surface Dice, in the unit of a case's spacing.  skip_bad: leave out and
    list the cases that cannot be used.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    sampler: str | None = None
    steps: int | None = None
    samples: int | None = None
    also: tuple[str, ...] = ()
    damage: bool = False
    second_observer: bool = False
    tolerance: float = TOLERANCE
    skip_bad: bool = False


@dataclass(frozen=True)
class Subject:
    """A sample as a model sees it, and the prior that every arm starts from.

    planes: float32 [D, H, W, C], normalised.  prior: float32 [K, D, H, W].
    """

    sample: Sample
    planes: np.ndarray
    prior: np.ndarray

    @classmethod
    def of(cls, sample: Sample, model: HiDiff, source: PriorSource | None = None) -> "Subject":
        """Normalise a sample and take its prior from the source, or else from the segmentor.

        InputError when the model cannot read the image, or the source has no prior for it.
        """
        image = sample.image if sample.volume else sample.image[None]
        planes = volumes.normalise(model, image)
        if source is None:
            return cls(sample, planes, volumes.prior(model, planes))
        given = source.prior(sample.case.id, planes.transpose(0, 3, 1, 2))
        return cls(sample, planes, given.swapaxes(0, 1))

    @cached_property
    def damaged(self) -> np.ndarray:
        """The prior with the fixed damage, float32 [K, D, H, W]; the seed of a slice is its
        number."""
        slices = range(self.prior.shape[1])
        return np.stack([damage(self.prior[:, i], seed=i) for i in slices], 1)


Arm = Callable[[Subject], Iterator[np.ndarray]]
"""A way to a mask: a subject -> integer masks of the truth's shape, one per seed."""


def settings_of(model: HiDiff, plan: Plan) -> dict[str, str | int]:
    """The sampler, steps and samples that the plan comes to with this model."""
    chosen = {"sampler": plan.sampler, "steps": plan.steps, "samples": plan.samples}
    return dict(model.card.defaults) | {k: v for k, v in chosen.items() if v is not None}


def seeds_of(plan: Plan, sampler: str) -> tuple[int, ...]:
    """The seeds that make a difference: only the first for the sampler without randomness."""
    return plan.seeds[:1] if sampler == ONE_STEP else plan.seeds


def arms_of(model: HiDiff, dataset: Dataset, plan: Plan) -> dict[str, Arm]:
    """The arms of a plan by name."""

    def mask(subject: Subject, probability: np.ndarray) -> np.ndarray:
        return model.mask_of(probability, axis=0).reshape(subject.sample.mask.shape)

    def refined(sampler: str | None, damaged: bool = False) -> Arm:
        used = str(sampler or settings_of(model, plan)["sampler"])

        def masks(subject: Subject) -> Iterator[np.ndarray]:
            start = subject.damaged if damaged else subject.prior
            for seed in seeds_of(plan, used):
                probability = volumes.refine(
                    model,
                    subject.planes,
                    start,
                    sampler=used,
                    steps=plan.steps,
                    samples=plan.samples,
                    seed=seed,
                )
                yield mask(subject, probability)

        return masks

    def second(subject: Subject) -> Iterator[np.ndarray]:
        drawn = dataset.load_second(subject.sample)
        if drawn is not None:
            yield drawn

    arms: dict[str, Arm] = {
        PRIOR: lambda subject: iter([mask(subject, subject.prior)]),
        REFINED: refined(plan.sampler),
    }
    arms |= {name: refined(name) for name in plan.also}
    if plan.damage:
        arms[DAMAGED] = lambda subject: iter([mask(subject, subject.damaged)])
        arms[REPAIRED] = refined(plan.sampler, damaged=True)
    if plan.second_observer:
        arms[SECOND] = second
    return arms
