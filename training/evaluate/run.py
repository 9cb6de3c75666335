"""Score a model on the cases of a split: one arm per way to a mask, all arms on the same images."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset, Sample

from .damage import damage
from .metrics import METRICS, empty, score

PRIOR, REFINED, SECOND = "prior", "refined", "second_observer"
DAMAGED, REPAIRED = "damaged", "repaired"
ONE_STEP = "one-step"

Arm = Callable[[Sample, np.ndarray], Iterator[np.ndarray]]
"""A way to a mask: (sample, prior float32 [K, H, W]) -> integer masks [H, W], one per seed."""


@dataclass(frozen=True)
class Plan:
    """What an evaluation does; None takes what the model's card recommends.

    seeds: sampling seeds; a sampler without randomness runs once.  also: further samplers to
    compare with.  damage: refine from damaged priors too.  second_observer: score the human too.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    sampler: str | None = None
    steps: int | None = None
    samples: int | None = None
    also: tuple[str, ...] = ()
    damage: bool = False
    second_observer: bool = False


@dataclass
class ArmScores:
    """One arm on one image: mean scores over seeds, empty masks, seconds per mask."""

    mean: dict[str, float]
    per_class: dict[int, dict[str, float]]
    empty: float
    seconds: float


@dataclass
class ImageScores:
    """All arms on one image; ``empty_truth`` counts the classes that the truth has no pixel of."""

    id: str
    arms: dict[str, ArmScores]
    empty_truth: int


@dataclass
class Evaluation:
    """The outcome: a row per image, in the order of the split, and what really ran."""

    images: list[ImageScores]
    seeds: tuple[int, ...]
    settings: dict[str, str | int]
    engines: set[str] = field(default_factory=set)

    def values(self, arm: str, metric: str) -> np.ndarray:
        """One score of one arm, float64 ``[N]``, a value per image."""
        return np.array([image.arms[arm].mean[metric] for image in self.images])

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(self.images[0].arms)


def evaluate(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    plan: Plan | None = None,
    on_image: Callable[[int, Case], None] = lambda done, case: None,
) -> Evaluation:
    """Score ``cases`` (at least one) in every arm of the plan.

    ``on_image(done, case)`` is called before each case with the number of cases done.

    InputError: the model and the data set do not speak of the same classes or channels, the plan
    asks for an observer or a sampler that is not there, or a file is bad.
    """
    plan = plan or Plan()
    check(model, dataset, cases, plan)
    settings = settings_of(model, plan)
    seeds = seeds_of(plan, str(settings["sampler"]))
    result = Evaluation([], seeds, settings)
    arms = arms_of(model, dataset, plan, result.engines)
    for done, case in enumerate(cases):
        on_image(done, case)
        result.images.append(score_case(dataset.load(case), model, arms, len(dataset.classes)))
    return result


def check(model: HiDiff, dataset: Dataset, cases: Sequence[Case], plan: Plan) -> None:
    """InputError, before anything is computed, if this plan cannot run on this data."""
    card = model.card
    if not plan.seeds:
        raise InputError("an evaluation needs at least one seed")
    if len(card.classes) != len(dataset.classes):
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


def settings_of(model: HiDiff, plan: Plan) -> dict[str, str | int]:
    """The sampler, steps and samples that the plan comes to with this model."""
    chosen = {"sampler": plan.sampler, "steps": plan.steps, "samples": plan.samples}
    return dict(model.card.defaults) | {k: v for k, v in chosen.items() if v is not None}


def seeds_of(plan: Plan, sampler: str) -> tuple[int, ...]:
    """The seeds that make a difference: only the first for the sampler without randomness."""
    return plan.seeds[:1] if sampler == ONE_STEP else plan.seeds


def arms_of(model: HiDiff, dataset: Dataset, plan: Plan, engines: set[str]) -> dict[str, Arm]:
    """The arms of a plan by name; ``engines`` collects which engines really ran."""

    def refined(sampler: str | None, damaged: bool = False) -> Arm:
        used = str(sampler or settings_of(model, plan)["sampler"])

        def masks(sample: Sample, prior: np.ndarray) -> Iterator[np.ndarray]:
            start = damage(prior) if damaged else prior
            for seed in seeds_of(plan, used):
                result = model.refine(
                    sample.image, start, None, sampler, plan.steps, plan.samples, seed
                )
                engines.add(result.engine)
                yield result.mask

        return masks

    def second(sample: Sample, prior: np.ndarray) -> Iterator[np.ndarray]:
        mask = dataset.load_second(sample)
        if mask is not None:
            yield mask

    arms: dict[str, Arm] = {
        PRIOR: lambda sample, prior: iter([model.mask_of(prior)]),
        REFINED: refined(plan.sampler),
    }
    arms |= {name: refined(name) for name in plan.also}
    if plan.damage:
        arms[DAMAGED] = lambda sample, prior: iter([model.mask_of(damage(prior))])
        arms[REPAIRED] = refined(plan.sampler, damaged=True)
    if plan.second_observer:
        arms[SECOND] = second
    return arms


def score_case(
    sample: Sample,
    model: HiDiff,
    arms: dict[str, Arm],
    labels: int,
    prior: np.ndarray | None = None,
) -> ImageScores:
    """Run and score every arm on one sample, from one prior (None: the segmentor's)."""
    prior = model.prior(sample.image) if prior is None else prior
    scored = {name: _score_arm(arm, sample, prior, labels) for name, arm in arms.items()}
    missing = empty(sample.mask, labels, sample.field_of_view)
    return ImageScores(sample.case.id, scored, missing)


def _score_arm(arm: Arm, sample: Sample, prior: np.ndarray, labels: int) -> ArmScores:
    start = time.perf_counter()
    masks = list(arm(sample, prior))
    seconds = (time.perf_counter() - start) / len(masks)
    scores = [
        score(mask, sample.mask, labels, sample.spacing, sample.field_of_view) for mask in masks
    ]
    return ArmScores(
        mean=_mean([s.mean for s in scores]),
        per_class={c: _mean([s.per_class[c] for s in scores]) for c in range(1, labels)},
        empty=float(np.mean([s.empty for s in scores])),
        seconds=seconds,
    )


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in METRICS}
