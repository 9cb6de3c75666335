"""Does refinement help most where the object is small? Dice by quarters of the object's size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..output import Content, Report, Table, figure, interval, plain, verdict
from ..samplers import plain_settings, recommended, settings_named
from ..scoring import PRIOR, REFINED
from ..study import OnCase, Options, silent
from .scored import (
    CASES,
    ModelOnCases,
    ScoredCase,
    draw_cases,
    mean_interval,
    settings_line,
    unions,
)

QUARTERS = ("smallest", "second", "third", "largest")
FEW = 5
"""Cases below which an interval over them is not put into words."""

Sizes = Mapping[str, float]
"""Of the truth of a case, by class."""


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = silent,
) -> Content:
    """Divide the cases of every class into quarters by the size of its truth; plain data.

    Arms are the prior, ``refined`` (the options' sampler, or the card's) and the settings of
    ``options.arms``.  ``classes``: of every class, and region, how many cases have it (``n``) or
    not (``without``), and of each quarter ``n``, ``from`` and ``to`` (sizes), ``dice`` by arm and
    ``minus_prior`` with paired intervals.  Sizes are in ``unit``: mm3 (mm2 of a picture) where
    every case says its spacing, else pixels.  ``lowest``: over the cases that are in the smallest
    quarter of any class, the mean over those classes.  ``images``: sizes and Dice of every case.

    InputError: an unknown setting, or a case is bad.
    """
    settings = {REFINED: recommended(model, options)} | settings_named(options.arms or (), model)
    scored = ModelOnCases(model, dataset, settings, options.seeds).scored(cases, state, on_case)
    arms = (PRIOR, *settings)
    unit, sizes = _sizes(scored)
    quarters = {name: _quarters(sizes, name) for name in unions(dataset)}
    lowest: dict[str, list[str]] = {}
    for name, parts in quarters.items():
        for id_ in parts[0]:
            lowest.setdefault(id_, []).append(name)
    small = [case for case in scored if case.case.id in lowest]
    dices = {
        case.case.id: {
            arm: float(np.mean([_dice(case, name, arm) for name in lowest[case.case.id]]))
            for arm in arms
        }
        for case in small
    }
    if small:
        pairs = {id_: (own[PRIOR], own[REFINED]) for id_, own in dices.items()}
        draw_cases(state / CASES, small, REFINED, dataset, pairs)
    return plain(
        {
            "pictures": [CASES] if small else [],
            "unit": unit,
            "ways": plain_settings(settings),
            "classes": {
                name: _class(scored, sizes, name, parts, arms) for name, parts in quarters.items()
            },
            "lowest": _compared(list(dices.values()), arms),
            "images": [_row(case, sizes[case.case.id], arms) for case in scored],
        }
    )


def quarters_of(sizes: Sizes) -> list[list[str]]:
    """The ids in four parts by rising size, equals in the order of the alphabet.

    Parts differ in number by one at most, earlier ones have more; some are empty for less than
    four ids.
    """
    rising = sorted(sizes, key=lambda id_: (sizes[id_], id_))
    return [[rising[i] for i in part] for part in np.array_split(np.arange(len(rising)), 4)]


def report(content: Content) -> Report:
    """What holds on the smallest quarter; Dice and differences by class and quarter."""
    arms, lowest = list(content["ways"]), content["lowest"]
    heads = ["class", "quarter", "n", f"size ({content['unit']})", "Dice of the prior"]
    heads += [*arms, *(f"{arm} - prior" for arm in arms)]
    rows = []
    for name, part in content["classes"].items():
        for title, quarter in part["quarters"].items():
            if quarter["n"]:
                size = f"{quarter['from']:,.0f} - {quarter['to']:,.0f}"
                rows.append([name, title, str(quarter["n"]), size, *_cells(quarter, arms)])
    if lowest["n"]:
        rows.append(["all", "smallest", str(lowest["n"]), "", *_cells(lowest, arms)])
    summary = _summary(content)
    about = f"`{content['model']}`"
    return Report(about, summary, Table(heads, rows, words=2), settings_line(content))


def _summary(content: Content) -> list[str]:
    lowest = content["lowest"]
    if not lowest["n"]:
        return ["No case has any of the classes."]
    apart = lowest["minus_prior"][REFINED]
    said = f"refined {verdict(apart, 'the prior')}"
    if lowest["n"] < FEW:
        said = f"refined - prior {interval(apart)}, and so few cases say next to nothing"
    return [
        f"- **the smallest quarter of any class** (n = {lowest['n']}): {said}.",
        *(
            f"- {name}: {part['without']} cases without it are left out."
            for name, part in content["classes"].items()
            if part["without"]
        ),
    ]


def _cells(part: Mapping[str, Any], arms: Sequence[str]) -> list[str]:
    dices = [figure(part["dice"][arm]) for arm in (PRIOR, *arms)]
    return [*dices, *(interval(part["minus_prior"][arm]) for arm in arms)]


def _quarters(sizes: Mapping[str, Sizes], name: str) -> list[list[str]]:
    """The ids of the cases that have a class, in quarters."""
    return quarters_of({id_: own[name] for id_, own in sizes.items() if own[name]})


def _class(
    scored: Sequence[ScoredCase],
    sizes: Mapping[str, Sizes],
    name: str,
    quarters: Sequence[Sequence[str]],
    arms: Sequence[str],
) -> dict[str, Any]:
    """A class: how many cases have it, and its quarters."""
    count = sum(map(len, quarters))

    def quarter(ids: Sequence[str]) -> dict[str, Any]:
        own = [sizes[id_][name] for id_ in ids]
        dices = [
            {arm: _dice(case, name, arm) for arm in arms} for case in scored if case.case.id in ids
        ]
        ends = {"from": min(own, default=None), "to": max(own, default=None)}
        return ends | _compared(dices, arms)

    return {
        "n": count,
        "without": len(scored) - count,
        "quarters": {title: quarter(ids) for title, ids in zip(QUARTERS, quarters, strict=True)},
    }


def _compared(dices: Sequence[Mapping[str, float]], arms: Sequence[str]) -> dict[str, Any]:
    """Mean Dice by arm, and each arm less the prior; None without a case."""
    if not dices:
        return {"n": 0, "dice": None, "minus_prior": None}
    return {
        "n": len(dices),
        "dice": {arm: float(np.mean([own[arm] for own in dices])) for arm in arms},
        "minus_prior": {
            arm: mean_interval([own[arm] - own[PRIOR] for own in dices])
            for arm in arms
            if arm != PRIOR
        },
    }


def _dice(case: ScoredCase, name: str, arm: str) -> float:
    return case.arms[arm].per_class[name]["dice"]


def _row(case: ScoredCase, sizes: Sizes, arms: Sequence[str]) -> dict[str, Any]:
    """A case: of every class its size, and its Dice by arm unless the size is 0."""
    return {
        "id": case.case.id,
        "classes": {
            name: {"size": size} | ({arm: _dice(case, name, arm) for arm in arms} if size else {})
            for name, size in sizes.items()
        },
    }


def _sizes(scored: Sequence[ScoredCase]) -> tuple[str, dict[str, Sizes]]:
    """The unit, and the sizes of every case by class."""
    spacings = [case.spacing for case in scored]
    physical = None not in spacings
    unit = f"mm{len(spacings[0] or ())}" if physical else "pixels"
    sizes: dict[str, Sizes] = {}
    for case in scored:
        pixel = float(np.prod(case.spacing)) if physical and case.spacing else 1.0
        sizes[case.case.id] = {name: count * pixel for name, count in case.areas.items()}
    return unit, sizes
