"""The content of a study as one picture.

The content of a study as tables for people.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from napari_hidiff.io.storage import whole

DOT, MEAN = "#8a8a8a", "#d55e00"
LABELS = {
    "dice": "Dice (more is better)",
    "ged": "squared energy distance (less is better)",
    "diversity": "mean 1 - Dice between samples",
    "cldice": "clDice (more is better)",
    "components": "components too many or too few (less is better)",
}


def draw_alternatives(path: Path, content: dict[str, Any]) -> None:
    """A PNG: every figure by arm, a dot per case and a line at the mean.

    InputError if ``path`` cannot be written.
    """
    figure = _figure(4 * len(LABELS), 4.2)
    for axes, (name, label) in zip(figure.subplots(1, len(LABELS)), LABELS.items(), strict=True):
        _dots(axes, [case[name] for case in content["cases"].values()])
        axes.set_title(label, fontsize=10)
    figure.suptitle(_title("alternatives", content), fontsize=11)
    _save(figure, path)


def draw_uncertainty(path: Path, content: dict[str, Any]) -> None:
    """A PNG: AUROC of every map above, errors found against places visited below, by mask.

    InputError if ``path`` cannot be written.
    """
    masks = list(content["mean"]["auroc"])
    figure = _figure(7 * len(masks), 9.5)
    grid = figure.subplots(2, len(masks), squeeze=False)
    visits = np.arange(1, content["visits"] + 1)
    for column, mask in enumerate(masks):
        _dots(grid[0][column], [case["auroc"][mask] for case in content["cases"].values()])
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
    figure.suptitle(_title("uncertainty", content), fontsize=11)
    _save(figure, path)


def _dots(axes: Axes, rows: list[dict[str, float | None]]) -> None:
    """A column of dots per arm, a dot per case; a line at the mean."""
    names = list(rows[0])
    for place, name in enumerate(names):
        values = [value for row in rows if (value := row[name]) is not None]
        spread = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.zeros(len(values))
        axes.plot(place + spread, values, ".", color=DOT, ms=5)
        if values:
            mean = float(np.mean(values))
            axes.hlines(mean, place - 0.3, place + 0.3, color=MEAN, lw=2)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axes.grid(alpha=0.3, axis="y")


def _title(study: str, content: dict[str, Any]) -> str:
    seeds = len(content["seeds"])
    return (
        f"{study}: n = {content['n']}, {content['samples']} samples, {seeds} seed"
        f"{'s' * (seeds > 1)}; dots are cases, lines their mean"
    )


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    """The picture appears whole or not at all."""
    with whole(path) as (part,):
        figure.savefig(part, format="png")


Interval = Mapping[str, float | None] | None


def print_means(title: str, values: Mapping[str, float | None], console: Console) -> None:
    """One row per arm or map."""
    table = Table("", title=title, title_justify="left")
    table.add_column("mean", justify="right")
    for name, value in values.items():
        table.add_row(name, "-" if value is None else f"{value:.4f}")
    console.print(table)


def print_differences(title: str, pairs: Mapping[str, Interval], console: Console) -> None:
    """One row per pair, with its interval."""
    table = Table("", title=title, title_justify="left")
    table.add_column("difference", justify="right")
    for name, interval in pairs.items():
        table.add_row(name, as_text(interval))
    console.print(table)


def print_best(
    title: str, values: Mapping[str, float | None], pairs: Mapping[str, Interval], console: Console
) -> None:
    """How far the best of the maps is ahead of every other one."""
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return
    best = max(known, key=lambda name: known[name])
    ahead = {f"{best} - {other}": _ahead(best, other, pairs) for other in known if other != best}
    print_differences(f"{title}: the best minus the others, 95 % interval", ahead, console)


def as_text(interval: Interval) -> str:
    """``+0.0123 [-0.0010, +0.0250]``, without bounds where there are none."""
    if interval is None:
        return "-"
    bounds: Any = (interval["low"], interval["high"])
    known = "" if None in bounds else f" [{bounds[0]:+.4f}, {bounds[1]:+.4f}]"
    return f"{interval['mean']:+.4f}{known}"


def _ahead(best: str, other: str, pairs: Mapping[str, Interval]) -> Interval:
    """The interval of ``best - other``, which is kept in one of two directions."""
    if f"{best} - {other}" in pairs:
        return pairs[f"{best} - {other}"]
    turned = pairs[f"{other} - {best}"]
    if turned is None:
        return None
    low, high = turned["high"], turned["low"]
    negative = {"mean": turned["mean"], "low": low, "high": high}
    return {name: None if value is None else -value for name, value in negative.items()}
