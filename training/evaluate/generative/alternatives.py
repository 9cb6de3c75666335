"""Does drawing several masks pay? Best of three, diversity, two observers, thin structures."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from napari_hidiff.annotation.suggestions import CLEAR, alternatives
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import mask_of, mean_dice
from napari_hidiff.training.datasets import Case, Dataset

from ..gallery import new_figure, save
from ..output import Content, plain, print_line
from ..scoring import ONE_STEP, PRIOR
from ..study import OnCase, Options, silent
from .figures import (
    Figures,
    at_level,
    centreline_dice,
    component_error,
    differences,
    diversity,
    energy_distance,
    mean,
    overlap_distance,
)
from .views import (
    SAMPLES,
    View,
    draw_dots,
    figures_of_cases,
    headline,
    last_step,
    print_differences,
    print_means,
    title_of,
)

NAME = "alternatives"
SAMPLERS = ("ddim", "ancestral")
COUNT = 3
"""How many masks an annotator would be offered."""
LEVELS = (0.3, 0.5, 0.7)
"""The fair rival: as many masks of the one-step probability, at these levels."""

LEVELLED, DRAWN_LEVELS = "levels", "random levels"
HIGHER = {"dice": True, "ged": False, "cldice": True, "components": False, "diversity": None}
"""The figures, and whether more is better."""
LABELS = {
    "dice": "Dice (more is better)",
    "ged": "squared energy distance (less is better)",
    "diversity": "mean 1 - Dice between samples",
    "cldice": "clDice (more is better)",
    "components": "components too many or too few (less is better)",
}
"""Titles of the picture."""


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = silent,
) -> Content:
    """Compare alternatives with one mask, on every case; plain data, and ``alternatives.png``.

    ``cases``: by id ``dice``, ``ged``, ``cldice``, ``components``, ``diversity``, ``found``
    (how many alternatives there were), ``observers`` (1 - IoU between two of them) and
    ``seconds``, each by arm; ``mean`` the same over cases; ``differences`` with 95 % intervals.
    docs/generative.md says what each figure means.

    InputError: see :func:`~.views.figures_of_cases`.
    """

    def measure(views: Sequence[View]) -> Figures:
        figures: Figures = mean([_figures(model, view, tuple(options.seeds)) for view in views])
        return figures

    figures = figures_of_cases(NAME, measure, model, dataset, cases, options, state, on_case)
    content: Content = {
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
    draw(state / f"{NAME}.png", content)
    return content


def print_tables(content: Content, out: Console) -> None:
    """The means and the differences for people."""
    print_line(headline(content, ""), out)
    for figure, more in HIGHER.items():
        sign = {True: "more is better", False: "less is better", None: "0 = all alike"}[more]
        print_means(f"{figure} ({sign})", content["mean"][figure], out)
    offered = ", ".join(f"{arm} {count:.2f}" for arm, count in content["mean"]["found"].items())
    print_line(f"alternatives: {offered}", out)
    apart = content["mean"]["observers"]
    if apart is not None:
        print_line(f"1 - IoU between the observers: {apart:.4f}", out)
    for figure, pairs in content["differences"].items():
        print_differences(f"{figure}: difference, 95 % interval over cases", pairs, out)


def draw(path: Path, content: Content) -> None:
    """A PNG: every figure by arm, a dot per case and a line at the mean.

    InputError if ``path`` cannot be written.
    """
    drawing = new_figure(4 * len(LABELS), 4.2, 100)
    for axes, (name, label) in zip(drawing.subplots(1, len(LABELS)), LABELS.items(), strict=True):
        draw_dots(axes, [case[name] for case in content["cases"].values()])
        axes.set_title(label, fontsize=10)
    drawing.suptitle(title_of(content), fontsize=11)
    save(drawing, path)


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
        "dice": _each(mean_dice, single, view, model.labels),
        "ged": {ONE_STEP: _energy([single[ONE_STEP]], view, model.labels)},
        "cldice": _each(centreline_dice, single, view, model.labels),
        "components": _each(component_error, single, view, model.labels),
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
        "dice": _each(mean_dice, one, view, model.labels) | chosen,
        "ged": {sampler: _energy(list(masks), view, model.labels)},
        "cldice": _each(centreline_dice, one, view, model.labels),
        "components": _each(component_error, one, view, model.labels),
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


def _each(
    metric: Callable[[np.ndarray, np.ndarray, int], float],
    masks: Mapping[str, np.ndarray],
    view: View,
    labels: int,
) -> dict[str, float]:
    """A metric of the mask of every arm."""
    return {arm: metric(view.cut(mask), view.truth, labels) for arm, mask in masks.items()}


def _pairs() -> dict[str, list[tuple[str, str]]]:
    """The comparisons that answer the question, by figure."""
    rivals = (ONE_STEP, f"{LEVELLED} best of {COUNT}")
    arms = [(arm(s), average(s)) for s in SAMPLERS for arm in (best, clear)]
    dice = [(arm, rival) for arm, mean_of in arms for rival in (mean_of, *rivals)]
    ged = [(s, rival) for s in SAMPLERS for rival in (ONE_STEP, DRAWN_LEVELS)]
    thin = [(ONE_STEP, PRIOR), *((average(s), r) for s in SAMPLERS for r in (PRIOR, ONE_STEP))]
    return {"dice": dice, "ged": ged, "cldice": thin, "components": thin}
