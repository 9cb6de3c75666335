"""An evaluation as tables for people; what they show is in the JSON object too."""

import math
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from .arms import PRIOR
from .bootstrap import Interval
from .metrics import METRICS

MOST_ROWS = 40
"""More cases than these are not listed one by one; the JSON object has them all."""


def print_report(content: dict[str, Any], console: Console) -> None:
    """The same content for people: Dice by image, every score in the mean, what differs."""
    console.print(_title(content), soft_wrap=True)
    _print_images(content, console)
    groups = {"mean": content["mean"]} | content.get("per_class", {})
    _print_means("mean over images", "class", groups, console)
    if sets := content.get("by_set"):
        named = {f"{name} (n = {part['n']})": part["mean"] for name, part in sets.items()}
        _print_means("mean over the images of each set", "set", named, console)
    surface = content["surface"]
    console.print(
        f"hd95 in {surface['unit']}; nsd at {surface['tolerance']:g} {surface['unit']}",
        soft_wrap=True,
    )
    pairs = {PRIOR: content["difference"]} | content.get("difference_to", {})
    apart = new_table(
        "difference, 95 % interval over images", ("score",), [f"refined - {arm}" for arm in pairs]
    )
    for metric in METRICS:
        apart.add_row(metric, *(interval(pair[metric]) for pair in pairs.values()))
    console.print(apart)
    if "damage" in content:
        console.print(_damage_line(content["damage"]), soft_wrap=True)
    counts = ", ".join(f"{arm} {count:g}" for arm, count in content["empty_masks"].items())
    console.print(f"empty masks: {counts}", soft_wrap=True)
    for case in content.get("skipped", ()):
        console.print(
            f"skipped {case['id']}: {case['why']}", style="yellow", soft_wrap=True, markup=False
        )
    for note in content["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, markup=False)


def _print_images(content: dict[str, Any], console: Console) -> None:
    arms, images = list(content["mean"]), content["images"]
    if len(images) > MOST_ROWS:
        console.print(f"{len(images)} images: --json and --output list the scores of each")
        return
    table = new_table("Dice", ("image",), arms)
    for image in images:
        table.add_row(image["id"], *(f"{image[arm]['dice']:.4f}" for arm in arms))
    console.print(table)


def _print_means(
    title: str, what: str, groups: dict[str, dict[str, dict[str, float]]], console: Console
) -> None:
    """A row for every arm of every group; the group is named once."""
    table = new_table(title, (what, "mask") if len(groups) > 1 else ("mask",), METRICS)
    for name, arms in groups.items():
        for index, (arm, scores) in enumerate(arms.items()):
            head = (name * (index == 0), arm) if len(groups) > 1 else (arm,)
            last = index == len(arms) - 1
            table.add_row(*head, *(f"{scores[m]:.4f}" for m in METRICS), end_section=last)
    console.print(table)


def new_table(title: str, heads: Iterable[str], columns: Iterable[str]) -> Table:
    """A table whose columns of figures stand right; where the screen is narrow, lines are broken
    and nothing is cut off."""
    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _title(content: dict[str, Any]) -> str:
    settings = content["settings"]
    how = settings["sampler"]
    if how != "one-step":
        how += f", {settings['steps']} steps, mean of {settings['samples']} samples"
    seeds = ", ".join(map(str, content["seeds"]))
    return (
        f"{content['model']} on {content['dataset']} ({content['split']}, n = {content['n']}): "
        f"{how}; seeds {seeds}; {content['hardware']['device']}"
    )


def interval(values: dict[str, float | None]) -> str:
    interval = Interval(*(math.nan if v is None else v for v in values.values()))
    known = not math.isnan(interval.low)
    bounds = f" [{interval.low:+.4f}, {interval.high:+.4f}]" if known else ""
    return f"{interval.mean:+.4f}{bounds}"


def _damage_line(damage: dict[str, Any]) -> str:
    share = "-" if damage["share"] is None else f"{damage['share']:.0%}"
    return (
        f"damaged priors: Dice lost {damage['lost']['mean']:.4f}, "
        f"regained {damage['regained']['mean']:.4f}, that is {share}"
    )
