"""An ablation for people: its table and what holds, its curves and the cases of its reference.

A page is made from the object that the command writes, and can be made again from its file; only
the pictures of cases need the model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from napari_hidiff.training.datasets import Case

from .. import gallery, output
from ..output import Content, Report, Table, interval, numbers, print_line, score_cells, verdict
from ..samplers import arms_with, setting_of
from ..scoring import PRIOR, PreparedSample
from ..study import Record
from .trainings import TrainedModels
from .variants import Variant


def report(content: Content) -> Report:
    """A verdict on every variant by its first setting, a line of the table for every setting."""
    section, recipe = content["section"], content["recipe"]
    about = section if section.startswith("none") else f"in the paper: {section}"
    facts = (
        f"training seeds {numbers(content['seeds'])}; {recipe['iterations']} iterations of "
        f"{recipe['batch']} crops, width {recipe['width']}, stem {recipe['stem']}"
    )
    if recipe["longest_side"]:
        facts += f", images of at most {recipe['longest_side']} pixels a side"
    return Report(about, _summary(content), _table(content), facts)


def _table(content: Content) -> Table:
    """Variants that were not run have empty cells and the option that runs them."""
    rows = []
    for row in content["rows"]:
        if not row["cells"]:
            rows.append([row["title"], f"not run: `--rows {row['name']}`", *[""] * 6])
        for index, (setting, cell) in enumerate(row["cells"].items()):
            first = index == 0
            head = [row["title"] * first, setting, str(len(row["seeds"])) * first]
            apart = [interval(cell.get(key)) for key in ("to_prior", "to_reference")]
            rows.append([*head, *score_cells(cell), *apart])
    heads = ["", "way", "seeds", "Dice", "HD95", "NSD", "Dice - prior"]
    return Table([*heads, f"Dice - ({_reference(content)})"], rows, words=2)


def _summary(content: Content) -> list[str]:
    lines = []
    for row in content["rows"]:
        if row["cells"]:
            setting = next(name for name in row["cells"] if name != PRIOR)
            cell = row["cells"][setting]
            line = f"- **{row['title']}** ({setting}): {verdict(cell['to_prior'], 'its prior')}"
            if cell["to_reference"]:
                line += f"; {verdict(cell['to_reference'], _reference(content))}"
            lines.append(f"{line}.")
    return lines


def _reference(content: Content) -> str:
    return f"{content['reference']['row']}, {content['reference']['way']}"


def print_report(content: Content, out: Console) -> None:
    """The names of the variants, as ``--rows`` takes them, then the report."""
    for row in content["rows"]:
        print_line(f"{row['name']}: {row['title']}", out)
    output.print_report(content, report(content), out)


def write_report(content: Content, folder: Path) -> list[str]:
    """Write ``report.md`` and its curves into a folder; the names of the curves."""
    curves = []
    if any(row["cells"] for row in content["rows"]):
        draw_differences(content, folder / "differences.png")
        curves.append("differences.png")
    if content["calibration"]:
        draw_calibration(content, folder / "calibration.png")
        curves.append("calibration.png")
    shown = content | {"pictures": [*content["pictures"], *curves]}
    output.write_page(shown, output.page(content, report(content)), folder)
    return curves


DPI = 110


def draw_differences(content: Content, path: Path) -> None:
    """Dice minus the prior's for every variant and sampler setting, with 95 % intervals."""
    labels, means, lows, highs = [], [], [], []
    for row in content["rows"]:
        for setting, cell in row["cells"].items():
            if setting == PRIOR:
                continue
            gain = cell["to_prior"]
            labels.append(f"{row['name']}, {setting}")
            means.append(gain["mean"])
            lows.append(gain["mean"] if gain["low"] is None else gain["low"])
            highs.append(gain["mean"] if gain["high"] is None else gain["high"])
    drawing = gallery.new_figure(7, 0.6 + 0.21 * len(labels), DPI)
    axes = drawing.add_subplot()
    at = range(len(labels), 0, -1)
    axes.hlines(at, lows, highs, color="#3070b0")
    axes.plot(means, at, "o", color="#3070b0", markersize=4)
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(list(at), labels, fontsize=7)
    axes.set_xlabel("Dice minus the prior's, 95 % interval over cases", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    gallery.save(drawing, path, gallery.TINTS)


def draw_calibration(content: Content, path: Path) -> None:
    """Mean predicted against true flip rate by t, a curve per variant; ideal is the diagonal."""
    drawing = gallery.new_figure(5.2, 4.2, DPI)
    axes = drawing.add_subplot()
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
    gallery.save(drawing, path, gallery.TINTS)


def draw_cases(
    models: TrainedModels,
    variant: Variant,
    seed: int,
    scores: Mapping[str, Record],
    cases: Sequence[Case],
    path: Path,
) -> None:
    """Best, median and worst case of a variant's first setting, by Dice minus the prior's."""
    name, model, dataset = variant.settings[0], models.model(variant, seed), models.dataset
    arms = arms_with(model, {name: setting_of(name)}, seed)
    gain = {case: of[name]["dice"] - of[PRIOR]["dice"] for case, of in scores.items()}
    by_id = {case.id: case for case in cases}
    rows = []
    for place, case in gallery.best_median_worst(gain).items():
        prepared = PreparedSample.of(dataset.load(by_id[case]), model)
        prior, refined = (next(iter(arms[arm](prepared))) for arm in (PRIOR, name))
        rows.append(
            gallery.Row(
                f"{place}: {case}",
                prepared.sample.image,
                prepared.sample.mask,
                prior,
                refined,
                (scores[case][PRIOR]["dice"], scores[case][name]["dice"]),
                dataset.colors,
            )
        )
    gallery.draw(path, rows)
