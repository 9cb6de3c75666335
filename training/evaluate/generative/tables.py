"""The content of a study as tables for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

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
