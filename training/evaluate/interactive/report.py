"""The experiment as tables for people; what they show is in the JSON object too.

The curves, and the answers that helped most and harmed most, as png files.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from rich.console import Console

from napari_hidiff.io.storage import whole
from napari_hidiff.masks import FREE
from napari_hidiff.plot import (
    ADDED,
    FOUND,
    MISSED,
    detail_window,
    displayable,
    errors_in_colour,
    rgb,
    show_picture,
)
from napari_hidiff.training.datasets import Case, Dataset

from ..output import interval
from ..report import new_table
from .annotator import REFINE, Done
from .subjects import Moment

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


CURVES, HELPED, HARMED = PICTURES = ("curves.png", "helped.png", "harmed.png")

ROWS = 4
"""Answers in one picture, each of another subject."""
WHOLE = 200
"""Images with a side of more pixels are shown in part, where the answer changed most."""
PAINTED, EARLIER = "#009e73", "#96cdb9"
"""The last stroke, and those before it."""


def draw(
    content: Mapping[str, Any],
    runs: Sequence[Done],
    cases: Mapping[str, Case],
    dataset: Dataset,
    folder: Path,
) -> None:
    """Write the three pictures into a folder; InputError if that fails."""
    draw_curves(content, folder / CURVES)
    for name, key in ((HELPED, "helped"), (HARMED, "harmed")):
        draw_moments(extremes(runs, key), cases, dataset, folder / name, key)


def draw_curves(content: Mapping[str, Any], path: Path) -> None:
    """Mean Dice against strokes for every arm, with the seconds of an answer in the legend.

    An arm that loses more than the best one gains leaves the picture, which the others need.
    """
    figure = Figure(figsize=(8.5, 5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles = ("-", "--", "-.", ":")
    curves = [arm["dice"] for arm in content["arms"].values()]
    start, highest = min(curve[0] for curve in curves), max(max(curve) for curve in curves)
    lowest = start - max(highest - start, 0.01)
    for index, (name, arm) in enumerate(content["arms"].items()):
        cost = f", {arm['seconds']['median']:.2g} s" if "seconds" in arm else ""
        curve, style = arm["dice"], styles[index // 10 % len(styles)]
        below = f"; falls to {min(curve):.2f}" if min(curve) < lowest else ""
        axes.plot(curve, style, color=f"C{index % 10}", label=f"{name}{cost}{below}", lw=1.6)
    if min(min(curve) for curve in curves) < lowest:
        axes.set_ylim(bottom=lowest)
    axes.set(xlabel="strokes", ylabel="mean Dice", xlim=(0, content["strokes"]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    cases = len(content["cases"])
    axes.set_title(f"{cases} case{'s' * (cases > 1)}; median seconds per re-refinement", size=10)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    _save(figure, path)


def extremes(runs: Sequence[Done], key: str) -> list[tuple[Done, Moment]]:
    """The answers that helped or harmed most (``key``), those of the arm ``refine`` if it ran,
    at most one of a subject, the greatest first; none that did the contrary or nothing."""
    arms = [run.arm for run in runs if run.record[key] is not None]
    arm = REFINE if REFINE in arms else next(iter(arms), None)
    sign = 1 if key == "helped" else -1
    best: dict[Any, tuple[Done, dict[str, Any]]] = {}
    for run in runs:
        packed = run.record[key]
        if run.arm != arm or packed is None or packed["gain"] * sign <= 0:
            continue
        if run.place not in best or packed["gain"] * sign > best[run.place][1]["gain"] * sign:
            best[run.place] = run, packed
    ordered = sorted(best.values(), key=lambda pair: -sign * pair[1]["gain"])[:ROWS]
    return [(run, Moment.unpacked(packed)) for run, packed in ordered]


def draw_moments(
    shown: Sequence[tuple[Done, Moment]],
    cases: Mapping[str, Case],
    dataset: Dataset,
    path: Path,
    key: str,
) -> None:
    """A row per answer: image, truth, the mask before and after it, the strokes."""
    rows = max(1, len(shown))
    figure = Figure(figsize=(13, 2.9 * rows + 0.5), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 5, squeeze=False)
    for row, (run, moment) in zip(axes, shown, strict=False):
        _draw_row(row, run, moment, cases[run.place.case], dataset)
    if not shown:
        for axis in axes[0]:
            axis.set_axis_off()
        axes[0, 2].set_title(f"no answer {key}", fontsize=10)
    patches = [
        Patch(facecolor=color, edgecolor="black", label=label)
        for color, label in (
            (FOUND, "found"),
            (ADDED, "added though not in the truth"),
            (MISSED, "missed or of another class"),
            (PAINTED, "the stroke"),
            (EARLIER, "strokes before"),
        )
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, frameon=False)
    _save(figure, path)


def _draw_row(row: Sequence[Axes], run: Done, moment: Moment, case: Case, dataset: Dataset) -> None:
    sample = dataset.load(case)
    image, truth = sample.image, sample.mask
    if run.place.slice is not None:
        image, truth = image[run.place.slice], truth[run.place.slice]
    part = (slice(None), slice(None))
    if max(truth.shape) > WHOLE:
        part = detail_window(moment.before, moment.after)
    place = run.place.case if run.place.slice is None else f"{run.place.case} [{run.place.slice}]"
    picture = displayable(image)
    show_picture(row[0], picture, "antialiased")
    row[0].set_title(f"{place}\nstroke {moment.number}, {run.arm}", fontsize=10)
    if part[0].start is not None:
        size = part[1].stop - part[1].start, part[0].stop - part[0].start
        corner = part[1].start, part[0].start
        row[0].add_patch(Rectangle(corner, *size, fill=False, color="#00e676", lw=1.5))
    painted = picture.copy()
    painted[moment.fixed != FREE] = rgb(EARLIER)
    painted[moment.where] = rgb(PAINTED)
    panels = (
        ("truth", errors_in_colour(truth, truth)),
        ("before", errors_in_colour(moment.before, truth)),
        (f"after: Dice {moment.gain:+.4f}", errors_in_colour(moment.after, truth)),
        ("strokes", painted),
    )
    for axis, (title, panel) in zip(row[1:], panels, strict=True):
        show_picture(axis, panel[part], "nearest")
        axis.set_title(title, fontsize=10)


def _save(figure: Figure, path: Path) -> None:
    with whole(path) as (part,):
        figure.savefig(part, format="png")
