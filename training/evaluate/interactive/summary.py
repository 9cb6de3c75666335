"""From the records of all annotators to the figures that are reported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bootstrap import paired_bootstrap
from .annotator import TOLERANCE
from .figures import AFTER, GOALS, areas_for, nauc, strokes_to
from .policies import Policy
from .subjects import Place

PAINT, REFINE = "paint", "refine"
DISPLAYED = 4
"""Decimals of Dice and seconds in a row."""


@dataclass(frozen=True)
class Done:
    """What one annotator did: where, in which arm, with which seed, and the record of it."""

    place: Place
    arm: str
    seed: int
    record: dict[str, Any]


def summarise(runs: Sequence[Done], policies: Sequence[Policy], strokes: int) -> dict[str, Any]:
    """``arms``, ``differences``, ``cases`` and ``runs`` of the object; plain data."""
    arms = {policy.name: [run for run in runs if run.arm == policy.name] for policy in policies}
    curves = {name: mean_curve(own) for name, own in arms.items()}
    goal = curves[PAINT][-1] if PAINT in curves else None
    areas = areas_for(strokes)
    return {
        "arms": {
            policy.name: {"title": policy.title}
            | _curve_figures(arms[policy.name], curves[policy.name], goal, strokes)
            | harm(arms[policy.name])
            for policy in policies
        },
        "differences": _differences(arms, areas),
        "cases": _cases(arms, areas),
        "runs": [_row(run) for run in runs],
    }


def by_case(runs: Sequence[Done], value: Callable[[dict[str, Any]], Any]) -> dict[str, np.ndarray]:
    """A figure of the records by case: the mean over seeds, then over slices."""
    found: dict[str, dict[Place, list[Any]]] = {}
    for run in runs:
        found.setdefault(run.place.case, {}).setdefault(run.place, []).append(value(run.record))
    return {
        case: np.mean([np.mean(seeds, 0) for seeds in places.values()], 0)
        for case, places in found.items()
    }


def over_cases(runs: Sequence[Done], value: Callable[[dict[str, Any]], Any]) -> np.ndarray:
    """The mean over cases of a figure of the records."""
    return np.mean(list(by_case(runs, value).values()), 0)


def mean_curve(runs: Sequence[Done]) -> list[float]:
    """Mean Dice after 0, 1, ... strokes."""
    return [float(value) for value in over_cases(runs, lambda record: record["dice"])]


def harm(runs: Sequence[Done]) -> dict[str, Any]:
    """What answers did besides raising Dice; shares and means are over all answers of an arm."""
    records = [run.record for run in runs]
    answers = sum(len(record["seconds"]) for record in records)
    found: dict[str, Any] = {
        "re_refines": answers,
        "fixed_changed": sum(record["fixed_changed"] for record in records),
    }
    if answers:
        seconds = np.concatenate([record["seconds"] for record in records])
        found |= {
            "lowered": sum(map(lowered, records)) / answers,
            "changed_off_stroke": sum(map(changed_off, records)) / answers,
            "lost_far": sum(sum(record["lost_far"]) for record in records) / answers,
            "seconds": {
                "median": float(np.median(seconds)),
                "p95": float(np.percentile(seconds, 95)),
            },
        }
    return found


def lowered(record: dict[str, Any]) -> int:
    """How many answers lowered Dice by more than the tolerance against the mask before them."""
    pairs = zip(record["before"], record["after"], strict=True)
    return sum(after < before - TOLERANCE for before, after in pairs)


def changed_off(record: dict[str, Any]) -> int:
    """How many answers changed at least one pixel off the stroke."""
    return sum(pixels > 0 for pixels in record["changed"])


def _curve_figures(
    runs: Sequence[Done], curve: list[float], goal: float | None, strokes: int
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "dice": curve,
        "after": {str(n): curve[n] for n in AFTER if n <= strokes},
        "nauc": {str(k): nauc(curve, k) for k in areas_for(strokes)},
        "strokes_to": {f"{level:.2f}": _reaching(runs, level, strokes) for level in GOALS},
        "painted": float(over_cases(runs, lambda record: record["painted"][-1])),
    }
    if goal is not None:
        first = strokes_to(curve, goal)
        share = None if first is None else first / strokes
        figures["as_painting"] = {"dice": goal, "strokes": first, "share": share}
    return figures


def _reaching(runs: Sequence[Done], goal: float, strokes: int) -> dict[str, float]:
    """Mean strokes to a goal, ``strokes`` where it is never reached, and how many cases those
    are (a case of several seeds or slices counts in parts)."""

    def needed(record: dict[str, Any]) -> tuple[float, float]:
        first = strokes_to(record["dice"], goal)
        return (strokes, 1) if first is None else (first, 0)

    values = np.array(list(by_case(runs, needed).values()))
    return {"mean": float(values[:, 0].mean()), "never": float(values[:, 1].sum())}


def _naucs(runs: Sequence[Done], k: int) -> dict[str, float]:
    """The normalised area by case: that of the mean is the mean of the areas."""
    return {case: nauc(curve, k) for case, curve in by_case(runs, lambda r: r["dice"]).items()}


def _differences(arms: dict[str, list[Done]], areas: Sequence[int]) -> dict[str, Any]:
    """``refine_minus`` every other arm and every arm ``minus_paint``, intervals over cases."""

    def apart(arm: str, other: str) -> dict[str, Any]:
        found = {}
        for k in areas:
            one, two = _naucs(arms[arm], k), _naucs(arms[other], k)
            found[f"nauc_{k}"] = paired_bootstrap([one[case] - two[case] for case in one])._asdict()
        return found

    differences = {}
    if REFINE in arms:
        others = [name for name in arms if name != REFINE]
        differences["refine_minus"] = {name: apart(REFINE, name) for name in others}
    if PAINT in arms:
        others = [name for name in arms if name != PAINT]
        differences["minus_paint"] = {name: apart(name, PAINT) for name in others}
    return differences


def _cases(arms: dict[str, list[Done]], areas: Sequence[int]) -> list[dict[str, Any]]:
    """A row per case: its slices, the kinds of strokes, and its areas by arm."""
    places: dict[str, dict[Place, None]] = {}
    for runs in arms.values():
        for run in runs:
            places.setdefault(run.place.case, {})[run.place] = None
    naucs = {k: {name: _naucs(runs, k) for name, runs in arms.items()} for k in areas}
    return [
        {
            "id": case,
            "slices": [place.slice for place in own if place.slice is not None],
            "stroke": sorted({place.kind for place in own}),
        }
        | {f"nauc_{k}": {name: naucs[k][name][case] for name in arms} for k in areas}
        for case, own in places.items()
    ]


def _row(run: Done) -> dict[str, Any]:
    """What one annotator did: the curve, and sums over the answers."""
    record = run.record
    return {
        "case": run.place.case,
        "slice": run.place.slice,
        "arm": run.arm,
        "seed": run.seed,
        "strokes": record["strokes"],
        "dice": [round(value, DISPLAYED) for value in record["dice"]],
        "painted": record["painted"][-1],
        "seconds": round(sum(record["seconds"]), DISPLAYED),
        "fixed_changed": record["fixed_changed"],
        "lowered": lowered(record),
        "changed_off_stroke": changed_off(record),
        "lost_far": sum(record["lost_far"]),
    }
