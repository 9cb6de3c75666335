"""What was asked of one model, as a page: its table, what holds, and how it was made.

Everything comes from the object that the command writes, so that a page can be made again from
the kept file alone.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from napari_hidiff.io.storage import whole

from .. import output
from ..output import Content, interval, side, verdict
from ..scoring import PRIOR, REFINED

FEW = 5
"""Cases below which an interval over them is not put into words."""


def write_report(content: Content, folder: Path) -> None:
    """Write ``report.md`` into the folder of the pictures that it shows."""
    text = f"# {content['experiment']}\n\n{page(content)}"
    text += "".join(f"\n![{picture}]({picture})\n" for picture in content["pictures"])
    with whole(folder / "report.md") as (part,):
        part.write_text(text, encoding="utf-8")


def page(content: Content) -> str:
    """Question, what holds, table and origin, as Markdown."""
    summary, table = PAGES[content["experiment"]]
    question = f"{content['title'][0].upper()}{content['title'][1:]} (`{content['model']}`)."
    parts = [question, summary(content), table(content), _origin(content)]
    return "\n\n".join(parts) + "\n"


def _origin(content: Content) -> str:
    seeds = ", ".join(map(str, content["seeds"]))
    engines = ", ".join(content["engine"])
    return output.origin(content, f"sampling seeds {seeds}; {engines} engine")


def _steps_summary(content: Content) -> str:
    """Which ways lie on which side of the prior, and of one pass."""
    lines = []
    for key, other in (("minus_prior", "the prior"), ("minus_one_step", "one pass")):
        sides: dict[str, list[str]] = {}
        for name, arm in content["arms"].items():
            if key in arm:
                sides.setdefault(side(arm[key]["dice"]), []).append(name)
        for where, names in sides.items():
            lines.append(f"- {where.capitalize()} {other}: {', '.join(names)}.")
    if content["recommended"]:
        lines.append(f"- The model's card recommends {content['recommended']}.")
    return "\n".join(lines)


def _steps_table(content: Content) -> str:
    surface = content["surface"]
    heads = ["way", "passes", "Dice", f"HD95 ({surface['unit']})", "NSD", "Dice - prior"]
    heads += ["Dice - one pass", "seconds"]
    rows = []
    for name, arm in content["arms"].items():
        scores = _scores(arm["mean"])
        if name == PRIOR:
            rows.append([name, "", *scores, "", "", ""])
            continue
        apart = [interval(arm[key]["dice"]) if key in arm else "" for key in _APART]
        rows.append([f"`{name}`", str(arm["passes"]), *scores, *apart, f"{arm['seconds']:.2f}"])
    return output.table(heads, rows)


_APART = ("minus_prior", "minus_one_step")


def _small_summary(content: Content) -> str:
    lowest = content["lowest"]
    if not lowest["n"]:
        return "No case has any of the classes."
    apart = lowest["minus_prior"][REFINED]
    said = f"refined {verdict(apart, 'the prior')}"
    if lowest["n"] < FEW:
        said = f"refined - prior {interval(apart)}, and so few cases say next to nothing"
    lines = [f"- **the smallest quarter of any class** (n = {lowest['n']}): {said}."]
    for name, part in content["classes"].items():
        if part["without"]:
            lines.append(f"- {name}: {part['without']} cases without it are left out.")
    return "\n".join(lines)


def _small_table(content: Content) -> str:
    ways = list(content["ways"])
    heads = ["class", "quarter", "n", f"size ({content['unit']})", "Dice of the prior"]
    heads += [*ways, *(f"{way} - prior" for way in ways)]
    rows = []
    for name, part in content["classes"].items():
        for title, quarter in part["quarters"].items():
            if quarter["n"]:
                size = f"{quarter['from']:,.0f} - {quarter['to']:,.0f}"
                rows.append([name, title, str(quarter["n"]), size, *_compared(quarter, ways)])
    lowest = content["lowest"]
    if lowest["n"]:
        rows.append(["all", "smallest", str(lowest["n"]), "", *_compared(lowest, ways)])
    return output.table(heads, rows)


def _compared(part: Mapping[str, Any], ways: list[str]) -> list[str]:
    dices = [f"{part['dice'][arm]:.4f}" for arm in (PRIOR, *ways)]
    return [*dices, *(interval(part["minus_prior"][way]) for way in ways)]


def _cross_summary(content: Content) -> str:
    pairs = ", ".join(f"{a} as {b}" for a, b in content["classes"].items())
    lines = [f"- trained on {content['trained_on'] or 'an unnamed data set'}; classes: {pairs}."]
    for name in content["ways"]:
        difference = content["minus_prior"][name]["dice"]
        lines.append(f"- **{name}**: {verdict(difference, 'the prior')}.")
    return "\n".join(lines)


def _cross_table(content: Content) -> str:
    here = f"{content['dataset']} ({content['split']}, n = {content['n']})"
    rows = []
    for arm, mean in content["mean"].items():
        apart = interval(content["minus_prior"][arm]["dice"]) if arm != PRIOR else ""
        rows.append([here, arm, *_scores(mean), apart])
    if own := content["own"]:
        where = f"its own: {own['dataset']} ({own['split']}, n = {own['n']})"
        rows += [[where, arm, *_scores(mean), ""] for arm, mean in own["mean"].items()]
    return output.table(["data", "mask", "Dice", "HD95", "NSD", "Dice - prior"], rows)


def _scores(mean: Mapping[str, float | None]) -> list[str]:
    digits = {"dice": 4, "hd95": 2, "nsd": 4}
    found = {name: mean.get(name) for name in digits}
    return ["-" if v is None else f"{v:.{digits[name]}f}" for name, v in found.items()]


Part = Callable[[Content], str]
PAGES: Mapping[str, tuple[Part, Part]] = {
    "steps": (_steps_summary, _steps_table),
    "small-objects": (_small_summary, _small_table),
    "cross-dataset": (_cross_summary, _cross_table),
}
"""What holds, and the table, of each experiment."""
