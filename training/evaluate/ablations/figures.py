"""Curves of a study: differences with their intervals, and the calibration of its networks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..arms import PRIOR
from ..gallery import save

DPI = 110


def draw_differences(content: Mapping[str, Any], path: Path) -> None:
    """Dice minus the prior's for every row that was run, by its ways, with 95 % intervals."""
    rows = [row for row in content["rows"] if row["cells"]]
    labels, means, lows, highs = [], [], [], []
    for row in rows:
        for way, cell in row["cells"].items():
            if way == PRIOR:
                continue
            found = cell["to_prior"]
            labels.append(f"{row['name']}, {way}")
            means.append(found["mean"])
            lows.append(found["mean"] if found["low"] is None else found["low"])
            highs.append(found["mean"] if found["high"] is None else found["high"])
    figure = Figure(figsize=(7, 0.6 + 0.21 * len(labels)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    at = range(len(labels), 0, -1)
    axes.hlines(at, lows, highs, color="#3070b0")
    axes.plot(means, at, "o", color="#3070b0", markersize=4)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(list(at), labels, fontsize=7)
    axes.set_xlabel("Dice minus the prior's, 95 % interval over cases", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    save(figure, path)


def draw_calibration(content: Mapping[str, Any], path: Path) -> None:
    """Mean predicted against true flip rate by t, a curve a row; the diagonal is calibrated."""
    figure = Figure(figsize=(5.2, 4.2), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    shares: list[float] = []
    for name, curve in content["calibration"].items():
        true = [point["true"] for point in curve]
        predicted = [point["predicted"] for point in curve]
        shares += [value for value in (*true, *predicted) if value > 0]
        axes.plot(true, predicted, "o-", markersize=3, linewidth=1, label=name)
    ends = [min(shares, default=0.1), max(shares, default=1)]
    axes.plot(ends, ends, color="#888888", linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("true share of flips, a point per t", fontsize=8)
    axes.set_ylabel("mean predicted share", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7)
    save(figure, path)
