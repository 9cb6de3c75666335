"""Score a model on the cases of a split: every arm of a plan on the same images.

The ways to a mask that an evaluation compares, on pictures and volumes alike.

A picture is a volume of one slice here: every array has a slice axis, and no arm asks what it has
before it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset, Sample
from napari_hidiff.training.priors import PriorSource

from .damage import damage
from .metrics import METRICS, TOLERANCE, Scores, empty, score

MM, PIXELS = "mm", "pixels"


@dataclass
class ArmScores:
    """One arm on one case: mean scores over seeds, those of each class and region by its name,
    empty masks, seconds per mask."""

    mean: dict[str, float]
    per_class: dict[str, dict[str, float]]
    empty: float
    seconds: float


@dataclass
class CaseScores:
    """All arms on one case.

    ``empty_truth`` counts the classes (or regions) that the truth has no pixel of; ``unit`` is
    that of its distances, ``mm`` or ``pixels``.
    """

    id: str
    arms: dict[str, ArmScores]
    empty_truth: int
    unit: str


class Skipped(NamedTuple):
    """A case that could not be used, and the one line that says why."""

    id: str
    why: str


@dataclass
class Evaluation:
    """The outcome: a row per case, in the order of the split, and what really ran."""

    images: list[CaseScores]
    seeds: tuple[int, ...]
    settings: dict[str, str | int]
    tolerance: float = TOLERANCE
    engines: set[str] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)

    def values(self, arm: str, metric: str) -> np.ndarray:
        """One score of one arm, float64 ``[N]``, a value per case."""
        return np.array([image.arms[arm].mean[metric] for image in self.images])

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(self.images[0].arms)


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


def evaluate(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    plan: Plan | None = None,
    on_image: Callable[[int, Case], None] = lambda done, case: None,
    source: PriorSource | None = None,
) -> Evaluation:
    """Score ``cases`` (at least one) in every arm of the plan, from the source's priors if any.

    ``on_image(done, case)`` is called before each case with the number of cases done.

    InputError: the model and the data set do not speak of the same classes or channels, the plan
    asks for an observer or a sampler that is not there, or a case is bad: every case, where the
    plan skips bad ones.
    """
    plan = plan or Plan()
    check(model, dataset, cases, plan)
    settings = settings_of(model, plan)
    seeds = seeds_of(plan, str(settings["sampler"]))
    result = Evaluation([], seeds, settings, plan.tolerance, {model.engine})
    arms = arms_of(model, dataset, plan)
    for done, case in enumerate(cases):
        on_image(done, case)
        try:
            subject = Subject.of(dataset.load(case), model, source)
            result.images.append(score_case(subject, dataset, arms, plan.tolerance))
        except InputError as error:
            if not plan.skip_bad:
                raise
            result.skipped.append(Skipped(case.id, str(error)))
    if not result.images:
        raise InputError(f"none of the {len(cases)} cases can be used; {result.skipped[0].why}")
    return result


def check(
    model: HiDiff, dataset: Dataset, cases: Sequence[Case], plan: Plan, same_classes: bool = True
) -> None:
    """InputError, before anything is computed, if this plan cannot run on this data."""
    card = model.card
    if not plan.seeds:
        raise InputError("an evaluation needs at least one seed")
    if not plan.tolerance >= 0:
        raise InputError(f"the tolerance must not be negative, but it is {plan.tolerance}")
    if same_classes and len(card.classes) != len(dataset.classes):
        known, wanted = ", ".join(label.name for label in card.classes), ", ".join(dataset.classes)
        raise InputError(f"{card.name} knows the classes {known}; {dataset.name} has {wanted}")
    if len(card.channels) != len(dataset.channels):
        raise InputError(
            f"{card.name} reads {len(card.channels)} channels ({', '.join(card.channels)}); "
            f"{dataset.name} images have {len(dataset.channels)} ({', '.join(dataset.channels)})"
        )
    blank = np.zeros((32, 32, len(card.channels)), np.uint8)
    for sampler in (plan.sampler, *plan.also):  # refuses settings at once and computes nothing
        model.steps(blank, sampler=sampler, steps=plan.steps, samples=plan.samples)
    unseen = [case.id for case in cases if case.second is None]
    if plan.second_observer and unseen:
        raise InputError(f"{dataset.name} has no second observer for {unseen[0]}")


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


def score_case(
    subject: Subject, dataset: Dataset, arms: dict[str, Arm], tolerance: float = TOLERANCE
) -> CaseScores:
    """Run every arm on one subject and score its masks, as a whole volume where it is one."""
    sample = subject.sample
    missing = empty(sample.mask, len(dataset.classes), sample.field_of_view, dataset.regions)
    scored = {name: _score_arm(arm, subject, dataset, tolerance) for name, arm in arms.items()}
    return CaseScores(sample.case.id, scored, missing, PIXELS if sample.spacing is None else MM)


def _score_arm(arm: Arm, subject: Subject, dataset: Dataset, tolerance: float) -> ArmScores:
    start = time.perf_counter()
    masks = list(arm(subject))
    seconds = (time.perf_counter() - start) / len(masks)
    sample, labels = subject.sample, len(dataset.classes)
    rows = [
        score(
            mask,
            sample.mask,
            labels,
            sample.spacing,
            sample.field_of_view,
            tolerance,
            dataset.regions,
        )
        for mask in masks
    ]
    named = [_by_name(row, dataset) for row in rows]
    return ArmScores(
        mean=_mean([row.mean for row in rows]),
        per_class={name: _mean([row[name] for row in named]) for name in named[0]},
        empty=float(np.mean([row.empty for row in rows])),
        seconds=seconds,
    )


def _by_name(scores: Scores, dataset: Dataset) -> dict[str, dict[str, float]]:
    """The scores of each class and then of each region, by its name."""
    return {dataset.classes[c]: row for c, row in scores.per_class.items()} | scores.per_region


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}


PRIOR, REFINED, SECOND = "prior", "refined", "second_observer"
DAMAGED, REPAIRED = "damaged", "repaired"
ONE_STEP = "one-step"


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
                    sampling=model.sampling(used, plan.steps, plan.samples, seed),
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
