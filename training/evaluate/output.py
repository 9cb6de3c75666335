"""How a result leaves the command: JSON, tables on the console, a Markdown page, progress.

Every experiment uses this kit: one interval text, one verdict in words, one table of each kind.
Pictures are in :mod:`.gallery`.
"""

import json
import math
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from napari_hidiff.cli import console
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.training.datasets import Case

from .study import OnCase, span

NAME = "napari-hidiff-evaluate"
Content = dict[str, Any]
"""The JSON object of an evaluation."""
Difference = Mapping[str, float | None]
"""``mean`` of a difference, and ``low`` and ``high`` of its 95 % interval, None without one."""


@contextmanager
def progress(name: str, cases: int) -> Iterator[OnCase]:
    """Progress of an experiment on stderr: a bar, or a line whenever something else goes on."""
    began, first, latest, last = time.perf_counter(), 0.0, 0.0, ""
    with console.progress() as bar:
        task = bar.add_task("cases", total=cases)

        def on_case(done: float, going_on: Case | str) -> None:
            nonlocal began, first, latest, last
            latest = done = max(latest, done)  # a few words come with 0 in the midst of the work
            left = ""
            if isinstance(going_on, Case):
                what = f"{going_on.id} ({int(done) + 1} of {cases})"
            else:  # records of an earlier call took no time: the clock starts now
                what, began, first = going_on, time.perf_counter(), done
            bar.update(task, description=what, completed=done)
            if bar.disable and what != last:
                if done > first:
                    passed = time.perf_counter() - began
                    left = f", {span(passed / (done - first) * (cases - done))} left"
                console.log(f"{name}: {what}{left}")
            last = what

        yield on_case


def deliver(
    content: Content,
    show: Callable[[Content, Console], None],
    as_json: bool,
    output: Path | None,
    folder: Path | None = None,
) -> None:
    """Write the object to its file, and print it as JSON or as tables.

    folder : of its pictures, which are copied beside the file: ``name.json`` gets
    ``name-PICTURE.png``.
    """
    if output is not None:
        with atomic_write(output) as (part,):
            part.write_text(as_text(content), encoding="utf-8")
        for name in content.get("pictures", ()) if folder is not None else ():
            with atomic_write(output.with_name(f"{output.stem}-{name}")) as (part,):
                shutil.copyfile(folder / name, part)
    if as_json:
        print(as_text(content))
    else:
        show(content, Console())


def as_text(content: Content) -> str:
    """The object as JSON, indented; lists of numbers, and objects that hold nothing but such lists
    and plain values, on one line."""
    text = json.dumps(content, indent=1, allow_nan=False)
    text = re.sub(r"\[\n[^][{}\"]+\]", _one_line, text)
    return re.sub(r"\{\n[^{}]+\}", _one_line, text)


def _one_line(found: re.Match[str]) -> str:
    return re.sub(r"\n *", " ", found[0])  # a JSON string holds no line break of its own


def plain(content: Content) -> Content:
    """Floats to 6 decimals, so that equal means stay equal; NaN becomes None, as JSON has none."""
    return {key: _plain(value) for key, value in content.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6) + 0.0  # + 0.0: no minus zero
    return value


def interval(difference: Difference | None, missing: str = "") -> str:
    """``+0.0012 [-0.0003, +0.0027]``; without bounds for a single case, ``missing`` for None."""
    if difference is None:
        return missing
    mean, low, high = (difference[name] for name in ("mean", "low", "high"))
    bounds = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
    return f"{math.nan if mean is None else mean:+.4f}{bounds}"


def verdict(difference: Difference, other: str) -> str:
    """One difference in words, and the difference."""
    return f"{side(difference)} {other}, {interval(difference)}"


def side(difference: Difference) -> str:
    """On which side of 0 the interval of a difference lies."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high:
        return "not significantly different from"
    return "above" if low > 0 else "below"


def figure(value: float | None, digits: int = 4) -> str:
    """A score; ``-`` where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def score_cells(scores: Mapping[str, float | None]) -> list[str]:
    """Dice, HD95 and NSD as cells of a table."""
    digits = {"dice": 4, "hd95": 2, "nsd": 4}
    return [figure(scores.get(metric), count) for metric, count in digits.items()]


def numbers(values: Iterable[int]) -> str:
    """``0, 1, 2``."""
    return ", ".join(map(str, values))


@dataclass(frozen=True)
class Table:
    """Cells of text for the console and for a page.

    heads : of the columns.  rows : may use Markdown's backticks.  words : the first so many columns
    hold words, the others figures.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1

    def markdown(self) -> str:
        """The table on a page."""
        lines = [f"| {' | '.join(row)} |" for row in (self.heads, *self.rows)]
        return "\n".join([lines[0], "|---" * len(self.heads) + "|", *lines[1:]])

    def rich(self, title: str = "") -> RichTable:
        """The table on the console: figures are aligned right, and where the screen is narrow lines
        are broken and nothing is cut off. With several columns of words, rows with the same first
        cell are a group, which is named once and ends in a line."""
        table = RichTable(title=title or None, title_justify="left")
        for number, head in enumerate(self.heads):
            figures = number >= self.words
            table.add_column(head, justify="right" if figures else "left", overflow="fold")
        above = None
        for row in self.rows:
            first, *rest = (escape(cell.replace("`", "")) for cell in row)
            same = self.words > 1 and first in ("", above)
            if above is not None and self.words > 1 and not same:
                table.add_section()
            table.add_row("" if same else first, *rest)
            above = above if same else first
        return table


@dataclass(frozen=True)
class Report:
    """What people read of a result, the same on its page and on the console.

    about : in brackets after the question.  summary : one line each, in Markdown.  facts : seeds
    and settings, for the origin.  more : further tables by title, on the console alone.
    """

    about: str
    summary: Sequence[str]
    table: Table
    facts: str
    more: Mapping[str, Table] = field(default_factory=dict)


def print_report(content: Content, report: Report, out: Console) -> None:
    """The question, the tables, the summary and the notes."""
    print_line(f"{question(content, report)} {describe(content)}; {report.facts}", out)
    out.print(report.table.rich())
    for title, table in report.more.items():
        out.print(table.rich(title))
    for line in report.summary:
        print_line(re.sub(r"^- |\*\*|`", "", line), out)
    print_notes(content, out)


def describe(content: Content) -> str:
    """Data set, split and number of cases."""
    return f"{content['dataset']}, {content['split']} split, n = {content['n']} cases"


def print_line(line: str, out: Console, style: str | None = None) -> None:
    """One line, broken where the screen ends, with nothing in it taken for markup."""
    out.print(line, style=style, soft_wrap=True, markup=False)


def print_notes(content: Content, out: Console) -> None:
    """The notes of a result."""
    for note in content["notes"]:
        print_line(f"note: {note}", out, "yellow")


FOLDERS = ("--data", "--state")
"""Options whose value is a folder of one machine."""
OF_ONE_CALL = ("--kept", "--json")
"""Options that change nothing in what is measured."""


def page(content: Content, report: Report) -> str:
    """Question, summary, table and origin, in Markdown."""
    summary = "\n".join(report.summary)
    parts = question(content, report), summary, report.table.markdown(), origin(content, report)
    return "\n\n".join(filter(None, parts)) + "\n"


def question(content: Content, report: Report) -> str:
    """What was asked, as a sentence."""
    return f"{content['title'][0].upper()}{content['title'][1:]} ({report.about})."


def write_page(content: Content, text: str, folder: Path) -> None:
    """Write a page with its title and its pictures, ``report.md`` in the pictures' folder."""
    pictures = "".join(f"\n![{name}]({name})\n" for name in content["pictures"])
    with atomic_write(folder / "report.md") as (part,):
        part.write_text(f"# {content['experiment']}\n\n{text}{pictures}", encoding="utf-8")


def origin(content: Content, report: Report) -> str:
    """Data, split, facts, hardware, versions, the command, and the notes."""
    hardware = content["hardware"]
    machine = hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} threads"
    torch = content["versions"]["torch"]
    line = f"{describe(content)}; {report.facts}; {machine}; torch {torch}"
    notes = "".join(f"\n- {note}" for note in content["notes"])
    return f"{line}.\n\n```bash\n{command(content)}\n```\n{notes}"


def command(content: Content) -> str:
    """The command without the folders of one machine (data, records) and without ``--json``."""
    words, lasting = shlex.split(content["command"]), []
    skipping = False
    for word in words:
        if not skipping and word not in (*FOLDERS, *OF_ONE_CALL):
            lasting.append(word)
        skipping = word in FOLDERS and not skipping
    return shlex.join(lasting)
