"""A study as a page: its table, what holds, how it was made; and its curves.

Everything comes from the object that the command writes, so that a page can be made again from
the kept file alone.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..arms import PRIOR
from .figures import draw_calibration, draw_differences

Content = Mapping[str, Any]


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
    (folder / "report.md").write_text(text, encoding="utf-8")
    return curves


def page(content: Content) -> str:
    """Question, table, summary and origin, as Markdown."""
    parts = [f"{content['title'][0].upper()}{content['title'][1:]} ({_section(content)})."]
    parts += [summary(content), table(content), origin(content)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(content: Content) -> str:
    """A line for every row and way; rows that were not run have empty cells and their command."""
    reference = content["reference"]
    lines = [
        f"| | way | seeds | Dice | HD95 | NSD | Dice - prior | Dice - ({reference['row']}, "
        f"{reference['way']}) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        if not row["cells"]:
            lines.append(f"| {row['title']} | not run: `--rows {row['name']}` | | | | | | |")
        for index, (way, cell) in enumerate(row["cells"].items()):
            head = [row["title"], way, str(len(row["seeds"]))] if index == 0 else ["", way, ""]
            scores = [f"{cell['dice']:.4f}", f"{cell['hd95']:.2f}", f"{cell['nsd']:.4f}"]
            apart = ["", ""]
            if way != PRIOR:
                apart = [interval(cell["to_prior"]), interval(cell["to_reference"])]
            lines.append(f"| {' | '.join([*head, *scores, *apart])} |")
    return "\n".join(lines)


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


def verdict(difference: Mapping[str, float | None], other: str) -> str:
    """One difference in words: which side of 0 its interval lies on."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high:
        word = "not to be told from"
    else:
        word = "above" if low > 0 else "below"
    return f"{word} {other}, {interval(difference)}"


def interval(difference: Mapping[str, float | None] | None) -> str:
    if difference is None:
        return ""
    mean, low, high = (difference[name] for name in ("mean", "low", "high"))
    bounds = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
    return f"{mean:+.4f}{bounds}"


def origin(content: Content) -> str:
    """Data, split, seeds, size, hardware, versions and the command."""
    recipe, hardware = content["recipe"], content["hardware"]
    machine = hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} threads"
    facts = (
        f"{content['dataset']}, {content['split']} split, n = {content['n']} cases; training "
        f"seeds {', '.join(map(str, content['seeds']))}; {recipe['iterations']} iterations of "
        f"{recipe['batch']} crops, width {recipe['width']}, stem {recipe['stem']}; {machine}; "
        f"torch {content['versions']['torch']}"
    )
    notes = "".join(f"\n- {note}" for note in content["notes"])
    return f"{facts}.\n\n```bash\n{_command(content)}\n```\n{notes}"


def _command(content: Content) -> str:
    """The command without what belongs to one machine: folders of data and of kept work."""
    words, kept = shlex.split(content["command"]), []
    skipping = False
    for word in words:
        if not skipping and word not in ("--data", "--state", "--kept", "--json"):
            kept.append(word)
        skipping = word in ("--data", "--state") and not skipping
    return shlex.join(kept)


def _section(content: Content) -> str:
    section = content["section"]
    return section if section.startswith("none") else f"in the paper: {section}"
