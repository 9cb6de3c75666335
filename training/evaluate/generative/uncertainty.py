"""Which map of uncertainty finds errors? AUROC, and errors found against places visited."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from napari_hidiff.annotation.suggestions import uncertain_places
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import entropy
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import OnCase, Options
from ..report import plain
from .report import draw_uncertainty, print_best, print_means
from .study import (
    SAMPLES,
    Figures,
    View,
    all_pairs,
    auroc,
    differences,
    found,
    last_step,
    mean,
    measured,
)

NAME = "uncertainty"
VISITS = 20
PRIOR, ONE_STEP = "prior", "one-step"
SEGMENTOR, ONCE, MANY, MUTUAL = "segmentor", "one-step", "samples", "mutual information"
IDEAL = "ideal"
"""Places of the errors themselves: what no map can pass by much."""

Maps = dict[str, np.ndarray]


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = lambda done, case: None,
) -> dict[str, Any]:
    """Compare maps of uncertainty on every case; plain data, and ``uncertainty.png``.

    ``cases``: by id ``auroc``, ``area`` and ``found`` (a list over visits), each by the mask whose
    errors are sought (prior, one-step) and by map; None where a case has no such error.  ``mean``
    the same over cases; ``differences`` of ``auroc`` and ``area`` between every two maps, with
    95 % intervals.  docs/generative.md says what each figure means.

    state : a folder for a small file per case; a second call computes nothing.

    InputError: see :func:`~.study.measured`.
    """

    def measure(views: Sequence[View]) -> Figures:
        return mean([_figures(model, views, seed) for seed in options.seeds])

    figures = measured(NAME, measure, model, dataset, cases, options, state, on_case)
    names = list(next(iter(figures.values()))["auroc"][PRIOR])
    content = {
        "experiment": NAME,
        "pictures": [f"{NAME}.png"],
        "samples": SAMPLES,
        "seeds": list(options.seeds),
        "sampler": "ddim",
        "steps": model.card.defaults["steps"],
        "visits": VISITS,
        "n": len(figures),
        "cases": figures,
        "mean": mean(list(figures.values())),
        "differences": {
            figure: {
                mask: differences(figures, (figure, mask), all_pairs(names))
                for mask in (PRIOR, ONE_STEP)
            }
            for figure in ("auroc", "area")
        },
    }
    content = plain(content)
    draw_uncertainty(state / f"{NAME}.png", content)
    return content


def print_table(content: dict[str, Any], console: Console) -> None:
    """The means, and how far the best map is ahead of every other, for people."""
    console.print(
        f"uncertainty: ddim, {content['steps']} steps, {content['samples']} samples, seeds "
        f"{', '.join(map(str, content['seeds']))}, n = {content['n']}",
        soft_wrap=True,
    )
    titles = {
        "auroc": "AUROC of the errors",
        "area": f"errors found, mean over 1..{content['visits']} places visited",
    }
    for figure, title in titles.items():
        for mask, values in content["mean"][figure].items():
            print_means(f"{title} of the {mask} mask", values, console)
            pairs = content["differences"][figure][mask]
            known = {name: value for name, value in values.items() if name != IDEAL}
            print_best(f"{title} of the {mask} mask", known, pairs, console)


def combine(segmentor_entropy: np.ndarray, samples_entropy: np.ndarray) -> Maps:
    """Candidates for one map from two, all in nats and of the shape of the inputs.

    ``mean``, ``max`` and ``product``, the square root of the product (the geometric mean).
    """
    return {
        "mean": (segmentor_entropy + samples_entropy) / 2,
        "max": np.maximum(segmentor_entropy, samples_entropy),
        "product": np.sqrt(segmentor_entropy * samples_entropy),
    }


def mutual_information(each: np.ndarray) -> np.ndarray:
    """Entropy of the mean of the samples [S, K, H, W] less the mean of their entropies.

    float32 [H, W] in nats, 0 where all samples say the same, however unsure each of them is.
    """
    own = np.mean([entropy(sample) for sample in each], 0)
    return np.asarray(entropy(each.mean(0)) - own).clip(0)


def maps_of(prior: np.ndarray, once: np.ndarray, each: np.ndarray) -> Maps:
    """The candidates by name, each float [H, W] in nats.

    prior, once : the segmentor's and the one-step probability [K, H, W]; each : [S, K, H, W].
    """
    maps = {
        SEGMENTOR: entropy(prior),
        ONCE: entropy(once),
        MANY: entropy(each.mean(0)),
        MUTUAL: mutual_information(each),
    }
    pairs = {
        f"{how} of segmentor and {other}": combined
        for other in (MANY, ONCE)
        for how, combined in combine(maps[SEGMENTOR], maps[other]).items()
    }
    return maps | pairs


def _figures(model: HiDiff, views: Sequence[View], seed: int) -> Figures:
    """The figures of one case and seed: pixels of all its slices are pooled for AUROC."""
    seen = [_seen(model, view, seed) for view in views]
    figures: Figures = {"auroc": {}, "area": {}, "found": {}}
    for mask in (PRIOR, ONE_STEP):
        errors = [wrong[mask] for _, wrong in seen]
        inside = [view.inside for view in views]
        positive = _pooled(errors, inside)
        figures["auroc"][mask] = {
            name: auroc(_pooled([maps[name] for maps, _ in seen], inside), positive)
            for name in seen[0][0]
        }
        curves = mean(
            [
                _curves(maps, wrong, view)
                for (maps, _), wrong, view in zip(seen, errors, views, strict=True)
            ]
        )
        figures["found"][mask] = curves
        figures["area"][mask] = {name: mean(curve) for name, curve in curves.items()}
    return figures


def _seen(model: HiDiff, view: View, seed: int) -> tuple[Maps, dict[str, np.ndarray]]:
    """The maps of an image, and where the prior and the one-step mask are wrong."""
    prior = model.prior(view.image, normalised=True)
    once = last_step(model, view, ONE_STEP).probability
    each = last_step(model, view, "ddim", seed).each
    wrong = {
        name: (model.mask_of(probability) != view.truth) & view.inside
        for name, probability in ((PRIOR, prior), (ONE_STEP, once))
    }
    return maps_of(prior, once, each), wrong


def _pooled(maps: Sequence[np.ndarray], inside: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([here[where] for here, where in zip(maps, inside, strict=True)])


def _curves(maps: Maps, errors: np.ndarray, view: View) -> dict[str, list[float | None]]:
    """Errors found by every map, and by the ideal one; None at every visit without an error."""
    if not errors.any():
        return {name: [None] * VISITS for name in (*maps, IDEAL)}
    fixed = np.where(view.inside, -1, 0)  # nobody looks outside the field of view
    candidates = maps | {IDEAL: errors.astype(np.float32)}
    return {
        name: list(found(errors, uncertain_places(candidate, VISITS, fixed), VISITS))
        for name, candidate in candidates.items()
    }
