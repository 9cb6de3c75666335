"""Score a model on the cases of a split: every arm of a plan on the same images."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.prior_source import PriorSource

from .arms import Arm, Plan, Subject, arms_of, seeds_of, settings_of
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
