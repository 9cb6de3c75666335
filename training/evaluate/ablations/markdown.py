"""A study as a page: its table, what holds, how it was made; and its curves.

Everything comes from the object that the command writes, so that a page can be made again from
the kept file alone.
"""

from pathlib import Path

from napari_hidiff.io.storage import whole

from .. import markdown
from ..arms import PRIOR
from ..markdown import Content, interval, verdict
from .figures import draw_calibration, draw_differences


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
    return markdown.table(heads, lines)


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
    return markdown.origin(content, facts)


def _section(content: Content) -> str:
    section = content["section"]
    return section if section.startswith("none") else f"in the paper: {section}"
