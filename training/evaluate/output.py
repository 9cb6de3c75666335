"""How the result of an evaluation leaves the command: a file, JSON or tables; and its progress.

What the pages of all experiments have in common: intervals and verdicts in words, and origin.
"""

import json
import math
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from napari_hidiff.cli.console import log, progress
from napari_hidiff.io.storage import whole
from napari_hidiff.training.datasets import Case

from .experiments import OnCase


@contextmanager
def told(name: str, cases: int) -> Iterator[OnCase]:
    """Progress of an experiment on stderr: a bar, or a line whenever something else goes on."""
    began, first, latest, last = time.perf_counter(), 0.0, 0.0, ""
    with progress() as bar:
        task = bar.add_task("cases", total=cases)

        def on_case(done: float, going_on: Case | str) -> None:
            nonlocal began, first, latest, last
            latest = done = max(latest, done)  # words in between need not know how far it is
            left = ""
            if isinstance(going_on, Case):
                what = f"{going_on.id} ({int(done) + 1} of {cases})"
            else:  # what was kept of an earlier call came before: it says nothing about the rest
                what, began, first = going_on, time.perf_counter(), done
            bar.update(task, description=what, completed=done)
            if bar.disable and what != last:
                if done > first:
                    passed = time.perf_counter() - began
                    left = f", {span(passed / (done - first) * (cases - done))} left"
                log(f"{name}: {what}{left}")
            last = what

        yield on_case


def span(seconds: float) -> str:
    """A time for people: seconds, from two minutes on minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def deliver(
    content: dict[str, Any],
    as_json: bool,
    output: Path | None,
    show: Callable[[dict[str, Any], Console], None],
) -> None:
    """Write the object to its file, and print it as JSON or as tables."""
    if output is not None:
        _write(output, content)
    if as_json:
        print(_text(content))
    else:
        show(content, Console())


def _text(content: dict[str, Any]) -> str:
    """The object as JSON, indented; lists of numbers, and objects that hold nothing but such lists
    and plain values, on one line."""
    text = json.dumps(content, indent=1, allow_nan=False)
    text = re.sub(r"\[\n[^][{}\"]+\]", _one_line, text)
    return re.sub(r"\{\n[^{}]+\}", _one_line, text)


def _one_line(found: re.Match[str]) -> str:
    return re.sub(r"\n *", " ", found[0])  # a JSON string holds no line break of its own


def _write(path: Path, content: dict[str, Any]) -> None:
    """Write the object; the file appears whole or not at all."""
    with whole(path) as (part,):
        part.write_text(_text(content), encoding="utf-8")


Content = Mapping[str, Any]
Difference = Mapping[str, float | None]

OF_ONE_MACHINE = ("--data", "--state")
"""Options whose value is a folder of whoever ran the command."""
OF_ONE_CALL = ("--kept", "--json")
"""Options that change nothing in what is measured."""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def interval(difference: Difference | None) -> str:
    """``+0.0012 [-0.0003, +0.0027]``; without bounds for a single case, empty for None."""
    if difference is None:
        return ""
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


def origin(content: Content, facts: str) -> str:
    """Data, split, ``facts``, hardware, versions, the command, and the notes."""
    hardware = content["hardware"]
    machine = hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} threads"
    line = (
        f"{content['dataset']}, {content['split']} split, n = {content['n']} cases; {facts}; "
        f"{machine}; torch {content['versions']['torch']}"
    )
    notes = "".join(f"\n- {note}" for note in content["notes"])
    return f"{line}.\n\n```bash\n{command(content)}\n```\n{notes}"


def command(content: Content) -> str:
    """The command without what belongs to one machine: folders of data and of kept work."""
    words, kept = shlex.split(content["command"]), []
    skipping = False
    for word in words:
        if not skipping and word not in (*OF_ONE_MACHINE, *OF_ONE_CALL):
            kept.append(word)
        skipping = word in OF_ONE_MACHINE and not skipping
    return shlex.join(kept)
