"""The first images of a kind as a table and as curves."""

from pathlib import Path

from matplotlib.ticker import MaxNLocator
from rich.console import Console

from ..gallery import new_figure, save
from ..output import Content, Report, Table, numbers, print_report

PICTURE = "curves.png"
COLUMNS = 3
"""Of the picture, a set each."""
NAMES = {
    "paint": "paint only",
    "walker-strokes": "random walker",
    "refine": "universal",
    "own": "universal + own",
}


def report(content: Content) -> Report:
    """The strokes of every arm by set, and what share of the others' the own segmentor needs."""
    arms = list(next(iter(content["sets"].values()))["arms"])
    shared = [arm for arm in ("walker-strokes", "refine") if arm in arms and "own" in arms]
    heads = ["set", "images", *(NAMES[arm] for arm in arms), *(f"of {NAMES[a]}" for a in shared)]
    rows = [
        [
            name,
            str(one["n"]),
            *(_strokes(one["arms"][arm]) for arm in arms),
            *(f"{one['shares'][arm]['mean']:.0%}" for arm in shared),
        ]
        for name, one in content["sets"].items()
    ]
    summary = [f"- **{len(content['met'])} of {len(content['sets'])}** sets meet the target."]
    facts = f"seeds {numbers(content['seeds'])}; at most {content['strokes']} strokes an image"
    about = f"strokes until every image has a Dice of {content['goal']:.2f}"
    return Report(about, summary if shared else [], Table(heads, rows), facts)


def print_table(content: Content, out: Console) -> None:
    """The report on the console."""
    print_report(content, report(content), out)


def _strokes(arm: Content) -> str:
    """The mean over seeds; lowest and highest where they differ; how many images got there."""
    span = "" if arm["low"] == arm["high"] else f" ({arm['low']}-{arm['high']})"
    return f"{arm['mean']:.0f}{span}, {arm['reached']:.0%}"


def draw(content: Content, path: Path) -> None:
    """The strokes so far against the images, a panel per set."""
    sets = content["sets"]
    rows = -(-len(sets) // COLUMNS)
    figure = new_figure(10, 3.2 * rows + 0.4, 100)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, (name, one) in zip(panels, sets.items(), strict=False):
        for number, (arm, figures) in enumerate(one["arms"].items()):
            curve = [0.0, *figures["curve"]]
            label = NAMES[arm] if axes is panels[0] else None
            axes.plot(range(len(curve)), curve, color=f"C{number}", label=label, lw=1.6)
        for at in range(content["every"], one["n"], content["every"]):
            axes.axvline(at, color="#cccccc", lw=0.6, zorder=0)
        axes.set(xlabel="images", ylabel="strokes", title=name, xlim=(0, one["n"]))
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in panels[len(sets) :]:
        axes.set_axis_off()
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    save(figure, path)
