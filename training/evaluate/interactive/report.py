"""The experiment as tables and pictures: curves, effort, harm, the answers that helped and harmed.

Everything in the tables is in the JSON object too.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from rich.console import Console

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

from ..gallery import new_figure, save
from ..output import Content, Table, interval, numbers, print_line, print_notes
from ..study import Record
from .annotator import REFINE, AnnotatorRun
from .subjects import Answered, SubjectId

NONE = "-"


def print_report(content: Content, console: Console) -> None:
    """Curves, effort, harm and differences, an arm per row."""
    print_line(_headline(content), console)
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
    print_notes(content, console)


def _headline(content: Content) -> str:
    kinds = ", ".join(f"{k} {v}" for k, v in content["stroke"].items() if k != "asked")
    size = f", at most {content['longest_side']} px" if content["longest_side"] else ""
    what = f"{content['model']} on {content['dataset']}"
    return (
        f"{what} ({content['split']}, n = {content['n']}{size}): "
        f"{content['strokes']} strokes on {content['subjects']} images ({kinds}); "
        f"seeds {numbers(content['seeds'])}; {content['hardware']['device']}"
    )


def _print_rows(
    title: str,
    row: Callable[[Content], Mapping[str, str]],
    arms: Mapping[str, Content],
    console: Console,
) -> None:
    """A table with a row per arm; ``row`` gives its cells by column."""
    cells = {name: row(arm) for name, arm in arms.items()}
    rows = [[name, *values.values()] for name, values in cells.items()]
    table = Table(["arm", *next(iter(cells.values()))], rows).rich(title)
    table.columns[0].no_wrap = True
    table.columns[0].min_width = max(map(len, cells))
    console.print(table)


def _curves(arm: Content) -> dict[str, str]:
    after = {strokes: f"{value:.4f}" for strokes, value in arm["after"].items()}
    return after | {f"nAUC {k}": f"{value:.4f}" for k, value in arm["nauc"].items()}


def _effort(arm: Content) -> dict[str, str]:
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


def _harm(arm: Content) -> dict[str, str]:
    answered = bool(arm["re_refines"])
    return {
        "re-refines": str(arm["re_refines"]),
        "fixed changed": str(arm["fixed_changed"]),
        "lowered Dice": f"{arm['lowered']:.1%}" if answered else NONE,
        "changed off the stroke": f"{arm['changed_off_stroke']:.1%}" if answered else NONE,
        "lost far, pixels": f"{arm['lost_far']:.2f}" if answered else NONE,
    }


def _print_differences(differences: Content, console: Console) -> None:
    titles = {"refine_minus": "refine minus", "minus_paint": "minus paint"}
    for key, title in titles.items():
        arms = differences.get(key)
        if arms:
            rows = [[name, *map(interval, values.values())] for name, values in arms.items()]
            table = Table(["arm", *next(iter(arms.values()))], rows)
            console.print(table.rich(f"{title}, 95 % interval over cases"))


CURVES, HELPED, HARMED = PICTURES = ("curves.png", "helped.png", "harmed.png")

ROWS = 4
"""Answers in one picture, each of another subject."""
WHOLE = 200
"""Images with a side of more pixels are shown in part, where the answer changed most."""
PAINTED, EARLIER = "#009e73", "#96cdb9"
"""The last stroke, and those before it."""


def draw(
    content: Content,
    runs: Sequence[AnnotatorRun],
    cases: Mapping[str, Case],
    dataset: Dataset,
    folder: Path,
) -> None:
    """Write the three pictures into a folder; InputError if that fails."""
    draw_curves(content, folder / CURVES)
    for name, key in ((HELPED, "helped"), (HARMED, "harmed")):
        draw_answers(extremes(runs, key), cases, dataset, folder / name, key)


def draw_curves(content: Content, path: Path) -> None:
    """Mean Dice against strokes for every arm, with the seconds of an answer in the legend.

    An arm that loses more than the best one gains leaves the picture, which the others need.
    """
    figure = new_figure(8.5, 5, 110)
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
    save(figure, path)


def extremes(runs: Sequence[AnnotatorRun], key: str) -> list[tuple[AnnotatorRun, Answered]]:
    """The answers that helped or harmed most (``key``), those of the arm ``refine`` if it ran,
    at most one of a subject, the greatest first; none that did the contrary or nothing."""
    arms = [run.arm for run in runs if run.record[key] is not None]
    arm = REFINE if REFINE in arms else next(iter(arms), None)
    sign = 1 if key == "helped" else -1
    best: dict[SubjectId, tuple[AnnotatorRun, Record]] = {}
    for run in runs:
        packed = run.record[key]
        if run.arm != arm or packed is None or packed["gain"] * sign <= 0:
            continue
        if run.subject not in best or packed["gain"] * sign > best[run.subject][1]["gain"] * sign:
            best[run.subject] = run, packed
    ordered = sorted(best.values(), key=lambda pair: -sign * pair[1]["gain"])[:ROWS]
    return [(run, Answered.unpacked(packed)) for run, packed in ordered]


def draw_answers(
    shown: Sequence[tuple[AnnotatorRun, Answered]],
    cases: Mapping[str, Case],
    dataset: Dataset,
    path: Path,
    key: str,
) -> None:
    """A row per answer: image, truth, the mask before and after it, the strokes."""
    rows = max(1, len(shown))
    figure = new_figure(13, 2.9 * rows + 0.5, 90)
    axes = figure.subplots(rows, 5, squeeze=False)
    for row, (run, answered) in zip(axes, shown, strict=False):
        _draw_row(row, run, answered, cases[run.subject.case], dataset)
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
    save(figure, path)


def _draw_row(
    row: Sequence[Axes], run: AnnotatorRun, answered: Answered, case: Case, dataset: Dataset
) -> None:
    sample = dataset.load(case)
    image, truth = sample.image, sample.mask
    if run.subject.slice is not None:
        image, truth = image[run.subject.slice], truth[run.subject.slice]
    part = (slice(None), slice(None))
    if max(truth.shape) > WHOLE:
        part = detail_window(answered.before, answered.after)
    place = (
        run.subject.case
        if run.subject.slice is None
        else f"{run.subject.case} [{run.subject.slice}]"
    )
    picture = displayable(image)
    show_picture(row[0], picture, "antialiased")
    row[0].set_title(f"{place}\nstroke {answered.number}, {run.arm}", fontsize=10)
    if part[0].start is not None:
        size = part[1].stop - part[1].start, part[0].stop - part[0].start
        corner = part[1].start, part[0].start
        row[0].add_patch(Rectangle(corner, *size, fill=False, color="#00e676", lw=1.5))
    painted = picture.copy()
    painted[answered.fixed != FREE] = rgb(EARLIER)
    painted[answered.where] = rgb(PAINTED)
    panels = (
        ("truth", errors_in_colour(truth, truth)),
        ("before", errors_in_colour(answered.before, truth)),
        (f"after: Dice {answered.gain:+.4f}", errors_in_colour(answered.after, truth)),
        ("strokes", painted),
    )
    for axis, (title, panel) in zip(row[1:], panels, strict=True):
        show_picture(axis, panel[part], "nearest")
        axis.set_title(title, fontsize=10)
