"""Which map of uncertainty finds errors? AUROC, and errors found against places visited."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.console import Console

from napari_hidiff.annotation.suggestions import uncertain_places
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import entropy
from napari_hidiff.training.datasets import Case, Dataset

from ..gallery import new_figure, save
from ..output import Content, plain, print_line
from ..scoring import ONE_STEP, PRIOR
from ..study import OnCase, Options, silent
from .figures import Figures, Interval, auroc, differences, errors_found, mean
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

NAME = "uncertainty"
VISITS = 20
SEGMENTOR, MANY, MUTUAL = "segmentor", "samples", "mutual information"
IDEAL = "ideal"
"""Places of the errors themselves: no map can be much better."""

Maps = dict[str, np.ndarray]


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = silent,
) -> Content:
    """Compare maps of uncertainty on every case; plain data, and ``uncertainty.png``.

    ``cases``: by id ``auroc``, ``area`` and ``found`` (a list over visits), each by the mask whose
    errors are sought (prior, one-step) and by map; None where a case has no such error.  ``mean``
    the same over cases; ``differences`` of ``auroc`` and ``area`` between every two maps, with
    95 % intervals.  docs/generative.md says what each figure means.

    InputError: see :func:`~.views.figures_of_cases`.
    """

    def measure(views: Sequence[View]) -> Figures:
        figures: Figures = mean([_figures(model, views, seed) for seed in options.seeds])
        return figures

    figures = figures_of_cases(NAME, measure, model, dataset, cases, options, state, on_case)
    names = list(next(iter(figures.values()))["auroc"][PRIOR])
    content: Content = {
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
                mask: differences(figures, (figure, mask), list(combinations(names, 2)))
                for mask in (PRIOR, ONE_STEP)
            }
            for figure in ("auroc", "area")
        },
    }
    content = plain(content)
    draw(state / f"{NAME}.png", content)
    return content


def print_tables(content: Content, out: Console) -> None:
    """The means, and how far the best map is ahead of every other, for people."""
    print_line(headline(content, f"ddim, {content['steps']} steps, "), out)
    titles = {
        "auroc": "AUROC of the errors",
        "area": f"errors found, mean over 1..{content['visits']} places visited",
    }
    for figure, title in titles.items():
        for mask, values in content["mean"][figure].items():
            print_means(f"{title} of the {mask} mask", values, out)
            pairs = content["differences"][figure][mask]
            known = {name: v for name, v in values.items() if name != IDEAL and v is not None}
            if known:
                heading = f"{title} of the {mask} mask: the best minus the others, 95 % interval"
                print_differences(heading, lead(known, pairs), out)


def lead(
    values: Mapping[str, float], pairs: Mapping[str, Interval | None]
) -> dict[str, Interval | None]:
    """How far the best map is ahead of every other one, ``"best - other"`` -> the interval.

    pairs : ``"a - b"`` -> the interval, of every two maps in one direction.
    """
    best = max(values, key=lambda name: values[name])
    others = [name for name in values if name != best]
    return {f"{best} - {other}": _difference(best, other, pairs) for other in others}


def _difference(first: str, second: str, pairs: Mapping[str, Interval | None]) -> Interval | None:
    if f"{first} - {second}" in pairs:
        return pairs[f"{first} - {second}"]
    turned = pairs[f"{second} - {first}"]
    if turned is None:
        return None
    ends = {"mean": turned["mean"], "low": turned["high"], "high": turned["low"]}
    return {name: None if value is None else -value for name, value in ends.items()}


def draw(path: Path, content: Content) -> None:
    """A PNG: AUROC of every map above, errors found against places visited below, by mask.

    InputError if ``path`` cannot be written.
    """
    masks = list(content["mean"]["auroc"])
    drawing = new_figure(7 * len(masks), 9.5, 100)
    grid = drawing.subplots(2, len(masks), squeeze=False)
    visits = np.arange(1, content["visits"] + 1)
    for column, mask in enumerate(masks):
        draw_dots(grid[0][column], [case["auroc"][mask] for case in content["cases"].values()])
        grid[0][column].set_title(f"AUROC of the errors of the {mask} mask", fontsize=10)
        axes = grid[1][column]
        styles = ("-", "--", ":", "-.")
        for index, (name, curve) in enumerate(content["mean"]["found"][mask].items()):
            shares = [np.nan if share is None else share for share in curve]
            axes.plot(visits, shares, styles[index // 10 % 4], label=name, lw=1.4)
        axes.set_xlabel("places visited")
        axes.locator_params("x", integer=True)
        axes.set_ylabel(f"share of the errors of the {mask} mask found")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    drawing.suptitle(title_of(content), fontsize=11)
    save(drawing, path)


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
        ONE_STEP: entropy(once),
        MANY: entropy(each.mean(0)),
        MUTUAL: mutual_information(each),
    }
    pairs = {
        f"{how} of segmentor and {other}": combined
        for other in (MANY, ONE_STEP)
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
    fixed = np.where(view.inside, -1, 0)  # no place lies outside the field of view
    candidates = maps | {IDEAL: errors.astype(np.float32)}
    return {
        name: list(errors_found(errors, uncertain_places(candidate, VISITS, fixed), VISITS))
        for name, candidate in candidates.items()
    }
