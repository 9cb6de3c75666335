"""A study's table for people.

A study as a page: its table, what holds, how it was made; and its curves.

Everything comes from the object that the command writes, so that a page can be made again from
the kept file alone.

Curves of a study: differences with their intervals, and the calibration of its networks.

The cases of a study that refinement helped most, in the middle and least, as one picture.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from napari_hidiff.io.storage import whole
from napari_hidiff.training.datasets import Case

from .. import gallery, output
from ..gallery import save
from ..output import Content, interval, verdict
from ..report import new_table
from ..scoring import PRIOR, Subject
from .rows import Row
from .table import Record, arms
from .trainings import Shelf


def print_study(content: dict[str, Any], console: Console) -> None:
    """A line for every row and way: means, and differences in Dice with their intervals."""
    reference = content["reference"]
    seeds = ", ".join(map(str, content["seeds"]))
    console.print(
        f"{content['experiment']} on {content['dataset']} ({content['split']}, n = "
        f"{content['n']}): {content['title']}; training seeds {seeds}",
        soft_wrap=True,
    )
    for row in content["rows"]:
        console.print(f"{row['name']}: {row['title']}", soft_wrap=True, markup=False)
    table = new_table(
        "Dice, mean over cases and seeds; differences in Dice with 95 % intervals over cases",
        ("row", "way"),
        ("Dice", "to the prior", f"to {reference['row']}, {reference['way']}"),
    )
    for row in content["rows"]:
        if not row["cells"]:
            table.add_row(row["name"], "not run", *[""] * 3, end_section=True)
        for index, (way, cell) in enumerate(row["cells"].items()):
            differences = ["", ""]
            if way != PRIOR:
                judged = cell["to_reference"]
                differences = [interval(cell["to_prior"]), interval(judged) if judged else "-"]
            table.add_row(
                row["name"] * (index == 0),
                way,
                f"{cell['dice']:.4f}",
                *differences,
                end_section=index == len(row["cells"]) - 1,
            )
    console.print(table)
    for note in content["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, markup=False)


def write_report(content: Content, folder: Path) -> list[str]:
    """Write ``report.md`` and its curves into a folder; the names of the curves."""
    curves = []
    if any(row["cells"] for row in content["rows"]):
        draw_differences(content, folder / "differences.png")
        curves.append("differences.png")
    if content["calibration"]:
        draw_calibration(content, folder / "calibration.png")
        curves.append("calibration.png")
    text = f"# {content['experiment']}\n\n{page(content)}"
    pictures = [*content["pictures"], *curves]
    text += "".join(f"\n![{picture}]({picture})\n" for picture in pictures)
    with whole(folder / "report.md") as (part,):
        part.write_text(text, encoding="utf-8")
    return curves


def page(content: Content) -> str:
    """Question, table, summary and origin, as Markdown."""
    parts = [f"{content['title'][0].upper()}{content['title'][1:]} ({_section(content)})."]
    parts += [summary(content), table(content), origin(content)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(content: Content) -> str:
    """A line for every row and way; rows that were not run have empty cells and their command."""
    reference = content["reference"]
    against = f"Dice - ({reference['row']}, {reference['way']})"
    lines = []
    for row in content["rows"]:
        if not row["cells"]:
            lines.append([row["title"], f"not run: `--rows {row['name']}`", *[""] * 6])
        for index, (way, cell) in enumerate(row["cells"].items()):
            head = [row["title"], way, str(len(row["seeds"]))] if index == 0 else ["", way, ""]
            scores = [f"{cell['dice']:.4f}", f"{cell['hd95']:.2f}", f"{cell['nsd']:.4f}"]
            apart = ["", ""]
            if way != PRIOR:
                apart = [interval(cell["to_prior"]), interval(cell["to_reference"])]
            lines.append([*head, *scores, *apart])
    heads = ["", "way", "seeds", "Dice", "HD95", "NSD", "Dice - prior", against]
    return output.table(heads, lines)


def summary(content: Content) -> str:
    """What holds and what cannot be told, a line for every row judged by its first way."""
    reference, lines = content["reference"], []
    for row in content["rows"]:
        if not row["cells"]:
            continue
        way = next(name for name in row["cells"] if name != PRIOR)
        cell = row["cells"][way]
        line = f"- **{row['title']}** ({way}): {verdict(cell['to_prior'], 'its prior')}"
        if cell["to_reference"]:
            judge = f"{reference['row']}, {reference['way']}"
            line += f"; {verdict(cell['to_reference'], judge)}"
        lines.append(f"{line}.")
    return "\n".join(lines)


def origin(content: Content) -> str:
    """Data, split, seeds, size, hardware, versions and the command."""
    recipe = content["recipe"]
    seeds = ", ".join(map(str, content["seeds"]))
    facts = (
        f"training seeds {seeds}; {recipe['iterations']} iterations of {recipe['batch']} crops, "
        f"width {recipe['width']}, stem {recipe['stem']}"
    )
    if recipe["longest_side"]:
        facts += f", images of at most {recipe['longest_side']} pixels a side"
    return output.origin(content, facts)


def _section(content: Content) -> str:
    section = content["section"]
    return section if section.startswith("none") else f"in the paper: {section}"


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


def draw_cases(
    shelf: Shelf,
    row: Row,
    seed: int,
    scores: Mapping[str, Record],
    cases: Sequence[Case],
    path: Path,
) -> None:
    """Best, median and worst case of a row by Dice minus the prior's, with its first way."""
    way, model = row.ways[0], shelf.model(row, seed)
    gain = {case: of[way]["dice"] - of[PRIOR]["dice"] for case, of in scores.items()}
    known = {case.id: case for case in cases}
    drawn = []
    for place, case in gallery.best_median_worst(gain).items():
        subject = Subject.of(shelf.dataset.load(known[case]), model)
        masks = {name: next(iter(arm(subject))) for name, arm in arms(model, (way,), seed).items()}
        drawn.append(
            gallery.Row(
                f"{place}: {case}",
                subject.sample.image,
                subject.sample.mask,
                masks[PRIOR],
                masks[way],
                (scores[case][PRIOR]["dice"], scores[case][way]["dice"]),
                shelf.dataset.colors,
            )
        )
    gallery.draw(path, drawn)
