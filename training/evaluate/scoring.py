"""Score a model on the cases of a split: every arm on the same images.

An arm is a way to a mask: the prior, a sampler, the second observer. A picture is a volume of one
slice here, so that every array has a slice axis and no arm asks which of the two it has.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.preprocessing import middle
from napari_hidiff.surfaces import TOLERANCE
from napari_hidiff.training.datasets import Case, Dataset, Sample
from napari_hidiff.training.priors import PriorSource
from napari_hidiff.training.validation import mask_at

from .damage import damage
from .metrics import METRICS, Scores, empty, score
from .study import Options

MM, PIXELS = "mm", "pixels"
PRIOR, REFINED, SECOND = "prior", "refined", "second_observer"
DAMAGED, REPAIRED = "damaged", "repaired"
PRIOR_AT_HALF, REFINED_AT_HALF = "prior_at_half", "refined_at_half"
ONE_STEP = "one-step"


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
    options: Options | None = None,
    on_image: Callable[[int, Case], None] = lambda done, case: None,
    source: PriorSource | None = None,
) -> Evaluation:
    """Score ``cases`` (at least one) in every arm that the options name.

    source : of the priors; None = the model's segmentor.  ``on_image(done, case)`` is called
    before each case with the number of cases done.

    InputError: model and data set differ in classes or channels, an observer or a sampler is not
    there, or a case is bad; with ``skip_bad`` only where every case is.
    """
    options = options or Options()
    check(model, dataset, cases, options)
    if source is not None and options.at_half:
        raise InputError("masks at 0.5 are asked of the model's own first masks, without others")
    settings = settings_of(model, options)
    seeds = seeds_of(str(settings["sampler"]), options.seeds)
    result = Evaluation([], seeds, settings, options.tolerance, {model.engine})
    arms = arms_of(model, dataset, options)
    for done, case in enumerate(cases):
        on_image(done, case)
        try:
            prepared = PreparedSample.of(dataset.load(case), model, source)
            result.images.append(score_case(prepared, dataset, arms, options.tolerance))
        except InputError as error:
            if not options.skip_bad:
                raise
            result.skipped.append(Skipped(case.id, str(error)))
    if not result.images:
        raise InputError(f"none of the {len(cases)} cases can be used; {result.skipped[0].why}")
    return result


def check(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    same_classes: bool = True,
) -> None:
    """InputError, before anything is computed, if these options cannot run on this data."""
    card = model.card
    if not options.tolerance >= 0:
        raise InputError(f"the tolerance must not be negative, but it is {options.tolerance}")
    if same_classes and len(card.classes) != len(dataset.classes):
        known, wanted = ", ".join(label.name for label in card.classes), ", ".join(dataset.classes)
        raise InputError(f"{card.name} knows the classes {known}; {dataset.name} has {wanted}")
    if not card.prompted and len(card.channels) != len(dataset.channels):
        raise InputError(
            f"{card.name} reads {len(card.channels)} channels ({', '.join(card.channels)}); "
            f"{dataset.name} images have {len(dataset.channels)} ({', '.join(dataset.channels)})"
        )
    for sampler in (options.sampler, *options.also):
        model.sampling(sampler, options.steps, options.samples)
    seeds_of(options.sampler, options.seeds)
    unseen = [case.id for case in cases if case.second is None]
    if options.second_observer and unseen:
        raise InputError(f"{dataset.name} has no second observer for {unseen[0]}")


@dataclass(frozen=True)
class PreparedSample:
    """A sample as a model sees it, and the prior that every arm starts from.

    planes: float32 [D, H, W, C], normalised.  prior: float32 [K, D, H, W].
    """

    sample: Sample
    planes: np.ndarray
    prior: np.ndarray

    @classmethod
    def of(
        cls, sample: Sample, model: HiDiff, source: PriorSource | None = None
    ) -> "PreparedSample":
        """Normalise a sample and take its prior from the source, or else from the segmentor.

        InputError when the model cannot read the image, or the source has no prior for it.
        """
        image = sample.image if sample.volume else sample.image[None]
        planes = volumes.normalise(model, image)
        if source is None:
            return cls(sample, planes, volumes.prior(model, planes, scale_of(model, sample)))
        own = middle(planes, model.card.slices).transpose(0, 3, 1, 2)
        prior = source.prior(sample.case.id, own)
        return cls(sample, planes, prior.swapaxes(0, 1))

    def scale(self, model: HiDiff) -> float:
        """The factor by which its slices are resampled for a model."""
        return scale_of(model, self.sample)

    def mask(
        self, model: HiDiff, probability: np.ndarray, threshold: float | None = None
    ) -> np.ndarray:
        """The model's mask of a probability [K, D, H, W], uint8 of the truth's shape.

        threshold : of the network that made it, which its mask at 1/2 is wanted without.
        """
        if threshold is None:
            mask = model.mask_of(probability, axis=0)
        else:
            mask = mask_at(probability, 1 - threshold, axis=0)
        return mask.reshape(self.sample.mask.shape)

    @cached_property
    def damaged(self) -> np.ndarray:
        """The prior with the fixed damage, float32 [K, D, H, W]; the seed of a slice is its
        number."""
        slices = range(self.prior.shape[1])
        return np.stack([damage(self.prior[:, i], seed=i) for i in slices], 1)


def scale_of(model: HiDiff, sample: Sample) -> float:
    """The factor by which the slices of a sample are resampled for a model."""
    size, spacing = sample.mask.shape[-2:], sample.spacing
    return model.card.scale(size, None if spacing is None else spacing[-2:])


Arm = Callable[[PreparedSample], Iterator[np.ndarray]]
"""A way to a mask: a prepared sample -> integer masks of the truth's shape, one per seed."""


def score_case(
    prepared: PreparedSample,
    dataset: Dataset,
    arms: Mapping[str, Arm],
    tolerance: float = TOLERANCE,
) -> CaseScores:
    """Run every arm on one sample and score its masks, as a whole volume where it is one."""
    sample = prepared.sample
    missing = empty(sample.mask, len(dataset.classes), sample.field_of_view, dataset.regions)
    scored = {name: _score_arm(arm, prepared, dataset, tolerance) for name, arm in arms.items()}
    return CaseScores(sample.case.id, scored, missing, PIXELS if sample.spacing is None else MM)


def _score_arm(arm: Arm, prepared: PreparedSample, dataset: Dataset, tolerance: float) -> ArmScores:
    start = time.perf_counter()
    masks = list(arm(prepared))
    seconds = (time.perf_counter() - start) / len(masks)
    sample, labels = prepared.sample, len(dataset.classes)
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


def settings_of(model: HiDiff, options: Options) -> dict[str, str | int]:
    """Sampler, steps and samples: those of the options, else those of the model's card."""
    chosen = asdict(model.sampling(options.sampler, options.steps, options.samples))
    return {name: chosen[name] for name in ("sampler", "steps", "samples")}


def seeds_of(sampler: str | None, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds that make a difference: only the first for the sampler without randomness.

    InputError where there is none.
    """
    if not seeds:
        raise InputError("an evaluation needs at least one seed")
    return seeds[:1] if sampler == ONE_STEP else seeds


def arms_of(model: HiDiff, dataset: Dataset, options: Options) -> dict[str, Arm]:
    """The arms of the options by name."""

    def refined(sampler: str | None, damaged: bool = False, threshold: float | None = None) -> Arm:
        sampling = model.sampling(sampler, options.steps, options.samples)

        def masks(prepared: PreparedSample) -> Iterator[np.ndarray]:
            prior = prepared.damaged if damaged else prepared.prior
            for seed in seeds_of(sampling.sampler, options.seeds):
                seeded = replace(sampling, seed=seed, scale=prepared.scale(model))
                probability = volumes.refine(model, prepared.planes, prior, sampling=seeded)
                yield prepared.mask(model, probability, threshold)

        return masks

    def second(prepared: PreparedSample) -> Iterator[np.ndarray]:
        drawn = dataset.load_second(prepared.sample)
        if drawn is not None:
            yield drawn

    arms: dict[str, Arm] = {
        PRIOR: lambda prepared: iter([prepared.mask(model, prepared.prior)]),
        REFINED: refined(options.sampler),
    }
    arms |= {name: refined(name) for name in options.also}
    if options.damage:
        arms[DAMAGED] = lambda prepared: iter([prepared.mask(model, prepared.damaged)])
        arms[REPAIRED] = refined(options.sampler, damaged=True)
    if options.at_half:
        first, last = (
            float(part.get("threshold", 0.5)) for part in (model.card.segmentor, model.card.refiner)
        )
        arms[PRIOR_AT_HALF] = lambda prepared: iter([prepared.mask(model, prepared.prior, first)])
        arms[REFINED_AT_HALF] = refined(options.sampler, threshold=last)
    if options.second_observer:
        arms[SECOND] = second
    return arms


def foreground_slices(truth: np.ndarray, most: int) -> list[int]:
    """At most ``most`` numbers of slices of a truth [D, H, W] with foreground, evenly spaced: the
    middles of as many equal parts of them."""
    filled = np.flatnonzero(truth.any((1, 2)))
    count = min(most, len(filled))
    return [int(filled[int((i + 0.5) * len(filled) / count)]) for i in range(count)]


def set_of(case: str) -> str:
    """The set that a case's id begins with, as in ``kvasir/cju0``; empty where it names none."""
    return case.partition("/")[0] if "/" in case else ""
