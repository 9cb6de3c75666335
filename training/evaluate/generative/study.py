"""What the studies share: a resumable pass over cases, means over seeds and slices, intervals.

The images [H, W] that a study looks at, and what the model makes of one.

The figures of the generative studies, each of masks or maps of one image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata
from skimage.morphology import skeletonize

from napari_hidiff.annotation.constraints import EIGHT
from napari_hidiff.annotation.suggestions import Place, disc, distances
from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset, Sample
from napari_hidiff.training.evaluate.metrics import iou

from ..experiments import OnCase, Options, Store, files_of, fingerprint, foreground_slices
from ..metrics import paired_bootstrap
from ..report import plain
from ..scoring import Plan, check

FORMAT = 3
"""Rises when the figures of a case change their meaning: kept files are then computed anew."""

Figures = dict[str, Any]
"""Plain data of one case: nested dictionaries of floats, lists of floats, and None for unknown."""


@dataclass(frozen=True)
class View:
    """A picture, or a slice of a volume, as the model sees it.

    image : float32 [H, W, C], normalised. observers : uint8 masks [H, W], the truth first.
    inside : bool [H, W], the pixels that count.
    """

    image: np.ndarray
    observers: tuple[np.ndarray, ...]
    inside: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """The mask of the first observer, uint8 [H, W]."""
        return self.observers[0]

    def cut(self, mask: np.ndarray) -> np.ndarray:
        """The mask with background where no pixel counts."""
        return np.where(self.inside, mask, 0).astype(mask.dtype)


def measured(
    study: str,
    measure: Callable[[Sequence[View]], Figures],
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase,
) -> dict[str, Figures]:
    """The figures of every case by its id, from the files in ``state`` where they are known.

    A case without any foreground slice has no figures and is left out. A file that is torn, or of
    another model, data set or setting, is computed anew.

    InputError: model and data do not fit, no case, seed or slice, or a case is bad.
    """
    if options.slices < 1:
        raise InputError(f"the number of slices must be at least 1, not {options.slices}")
    if not cases:
        raise InputError(f"{dataset.name}: there is no case to study")
    check(model, dataset, cases, Plan(tuple(options.seeds)))
    state.mkdir(parents=True, exist_ok=True)
    store, known = Store(state), fingerprint(model)
    figures = {}
    for done, case in enumerate(cases):
        on_case(done, case)
        decides = {
            "study": [FORMAT, SAMPLES, list(options.seeds), options.slices],
            "data": [dataset.name, dataset.longest_side, files_of(case)],
            "model": known,
        }

        def compute(case: Case = case) -> dict[str, Any]:
            views = views_of(model, dataset, case, options.slices)
            return plain({"figures": measure(views) if views else None})

        found = store.get(f"{study}-{case.id}", decides, compute)["figures"]
        if found is not None:
            figures[case.id] = found
    if not figures:
        raise InputError(f"{dataset.name}: no case has any foreground")
    return figures


def mean(trees: Sequence[Any]) -> Any:
    """The mean of equal nested dictionaries, lists and floats; None and NaN do not count."""
    first = trees[0]
    if isinstance(first, Mapping):
        return {key: mean([tree[key] for tree in trees]) for key in first}
    if isinstance(first, list):
        return [mean(values) for values in zip(*trees, strict=True)]
    known = [value for value in trees if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


def differences(
    figures: Mapping[str, Figures], path: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> dict[str, dict[str, float | None] | None]:
    """``"a - b"`` -> mean, low, high and n of the paired difference over cases that have both.

    path : the keys that lead to the values by arm in the figures of a case. None where no case
    has both.
    """
    result: dict[str, dict[str, float | None] | None] = {}
    for first, second in pairs:
        values = []
        for case in figures.values():
            here = case
            for key in path:
                here = here[key]
            if here[first] is not None and here[second] is not None:
                values.append(here[first] - here[second])
        interval = plain(paired_bootstrap(values)._asdict()) if values else None
        result[f"{first} - {second}"] = interval and {**interval, "n": len(values)}
    return result


def all_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Every two of the names, each pair once."""
    return list(combinations(names, 2))


SAMPLES = 16
"""S, how many samples are drawn."""


def views_of(model: HiDiff, dataset: Dataset, case: Case, slices: int) -> list[View]:
    """The views of a case: a picture is one, a volume has up to ``slices`` with foreground.

    A volume without any foreground has none. InputError when the case cannot be loaded or read.
    """
    sample = dataset.load(case)
    second = dataset.load_second(sample)
    planes = volumes.normalise(model, sample.image if sample.volume else sample.image[None])
    drawn = [_planes(sample, mask) for mask in (sample.mask, second) if mask is not None]
    inside = sample.field_of_view
    counted = np.ones(drawn[0].shape, bool) if inside is None else _planes(sample, inside)
    found = foreground_slices(drawn[0], slices) if sample.volume else [0]
    return [
        View(planes[i], tuple(np.where(counted[i], mask[i], 0) for mask in drawn), counted[i])
        for i in found
    ]


def last_step(model: HiDiff, view: View, sampler: str, seed: int = 0) -> Step:
    """What the model answers in the end, from its own prior.

    ``one-step`` is one pass; ``ddim`` takes the steps that the card recommends and ``ancestral``
    all T, both with ``SAMPLES`` samples.
    """
    steps = model.process.steps if sampler == "ancestral" else model.card.defaults["steps"]
    *_, last = model.steps(
        view.image, sampler=sampler, steps=steps, samples=SAMPLES, seed=seed, normalised=True
    )
    return last


def _planes(sample: Sample, mask: np.ndarray) -> np.ndarray:
    return mask if sample.volume else mask[None]


def at_level(probability: np.ndarray, level: float) -> np.ndarray:
    """The mask uint8 [H, W] of a probability [K, H, W] at another level than a half, in 0..1.

    K = 1: foreground where probability >= level. K > 1: the argmax after the background is
    weighted with ``level`` and every other class with ``1 - level``, which is the same rule.
    """
    if len(probability) == 1:
        return (probability[0] >= level).astype(np.uint8)
    weights = np.full((len(probability), 1, 1), 1 - level)
    weights[0] = level
    return (weights * probability).argmax(0).astype(np.uint8)


def diversity(masks: np.ndarray, labels: int) -> float:
    """Mean of 1 - Dice over all pairs of different masks [S, H, W], and over classes; 0..1."""
    if len(masks) < 2:
        return 0.0
    return float(distances(masks, labels)[np.triu_indices(len(masks), 1)].mean())


def energy_distance(
    samples: Sequence[np.ndarray], observers: Sequence[np.ndarray], labels: int
) -> float:
    """Squared generalised energy distance of two sets of masks, with d = 1 - IoU (of classes).

    ``2 E d(sample, observer) - E d(sample, sample') - E d(observer, observer')``, where each
    expectation is the mean over all ordered pairs, a mask with itself among them: 0 when both sets
    are alike, never below.
    """
    across = np.mean([overlap_distance(a, b, labels) for a in samples for b in observers])
    return float(2 * across - _within(samples, labels) - _within(observers, labels))


def overlap_distance(first: np.ndarray, second: np.ndarray, labels: int) -> float:
    """1 - IoU of two masks, mean over the foreground classes; two empty classes are equal."""
    return float(np.mean([1 - iou(first == c, second == c) for c in range(1, labels)]))


def _within(masks: Sequence[np.ndarray], labels: int) -> float:
    pairs = [overlap_distance(a, b, labels) for a, b in combinations(masks, 2)]
    return 2 * float(np.sum(pairs)) / len(masks) ** 2


def centreline_dice(mask: np.ndarray, truth: np.ndarray, labels: int = 2) -> float:
    """clDice of two masks [H, W], mean over the foreground classes, 0..1.

    ``2 P R / (P + R)`` with P the share of the mask's skeleton that lies in the truth, R the share
    of the truth's skeleton that lies in the mask; two empty classes give 1, one empty class 0.
    """
    return float(np.mean([_centreline(mask == c, truth == c) for c in range(1, labels)]))


def _centreline(mask: np.ndarray, truth: np.ndarray) -> float:
    if not mask.any() or not truth.any():
        return float(mask.any() == truth.any())
    thin, thin_truth = skeletonize(mask), skeletonize(truth)
    precision, recall = truth[thin].mean(), mask[thin_truth].mean()
    both = precision + recall
    return float(2 * precision * recall / both) if both else 0.0


def component_error(mask: np.ndarray, truth: np.ndarray, labels: int = 2) -> float:
    """|components of the mask - components of the truth|, 8-connected, mean over classes."""
    counts = [[ndimage.label(m == c, EIGHT)[1] for m in (mask, truth)] for c in range(1, labels)]
    return float(np.mean([abs(mine - true) for mine, true in counts]))


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive has a higher score than a negative, ties counted half.

    score : float [N]; positive : bool [N]. NaN where there is no positive or no negative.
    """
    count = int(positive.sum())
    others = positive.size - count
    if not count or not others:
        return float("nan")
    ranks = rankdata(score)[positive].sum()
    return float((ranks - count * (count + 1) / 2) / (count * others))


def found(errors: np.ndarray, places: Sequence[Place], visits: int) -> list[float]:
    """The share of the error pixels, bool [H, W] with one at least, within the discs of the first
    1, 2, ... ``visits`` places; where there are fewer places the last share stays."""
    seen = np.zeros(errors.shape, bool)
    shares = []
    for visit in range(visits):
        if visit < len(places):
            seen |= disc(errors.shape, places[visit].row, places[visit].column)
        shares.append(float(seen[errors].mean()))
    return shares
