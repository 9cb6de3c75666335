"""Does drawing several masks pay? Best of three, diversity, two observers, thin structures."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from napari_hidiff.annotation.suggestions import CLEAR, alternatives
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import mask_of, mean_dice
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import OnCase, Options
from ..report import plain
from .report import draw_alternatives, print_differences, print_means
from .study import (
    SAMPLES,
    Figures,
    View,
    at_level,
    centreline_dice,
    component_error,
    differences,
    diversity,
    energy_distance,
    last_step,
    mean,
    measured,
    overlap_distance,
)

NAME = "alternatives"
SAMPLERS = ("ddim", "ancestral")
COUNT = 3
"""How many masks an annotator would be offered."""
LEVELS = (0.3, 0.5, 0.7)
"""The fair rival: as many masks of the one-step probability, at these levels."""

PRIOR, ONE_STEP, LEVELLED, DRAWN_LEVELS = "prior", "one-step", "levels", "random levels"
HIGHER = {"dice": True, "ged": False, "cldice": True, "components": False, "diversity": None}
"""The figures, and whether more is better."""


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = lambda done, case: None,
) -> dict[str, Any]:
    """Compare alternatives with one mask, on every case; plain data, and ``alternatives.png``.

    ``cases``: by id ``dice``, ``ged``, ``cldice``, ``components``, ``diversity``, ``found``
    (how many alternatives there were), ``observers`` (1 - IoU between two of them) and
    ``seconds``, each by arm; ``mean`` the same over cases; ``differences`` with 95 % intervals.
    docs/generative.md says what each figure means.

    state : a folder for a small file per case; a second call computes nothing.

    InputError: see :func:`~.study.measured`.
    """

    def measure(views: Sequence[View]) -> Figures:
        return mean([_figures(model, view, tuple(options.seeds)) for view in views])

    figures = measured(NAME, measure, model, dataset, cases, options, state, on_case)
    content = {
        "experiment": NAME,
        "pictures": [f"{NAME}.png"],
        "samples": SAMPLES,
        "seeds": list(options.seeds),
        "steps": {"ddim": model.card.defaults["steps"], "ancestral": model.process.steps},
        "n": len(figures),
        "cases": figures,
        "mean": mean(list(figures.values())),
        "differences": {
            figure: differences(figures, (figure,), pairs) for figure, pairs in _pairs().items()
        },
    }
    content = plain(content)
    draw_alternatives(state / f"{NAME}.png", content)
    return content


def print_table(content: dict[str, Any], console: Console) -> None:
    """The means and the differences for people."""
    console.print(
        f"alternatives: {content['samples']} samples, seeds "
        f"{', '.join(map(str, content['seeds']))}, n = {content['n']}",
        soft_wrap=True,
    )
    for figure, more in HIGHER.items():
        sign = {True: "more is better", False: "less is better", None: "0 = all alike"}[more]
        print_means(f"{figure} ({sign})", content["mean"][figure], console)
    seen = ", ".join(f"{k} {v:.2f}" for k, v in content["mean"]["found"].items())
    console.print(f"alternatives: {seen}", soft_wrap=True)
    apart = content["mean"]["observers"]
    if apart is not None:
        console.print(f"1 - IoU between the observers: {apart:.4f}", soft_wrap=True)
    for figure, pairs in content["differences"].items():
        print_differences(f"{figure}: difference, 95 % interval over cases", pairs, console)


def best(sampler: str) -> str:
    """The arm that takes the best of the alternatives of a sampler."""
    return f"{sampler} best of {COUNT}"


def clear(sampler: str) -> str:
    """The same of the alternatives that differ by more than noise."""
    return f"{sampler} best of clear"


def average(sampler: str) -> str:
    """The arm that takes the mean of the samples of a sampler."""
    return f"{sampler} mean"


def _figures(model: HiDiff, view: View, seeds: tuple[int, ...]) -> Figures:
    """All figures of one image; those of samples are means over seeds."""
    prior = model.prior(view.image, normalised=True)
    start = time.perf_counter()
    once = last_step(model, view, ONE_STEP).probability
    seconds = {ONE_STEP: time.perf_counter() - start}
    single = {PRIOR: model.mask_of(prior), ONE_STEP: model.mask_of(once)}
    figures: Figures = {
        "dice": _dices(single, view, model.labels),
        "ged": {ONE_STEP: _energy([single[ONE_STEP]], view, model.labels)},
        "cldice": _thin(single, view, model.labels),
        "components": _parts(single, view, model.labels),
        "diversity": {},
        "found": {},
        "seconds": seconds,
    }
    levelled = [mean_dice(view.cut(at_level(once, x)), view.truth, model.labels) for x in LEVELS]
    figures["dice"][f"{LEVELLED} best of {COUNT}"] = max(levelled)
    drawn = mean([_random_levels(once, view, model.labels, seed) for seed in seeds])
    figures["ged"][DRAWN_LEVELS], figures["diversity"][DRAWN_LEVELS] = drawn
    for sampler in SAMPLERS:
        many = mean([_sampled(model, view, sampler, seed) for seed in seeds])
        for figure, values in many.items():
            figures[figure] |= values
    others = view.observers[1:]
    apart = [overlap_distance(view.truth, other, model.labels) for other in others]
    return figures | {"observers": mean(apart) if apart else None}


def _sampled(model: HiDiff, view: View, sampler: str, seed: int) -> Figures:
    """The figures of the samples of one seed, by figure and arm."""
    start = time.perf_counter()
    last = last_step(model, view, sampler, seed)
    seconds = time.perf_counter() - start
    offered = {
        best(sampler): alternatives(last.each, COUNT),
        clear(sampler): alternatives(last.each, COUNT, CLEAR),
    }
    chosen = {
        arm: max(mean_dice(view.cut(one.mask), view.truth, model.labels) for one in some)
        for arm, some in offered.items()
    }
    masks = np.stack([view.cut(mask) for mask in mask_of(last.each)])
    one = {average(sampler): last.mask}
    return {
        "dice": _dices(one, view, model.labels) | chosen,
        "ged": {sampler: _energy(list(masks), view, model.labels)},
        "cldice": _thin(one, view, model.labels),
        "components": _parts(one, view, model.labels),
        "diversity": {sampler: diversity(masks, model.labels)},
        "found": {arm: float(len(some)) for arm, some in offered.items()},
        "seconds": {sampler: seconds},
    }


def _random_levels(once: np.ndarray, view: View, labels: int, seed: int) -> list[float]:
    """Energy distance and diversity of as many masks as samples, of one probability."""
    levels = np.random.default_rng(seed).uniform(size=SAMPLES)
    masks = [view.cut(at_level(once, level)) for level in levels]
    return [_energy(masks, view, labels), diversity(np.stack(masks), labels)]


def _energy(masks: list[np.ndarray], view: View, labels: int) -> float:
    return energy_distance([view.cut(mask) for mask in masks], view.observers, labels)


def _dices(masks: dict[str, np.ndarray], view: View, labels: int) -> dict[str, float]:
    return {arm: mean_dice(view.cut(mask), view.truth, labels) for arm, mask in masks.items()}


def _thin(masks: dict[str, np.ndarray], view: View, labels: int) -> dict[str, float]:
    return {arm: centreline_dice(view.cut(mask), view.truth, labels) for arm, mask in masks.items()}


def _parts(masks: dict[str, np.ndarray], view: View, labels: int) -> dict[str, float]:
    return {arm: component_error(view.cut(mask), view.truth, labels) for arm, mask in masks.items()}


def _pairs() -> dict[str, list[tuple[str, str]]]:
    """The comparisons that answer the question, by figure."""
    rivals = (ONE_STEP, f"{LEVELLED} best of {COUNT}")
    arms = [(arm(s), average(s)) for s in SAMPLERS for arm in (best, clear)]
    dice = [(arm, rival) for arm, mean_of in arms for rival in (mean_of, *rivals)]
    ged = [(s, rival) for s in SAMPLERS for rival in (ONE_STEP, DRAWN_LEVELS)]
    thin = [(ONE_STEP, PRIOR), *((average(s), r) for s in SAMPLERS for r in (PRIOR, ONE_STEP))]
    return {"dice": dice, "ged": ged, "cldice": thin, "components": thin}
