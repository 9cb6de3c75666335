"""Dice against the passes of the refiner, as one picture."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..arms import PRIOR
from ..gallery import save

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
