"""How many steps and samples pay? Every sampler of one model, against its prior and one pass.

Dice against the passes of the refiner, as one picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import OnCase, Options
from ..gallery import save
from ..output import interval as as_text
from ..report import new_table, plain
from ..samplers import WAYS
from ..scoring import ONE_STEP, PRIOR
from .study import (
    CASES,
    FIGURES,
    Study,
    apart,
    chosen_way,
    dices_of,
    draw_cases,
    interval,
    means,
    named_ways,
    row_of,
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
    on_case: OnCase = lambda done, case: None,
) -> dict[str, Any]:
    """Score every way (or those of ``options.arms``) on every case; plain data and two pictures.

    ``arms``: the prior and every way, each with ``mean`` (dice, hd95, nsd; over seeds, then over
    cases), ``dice`` with the interval of its mean, and for ways ``passes`` of the refiner for one
    mask, ``seconds`` for it (median over cases), ``minus_prior`` and ``minus_one_step`` with
    paired intervals.  ``images``: the figures of every case by arm.  ``recommended``: the way of
    the model's card, None where it is not among them.

    state : a folder for a small file per case, way and seed; a second call computes nothing.

    InputError: an unknown way, a sampler, steps or samples besides, or a case is bad.
    """
    if (options.sampler, options.steps, options.samples) != (None, None, None):
        raise InputError("steps runs many samplers: --arms chooses among them, as ddim-3x5")
    possible = [name for name, way in WAYS.items() if way.steps <= model.process.steps]
    ways = named_ways(possible if options.arms is None else options.arms, model)
    if not ways:
        raise InputError(f"no arm is named: choose among {', '.join(WAYS)}")
    study = Study(model, dataset, ways, options.seeds, state)
    scored = study.scored(cases, on_case)
    found: dict[str, Any] = {PRIOR: {"mean": means(scored, PRIOR)}}
    for name, way in ways.items():
        seconds = [case.arms[name].seconds for case in scored]
        found[name] = {
            "mean": means(scored, name),
            "passes": way.forwards,
            "seconds": float(np.median(seconds)),
            "minus_prior": apart(scored, name, PRIOR),
        }
        if name != ONE_STEP and ONE_STEP in ways:
            found[name]["minus_one_step"] = apart(scored, name, ONE_STEP)
    for name, arm in found.items():
        arm["dice"] = interval(values(scored, name, "dice"))
    recommended = chosen_way(model, options)
    names = [name for name, way in ways.items() if way == recommended]
    shown = names[0] if names else next(iter(ways))
    content = plain(
        {
            "pictures": [CURVE, CASES],
            "surface": surface(scored),
            "ways": {name: asdict(way) for name, way in ways.items()},
            "recommended": names[0] if names else None,
            "shown": shown,
            "arms": found,
            "images": [row_of(case) for case in scored],
        }
    )
    draw_curve(state / CURVE, content)
    draw_cases(state / CASES, scored, shown, dataset, dices_of(scored, shown))
    return content


def print_table(content: dict[str, Any], console: Console) -> None:
    """Scores, cost and differences of every way, for people."""
    seeds = ", ".join(map(str, content["seeds"]))
    console.print(
        f"steps: {content['model']} on {content['dataset']} ({content['split']}, "
        f"n = {content['n']}), seeds {seeds}, {', '.join(content['engine'])}",
        soft_wrap=True,
    )
    table = new_table("mean over cases", ("way",), (*FIGURES, "passes", "seconds"))
    for name, arm in content["arms"].items():
        title = f"{name} (card)" if name == content["recommended"] else name
        scores = [f"{arm['mean'][figure]:.4f}" for figure in FIGURES]
        cost = [str(arm["passes"]), f"{arm['seconds']:.2f}"] if "passes" in arm else ["", ""]
        table.add_row(title, *scores, *cost)
    console.print(table)
    unit = content["surface"]["unit"]
    console.print(f"hd95 in {unit}; nsd at {content['surface']['tolerance']:g} {unit}")
    columns = ("minus prior", "minus one-step")
    table = new_table("Dice: difference, 95 % interval over cases", ("way",), columns)
    for name, arm in content["arms"].items():
        pairs = [arm.get(key) for key in ("minus_prior", "minus_one_step")]
        if pairs[0]:
            table.add_row(name, *("-" if one is None else as_text(one["dice"]) for one in pairs))
    console.print(table)
    for note in content["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, markup=False)


APART = 1.035
"""Ways with equal passes stand beside each other, by this factor."""

Interval = Mapping[str, float | None]


def draw_curve(path: Path, content: Mapping[str, Any]) -> None:
    """From the object of ``steps``: the mean Dice of every way with its interval over cases on the
    left, and what it adds to the prior, with the paired interval, on the right.

    InputError if ``path`` cannot be written.
    """
    figure = Figure(figsize=(11, 4), dpi=90, layout="constrained")
    left, right = figure.subplots(1, 2)
    prior = content["arms"][PRIOR]["mean"]["dice"]
    _lines(left, content, lambda arm: arm["dice"])
    left.axhline(prior, color="black", lw=1, ls="--", label=PRIOR)
    _lines(right, content, lambda arm: arm["minus_prior"]["dice"])
    right.axhline(0, color="black", lw=1, ls="--", label=PRIOR)
    left.set_ylabel("Dice, 95 % interval over cases")
    right.set_ylabel("Dice minus that of the prior, paired interval")
    # Beside the curves: inside it hides whatever happens to be there.
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    for axes in (left, right):
        axes.set_xscale("log")
        passes = sorted({arm["passes"] for arm in content["arms"].values() if "passes" in arm})
        axes.set_xticks(passes, [str(one) for one in passes])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("passes of the refiner for a mask")
        axes.grid(alpha=0.3)
    save(figure, path)


def _lines(axes: Axes, content: Mapping[str, Any], value: Callable[[Any], Interval]) -> None:
    """A line for the ways of one sampler with equally many samples."""
    lines: dict[str, list[str]] = {}
    for name, way in content["ways"].items():
        kind = way["sampler"] + ("" if way["samples"] == 1 else f", {way['samples']} samples")
        lines.setdefault(kind + (", unlinked" if way["unlink"] else ""), []).append(name)
    for index, (kind, names) in enumerate(lines.items()):
        shift = APART ** (index - (len(lines) - 1) / 2)
        places = [content["arms"][name]["passes"] * shift for name in names]
        found = [value(content["arms"][name]) for name in names]
        middle = np.array([one["mean"] for one in found], float)
        ends = np.array([[one[end] for one in found] for end in ("low", "high")], float)
        # A single case has no interval: null in the object, NaN here.
        reach = np.nan_to_num(np.abs(ends - middle))
        axes.errorbar(places, middle, reach, fmt="o-", ms=4, lw=1.2, capsize=2, label=kind)
