"""What the pages of all experiments have in common: intervals and verdicts in words, and origin."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    return f"{mean:+.4f}{bounds}"


def verdict(difference: Difference, other: str) -> str:
    """One difference in words, and the difference."""
    return f"{side(difference)} {other}, {interval(difference)}"


def side(difference: Difference) -> str:
    """On which side of 0 the interval of a difference lies."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None or low <= 0 <= high:
        return "not to be told from"
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
