"""How many steps and samples pay? Every sampler of one model, against its prior and one pass."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..gallery import TINTS, new_figure, save
from ..output import Content, Difference, Report, Table, figure, interval, plain, score_cells, side
from ..samplers import SETTINGS, plain_settings, recommended, settings_named
from ..scoring import ONE_STEP, PRIOR
from ..study import OnCase, Options, silent
from .scored import (
    CASES,
    ModelOnCases,
    dices_of,
    difference,
    draw_cases,
    mean_interval,
    means,
    row_of,
    settings_line,
    surface,
    values,
)

CURVE = "curve.png"


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = silent,
) -> Content:
    """Score every setting (or those of ``options.arms``) on every case; two pictures in ``state``.

    ``arms``: the prior and every setting, each with ``mean`` (dice, hd95, nsd; over seeds, then
    over cases), ``dice`` with the interval of its mean, and for settings ``passes`` of the refiner
    for one mask, ``seconds`` for it (median over cases), ``minus_prior`` and ``minus_one_step``
    with paired intervals.  ``images``: the scores of every case by arm.  ``recommended``: the
    setting of the model's card, None where it is not among them.

    InputError: an unknown setting, a sampler, steps or samples besides, or a case is bad.
    """
    if (options.sampler, options.steps, options.samples) != (None, None, None):
        raise InputError("steps runs many samplers: --arms chooses among them, as ddim-3x5")
    possible = [name for name, one in SETTINGS.items() if one.steps <= model.process.steps]
    settings = settings_named(possible if options.arms is None else options.arms, model)
    if not settings:
        raise InputError(f"no arm is named: choose among {', '.join(SETTINGS)}")
    scored = ModelOnCases(model, dataset, settings, options.seeds).scored(cases, state, on_case)
    arms: dict[str, dict[str, Any]] = {PRIOR: {"mean": means(scored, PRIOR)}}
    for name, setting in settings.items():
        arms[name] = {
            "mean": means(scored, name),
            "passes": setting.forwards,
            "seconds": float(np.median([case.arms[name].seconds for case in scored])),
            "minus_prior": difference(scored, name, PRIOR),
        }
        if name != ONE_STEP and ONE_STEP in settings:
            arms[name]["minus_one_step"] = difference(scored, name, ONE_STEP)
    for name, arm in arms.items():
        arm["dice"] = mean_interval(values(scored, name, "dice"))
    on_card = recommended(model, options)
    names = [name for name, setting in settings.items() if setting == on_card]
    shown = names[0] if names else next(iter(settings))
    content = plain(
        {
            "pictures": [CURVE, CASES],
            "surface": surface(scored),
            "ways": plain_settings(settings),
            "recommended": names[0] if names else None,
            "shown": shown,
            "arms": arms,
            "images": [row_of(case) for case in scored],
        }
    )
    draw_curve(state / CURVE, content)
    draw_cases(state / CASES, scored, shown, dataset, dices_of(scored, shown))
    return content


def report(content: Content) -> Report:
    """Which settings are above the prior and one pass; scores, cost and differences of each."""
    summary = []
    for key, other in (("minus_prior", "the prior"), ("minus_one_step", "one pass")):
        sides: dict[str, list[str]] = {}
        for name, arm in content["arms"].items():
            if key in arm:
                sides.setdefault(side(arm[key]["dice"]), []).append(name)
        summary += [
            f"- {where.capitalize()} {other}: {', '.join(names)}." for where, names in sides.items()
        ]
    if content["recommended"]:
        summary.append(f"- The model's card recommends {content['recommended']}.")
    hd95 = f"HD95 ({content['surface']['unit']})"
    heads = ["way", "passes", "Dice", hd95, "NSD", "Dice - prior", "Dice - one pass", "seconds"]
    rows = []
    for name, arm in content["arms"].items():
        scores = score_cells(arm["mean"])
        if name == PRIOR:
            rows.append([name, "", *scores, "", "", ""])
            continue
        apart = [arm.get(key, {}).get("dice") for key in ("minus_prior", "minus_one_step")]
        cost = str(arm["passes"]), figure(arm["seconds"], 2)
        rows.append([f"`{name}`", cost[0], *scores, *map(interval, apart), cost[1]])
    return Report(f"`{content['model']}`", summary, Table(heads, rows), settings_line(content))


APART = 1.035
"""Settings with equal passes are drawn beside each other, by this factor."""


def draw_curve(path: Path, content: Content) -> None:
    """From the object of ``steps``: the mean Dice of every setting with its interval over cases on
    the left, and what it adds to the prior, with the paired interval, on the right.

    InputError if ``path`` cannot be written.
    """
    drawing = new_figure(11, 4, 90)
    left, right = drawing.subplots(1, 2)
    prior = content["arms"][PRIOR]["mean"]["dice"]
    _lines(left, content, lambda arm: arm["dice"])
    left.axhline(prior, color="black", lw=1, ls="--", label=PRIOR)
    _lines(right, content, lambda arm: arm["minus_prior"]["dice"])
    right.axhline(0, color="black", lw=1, ls="--", label=PRIOR)
    left.set_ylabel("Dice, 95 % interval over cases")
    right.set_ylabel("Dice minus that of the prior, paired interval")
    # Beside the curves: inside it would hide some of them.
    drawing.legend(*right.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    for axes in (left, right):
        axes.set_xscale("log")
        passes = sorted({arm["passes"] for arm in content["arms"].values() if "passes" in arm})
        axes.set_xticks(passes, [str(one) for one in passes])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("passes of the refiner for a mask")
        axes.grid(alpha=0.3)
    save(drawing, path, TINTS)


def _lines(axes: Axes, content: Content, value: Callable[[Mapping[str, Any]], Difference]) -> None:
    """A line for the settings of one sampler with equally many samples."""
    lines: dict[str, list[str]] = {}
    for name, way in content["ways"].items():
        kind = way["sampler"] + ("" if way["samples"] == 1 else f", {way['samples']} samples")
        kind = "ensemble" if way["ensemble"] else kind
        lines.setdefault(kind + (", unlinked" if way["unlink"] else ""), []).append(name)
    for index, (kind, names) in enumerate(lines.items()):
        shift = APART ** (index - (len(lines) - 1) / 2)
        at = [content["arms"][name]["passes"] * shift for name in names]
        found = [value(content["arms"][name]) for name in names]
        middle = np.array([one["mean"] for one in found], float)
        ends = np.array([[one[end] for one in found] for end in ("low", "high")], float)
        # A single case has no interval: null in the object, NaN here.
        reach = np.nan_to_num(np.abs(ends - middle))
        axes.errorbar(at, middle, reach, fmt="o-", ms=4, lw=1.2, capsize=2, label=kind)
