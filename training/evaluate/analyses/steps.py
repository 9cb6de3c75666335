"""How many steps and samples pay? Every sampler of one model, against its prior and one pass."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..arms import ONE_STEP, PRIOR
from ..experiments import OnCase, Options
from ..report import plain
from ..samplers import WAYS
from ..tables import interval as as_text
from ..tables import new_table
from .curve import draw_curve
from .figures import (
    CASES,
    FIGURES,
    apart,
    dices_of,
    draw_cases,
    interval,
    means,
    row_of,
    surface,
    values,
)
from .study import Study, chosen_way, named_ways

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
