"""Does refinement help most where the object is small? Dice by quarters of the object's size."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import OnCase, Options
from ..output import interval as as_text
from ..report import new_table, plain
from ..scoring import PRIOR, REFINED
from .study import CASES, Scored, Study, chosen_way, draw_cases, interval, named_ways, unions

QUARTERS = ("smallest", "second", "third", "largest")


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = lambda done, case: None,
) -> dict[str, Any]:
    """Divide the cases of every class into quarters by the size of its truth; plain data.

    Arms are the prior, ``refined`` (the options' sampler, or the card's) and the ways of
    ``options.arms``.  ``classes``: of every class, and region, how many cases have it (``n``) or
    not (``without``), and of each quarter ``n``, ``from`` and ``to`` (sizes), ``dice`` by arm and
    ``minus_prior`` with paired intervals.  Sizes are in ``unit``: mm3 (mm2 of a picture) where
    every case says its spacing, else pixels.  ``lowest``: over the cases that are in the smallest
    quarter of any class, the mean over those classes.  ``images``: sizes and Dice of every case.

    state : a folder for a small file per case, way and seed; a second call computes nothing.

    InputError: an unknown way, or a case is bad.
    """
    ways = {REFINED: chosen_way(model, options)} | named_ways(options.arms or (), model)
    study = Study(model, dataset, ways, options.seeds, state)
    scored = study.scored(cases, on_case)
    unit, sizes = _sizes(scored)
    arms = (PRIOR, *ways)
    classes: dict[str, Any] = {}
    lowest: dict[str, list[str]] = {}
    for name in unions(dataset):
        own = {id_: size[name] for id_, size in sizes.items() if size[name]}
        quarters = dict(zip(QUARTERS, quarters_of(own), strict=True))
        for id_ in quarters[QUARTERS[0]]:
            lowest.setdefault(id_, []).append(name)
        classes[name] = {
            "n": len(own),
            "without": len(scored) - len(own),
            "quarters": {
                title: _quarter([case for case in scored if case.case.id in ids], own, name, arms)
                for title, ids in quarters.items()
            },
        }
    small = [case for case in scored if case.case.id in lowest]
    dices = {
        case.case.id: {
            arm: float(np.mean([_dice(case, name, arm) for name in lowest[case.case.id]]))
            for arm in arms
        }
        for case in small
    }
    content = plain(
        {
            "pictures": [CASES] if small else [],
            "unit": unit,
            "ways": {name: asdict(way) for name, way in ways.items()},
            "classes": classes,
            "lowest": _compared(list(dices.values()), arms),
            "images": [_row(case, sizes[case.case.id], arms) for case in scored],
        }
    )
    if small:
        pairs = {id_: (own[PRIOR], own[REFINED]) for id_, own in dices.items()}
        draw_cases(state / CASES, small, REFINED, dataset, pairs)
    return content


def quarters_of(sizes: Mapping[str, float]) -> list[list[str]]:
    """The ids in four parts by rising size, equals in the order of the alphabet.

    Parts differ in number by one at most, earlier ones have more; some are empty for less than
    four ids.
    """
    rising = sorted(sizes, key=lambda id_: (sizes[id_], id_))
    return [[rising[i] for i in part] for part in np.array_split(np.arange(len(rising)), 4)]


def print_table(content: dict[str, Any], console: Console) -> None:
    """Dice and differences by quarter, for people."""
    ways = [name for name in content["ways"] if name != REFINED]
    console.print(
        f"small objects: {content['model']} on {content['dataset']} ({content['split']}, "
        f"n = {content['n']}), sizes in {content['unit']}",
        soft_wrap=True,
    )
    columns = ("n", "size", PRIOR, REFINED, "refined - prior", *(f"{way} - prior" for way in ways))
    table = new_table("Dice by the size of the truth", ("class", "quarter"), columns)
    for name, part in content["classes"].items():
        for index, (title, quarter) in enumerate(part["quarters"].items()):
            last = index == len(QUARTERS) - 1
            table.add_row(name * (index == 0), title, *_cells(quarter, ways), end_section=last)
    table.add_row("all", QUARTERS[0], *_cells(content["lowest"], ways))
    console.print(table)
    for name, part in content["classes"].items():
        if part["without"]:
            console.print(f"{name}: {part['without']} cases without it are left out")
    for note in content["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, markup=False)


def _cells(quarter: Mapping[str, Any], ways: Sequence[str]) -> list[str]:
    size = f"{quarter['from']:.0f} - {quarter['to']:.0f}" if quarter.get("from") else ""
    if not quarter["n"]:
        return ["0", "", *["-"] * (3 + len(ways))]
    dices = [f"{quarter['dice'][arm]:.4f}" for arm in (PRIOR, REFINED)]
    return [
        str(quarter["n"]),
        size,
        *dices,
        *(as_text(quarter["minus_prior"][arm]) for arm in (REFINED, *ways)),
    ]


def _quarter(
    cases: Sequence[Scored], sizes: Mapping[str, float], name: str, arms: Sequence[str]
) -> dict[str, Any]:
    own = [sizes[case.case.id] for case in cases]
    compared = _compared([{arm: _dice(case, name, arm) for arm in arms} for case in cases], arms)
    return {"from": min(own, default=None), "to": max(own, default=None)} | compared


def _compared(dices: Sequence[Mapping[str, float]], arms: Sequence[str]) -> dict[str, Any]:
    """Mean Dice by arm, and each arm less the prior; None without a case."""
    if not dices:
        return {"n": 0, "dice": None, "minus_prior": None}
    return {
        "n": len(dices),
        "dice": {arm: float(np.mean([own[arm] for own in dices])) for arm in arms},
        "minus_prior": {
            arm: interval([own[arm] - own[PRIOR] for own in dices]) for arm in arms if arm != PRIOR
        },
    }


def _dice(case: Scored, name: str, arm: str) -> float:
    return case.arms[arm].per_class[name]["dice"]


def _row(case: Scored, sizes: Mapping[str, float], arms: Sequence[str]) -> dict[str, Any]:
    """A case: of every class its size, and its Dice by arm unless the size is 0."""
    return {
        "id": case.case.id,
        "classes": {
            name: {"size": size} | ({arm: _dice(case, name, arm) for arm in arms} if size else {})
            for name, size in sizes.items()
        },
    }


def _sizes(scored: Sequence[Scored]) -> tuple[str, dict[str, dict[str, float]]]:
    """The unit, and the sizes of every case by class."""
    spacings = [case.spacing for case in scored]
    physical = None not in spacings
    unit = f"mm{len(spacings[0] or ())}" if physical else "pixels"
    sizes = {}
    for case in scored:
        pixel = float(np.prod(case.spacing)) if physical and case.spacing else 1.0
        sizes[case.case.id] = {name: count * pixel for name, count in case.areas.items()}
    return unit, sizes
