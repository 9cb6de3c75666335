"""The experiment as tables for people; what they show is in the JSON object too."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from ..tables import interval, new_table

NONE = "-"


def print_report(content: dict[str, Any], console: Console) -> None:
    """Curves, effort, harm and differences, an arm per row."""
    console.print(_headline(content), soft_wrap=True)
    arms = content["arms"]
    _print_rows(
        "mean Dice after so many strokes, and the area under the curve", _curves, arms, console
    )
    _print_rows(
        "strokes to a Dice (cases that never got there) and to what paint ends with; effort",
        _effort,
        arms,
        console,
    )
    _print_rows("harm by re-refinements", _harm, arms, console)
    _print_differences(content["differences"], console)
    for note in content["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, markup=False)


def _headline(content: Mapping[str, Any]) -> str:
    kinds = ", ".join(f"{k} {v}" for k, v in content["stroke"].items() if k != "asked")
    size = f", at most {content['longest_side']} px" if content["longest_side"] else ""
    what = f"{content['model']} on {content['dataset']}"
    return (
        f"{what} ({content['split']}, n = {content['n']}{size}): "
        f"{content['strokes']} strokes on {content['subjects']} images ({kinds}); "
        f"seeds {', '.join(map(str, content['seeds']))}; {content['hardware']['device']}"
    )


def _print_rows(title: str, row: Any, arms: Mapping[str, Any], console: Console) -> None:
    """A table with a row per arm; ``row`` gives its cells by column."""
    cells = {name: row(arm) for name, arm in arms.items()}
    table = new_table(title, ("arm",), next(iter(cells.values())))
    table.columns[0].no_wrap = True
    table.columns[0].min_width = max(map(len, cells))
    for name, values in cells.items():
        table.add_row(name, *values.values())
    console.print(table)


def _curves(arm: Mapping[str, Any]) -> dict[str, str]:
    after = {strokes: f"{value:.4f}" for strokes, value in arm["after"].items()}
    return after | {f"nAUC {k}": f"{value:.4f}" for k, value in arm["nauc"].items()}


def _effort(arm: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for goal, reached in arm["strokes_to"].items():
        found[f"to {goal}"] = f"{reached['mean']:.1f} ({reached['never']:.3g})"
    if "as_painting" in arm:
        first, share = arm["as_painting"]["strokes"], arm["as_painting"]["share"]
        found["as paint"] = NONE if first is None else f"{first} ({share:.0%})"
    found["pixels"] = f"{arm['painted']:.0f}"
    seconds = arm.get("seconds")
    found["seconds (95 %)"] = f"{seconds['median']:.2f} ({seconds['p95']:.2f})" if seconds else NONE
    return found


def _harm(arm: Mapping[str, Any]) -> dict[str, str]:
    answered = bool(arm["re_refines"])
    return {
        "re-refines": str(arm["re_refines"]),
        "fixed changed": str(arm["fixed_changed"]),
        "lowered Dice": f"{arm['lowered']:.1%}" if answered else NONE,
        "changed off the stroke": f"{arm['changed_off_stroke']:.1%}" if answered else NONE,
        "lost far, pixels": f"{arm['lost_far']:.2f}" if answered else NONE,
    }


def _print_differences(differences: Mapping[str, Any], console: Console) -> None:
    titles = {"refine_minus": "refine minus", "minus_paint": "minus paint"}
    for key, title in titles.items():
        rows = differences.get(key, {})
        if not rows:
            continue
        columns: Iterable[str] = next(iter(rows.values()))
        table = new_table(f"{title}, 95 % interval over cases", ("arm",), columns)
        for name, values in rows.items():
            table.add_row(name, *map(interval, values.values()))
        console.print(table)
