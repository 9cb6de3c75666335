"""Make the pages that say what the program and its results say.

    python docs/make_pages.py

The commands' own parsers are read for docs/commands.md, the cards of the bundled models for
docs/model-cards.md, the objects under results/ for docs/studies.md and docs/measured.md;
tests/docs/test_site.py fails when a page is not what this script would write.
"""

import configparser
import importlib
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from unittest.mock import patch

from measured_page import measured_page
from studies_page import studies_page
from typer import Typer
from typer.main import get_command
from universal_page import universal_page

from napari_hidiff.inference import catalog
from napari_hidiff.inference.card import Card, card_rows, card_scores

DOCS = Path(__file__).parent
NOTE = "<!-- Made by docs/make_pages.py: change commands, cards or results, not this page. -->"
METAVARS = {int: "INTEGER", float: "NUMBER", Path: "PATH"}
SCORES = {
    "dice": "Dice",
    "iou": "IoU",
    "recall": "recall",
    "accuracy": "accuracy",
    "nsd": "NSD",
    "hd95": "HD95",
}
ARMS = {
    "prior": "first mask (segmentor alone)",
    "refined": "refined",
    "ddim": "refined with DDIM",
    "one-step": "refined in one pass",
    "ancestral": "refined with ancestral sampling",
    "damaged": "damaged first mask",
    "repaired": "damaged first mask, refined",
    "second_observer": "second human observer",
}
STROKES = {
    "paint": "painting alone",
    "once": "refined once, then painted",
    "refine": "re-refined, changes anywhere",
    "refine-firm": "re-refined, uncertain pixels stay (the default)",
}


def entry_points() -> dict[str, str]:
    """The commands that setup.cfg installs, and the module of each."""
    setup = configparser.ConfigParser()
    setup.read(DOCS.parent / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"]
    return dict(re.findall(r"^(napari-[\w-]+) = ([\w.]+:\w+)", lines, re.MULTILINE))


def parser_of(name: str) -> Any:
    """The parser of an installed command, a click command or group."""
    module, _, function = entry_points()[name].partition(":")
    main = getattr(importlib.import_module(module), function)
    called: list[Typer] = []
    # An entry point calls its application, and leaves: keep the application in place of the call.
    with patch.object(Typer, "__call__", lambda app, **_: called.append(app)), suppress(SystemExit):
        main()
    return get_command(called[0])


def commands_page() -> str:
    """Every command with its arguments and options."""
    parts = [
        "# Commands",
        NOTE,
        "Every command has `--help`. Exit status: 0 done, 2 bad input (one line on stderr says "
        "what is wrong), 130 interrupted. With `--json` the command prints exactly one object on "
        "stdout; logs go to stderr.",
    ]
    for name in entry_points():
        parser = parser_of(name)
        parts += section(name, parser)
    return "\n\n".join(filter(None, parts)) + "\n"


def section(name: str, parser: Any, level: str = "##") -> list[str]:
    """A command; of a group what it is for, what it does alone, and its commands."""
    subs = getattr(parser, "commands", None)
    if not subs:
        return described(name, parser, level)
    alone = parser.invoke_without_command
    parts = described(name, parser, level) if alone else [f"{level} {name}", prose(parser.help)]
    for sub, command in subs.items():
        parts += section(f"{name} {sub}", command, level + "#")
    return parts


def described(name: str, command: Any, level: str) -> list[str]:
    """One command: usage, what it does, a table of what it takes."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    must = [p for p in options if p.required]
    usage = [name, *(p.metavar if p.required else f"[{p.metavar}]" for p in arguments)]
    usage += [f"{p.opts[0]} {metavar(p)}" for p in must]
    parts = [f"{level} {name}", f"```text\n{' '.join(usage)} [OPTIONS]\n```", prose(command.help)]
    panels: dict[str, list[Any]] = {}
    for option in options:
        panels.setdefault(getattr(option, "rich_help_panel", None) or "", []).append(option)
    if arguments:
        rows = [f"| `{p.metavar}` | {cell(p.help)} |" for p in arguments]
        parts.append("\n".join(["| argument | |", "|---|---|", *rows]))
    for panel, found in panels.items():
        if panel:
            said = " (each of these is also a field of the recipe on the card)"
            parts.append(f"**{panel}**{said if panel == 'Recipe' else ''}")
        rows = [f"| {flags(p)} | {cell(p.help)} | {default(p)} |" for p in found]
        parts.append("\n".join(["| option | | default |", "|---|---|---|", *rows]))
    return parts


def prose(text: str | None) -> str:
    """The help of a command; lines that are commands become code."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text or ""):
        line = " ".join(paragraph.split())
        whole = re.fullmatch(r"\*\*(napari-hidiff[^*]*)\*\*", line)
        if whole:
            paragraphs.append(f"```bash\n{whole[1]}\n```")
        else:
            paragraphs.append(re.sub(r"\*\*(napari-hidiff[^*]*)\*\*", r"`\1`", line))
    return "\n\n".join(paragraphs)


def flags(option: Any) -> str:
    """``--steps INTEGER``, ``--window / --no-window``."""
    if option.is_flag:
        return " / ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    return f"`{option.opts[0]} {cell(metavar(option))}`"


def metavar(option: Any) -> str:
    """What stands for the value of an option."""
    if option.metavar:
        return str(option.metavar)
    kind: Any = option.type_descriptor.annotation  # typer's: int, Path, list[str], Literal[...]
    if get_origin(kind) is list:
        (kind,) = get_args(kind)
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    return METAVARS.get(kind, "TEXT")


def default(option: Any) -> str:
    """The default in words; empty where there is none."""
    value = option.default
    if option.required:
        return "required"
    if value is None or value is False or value in ((), []):
        return ""
    if value is True:
        return f"`{option.opts[0]}`"
    return f"`{cell(str(value))}`"


def cell(text: str | None) -> str:
    """Text that can stand in a cell of a table."""
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def cards_page() -> str:
    """The cards of the bundled models."""
    parts = [
        "# Model cards",
        NOTE,
        "A card is part of the model's file (`model.card`); `napari-hidiff-train` writes it. These "
        "are the cards of the bundled models. None of them is a medical device.",
    ]
    for model in catalog.entries():
        if model.kind == "bundled" and model.card is not None:
            parts += card_parts(model.card)
    return "\n\n".join(parts) + "\n"


def card_parts(card: Card) -> list[str]:
    """One card: what it is, how it scored, how it was made."""
    spacing = " x ".join(f"{side:g} mm" for side in card.spacing or ())
    known = {
        "finds": ", ".join(kind.name for kind in card.classes[1:]),
        "in": card.summary,
        "reads": ", ".join(card.channels) + f"; intensity: {card.intensity['rule']}",
        "pixel of training": spacing,
        "slices": dict(card_rows(card)).get("Slices", ""),
        "image size": dict(card_rows(card))["Image size"],
        "scale": dict(card_rows(card)).get("Scale", ""),
        "data set": card.dataset,
        "attribution": card.attribution,
        "licence of the weights": card.licence,
        "segmentor": card.segmentor["name"],
        "refiner": ", ".join(f"{key} {value}" for key, value in card.refiner.items()),
        "process": ", ".join(f"{key} {value}" for key, value in card.diffusion.items()),
        "refines by": ", ".join(f"{key} {value}" for key, value in card.defaults.items()),
    }
    rows = [f"| {key} | {cell(str(value))} |" for key, value in known.items() if value]
    parts = [f"## {card.name}", "\n".join(["| | |", "|---|---|", *rows])]
    if "mean" in card.scores:
        parts += score_parts(card.scores)
    if "prompted" in card.scores:
        parts += prompted_parts(card)
    if interactive := card.scores.get("interactive"):
        parts += stroke_parts(interactive)
    if command := card.training.get("command"):
        parts.append(f"**Trained by** (as the card says)\n\n```bash\n{command}\n```")
    if note := card.training.get("note"):
        parts.append(note)
    return parts


def score_parts(scores: dict[str, Any]) -> list[str]:
    """The measured scores of a card, as a table."""
    mean = scores["mean"]
    columns = [key for key in SCORES if all(key in arm for arm in mean.values())]
    unit = scores.get("surface", {}).get("unit", "pixels")
    short = {"pixels": "px"}.get(unit, unit)
    tolerance = scores.get("surface", {}).get("tolerance", 1)
    names = {**SCORES, "nsd": f"NSD at {tolerance:g} {short}", "hd95": f"HD95 ({short})"}
    digits = {"hd95": 2 if unit == "mm" else 1}
    head = ["| mask | " + " | ".join(names[key] for key in columns) + " |"]
    head.append("|---" * (len(columns) + 1) + "|")
    for arm, values in mean.items():
        shown = (f"{values[key]:.{digits.get(key, 3)}f}" for key in columns)
        head.append(f"| {ARMS.get(arm, arm)} | " + " | ".join(shown) + " |")
    parts = [
        f"**Scores** on {scores['dataset']}, {scores['split']}, n = {scores['n']}, "
        "means over images:",
        "\n".join(head),
    ]
    if (dice := scores.get("difference", {}).get("dice")) and dice.get("low") is not None:
        parts.append(
            f"Refined minus first mask, Dice: {dice['mean']:+.4f} "
            f"[{dice['low']:+.4f}, {dice['high']:+.4f}] (95 % interval over {scores['n']} cases, "
            "one trained model)."
        )
    if damage := scores.get("damage"):
        parts.append(
            f"A fixed [damage](evaluation.md#more-arms) of the first masks, of the kinds that the "
            f"model was trained on, costs {damage['lost']['mean']:.3f} Dice, of which refinement "
            f"regains {damage['share']:.0%}."
        )
    return parts


def prompted_parts(card: Card) -> list[str]:
    """What a prompted model needs, and its scores by set, as a table of mean Dice."""
    about, (head, *rows) = card_scores(card)
    table = [head, ["---"] * len(head), *rows]
    return [
        "**Prompted**: it answers a stroke, a box or a mask ([how](universal.md)); it offers "
        f"{card.hypotheses} further masks beside its answer.",
        f"**Scores**: {about}.",
        "\n".join(f"| {' | '.join(row)} |" for row in table),
    ]


def stroke_parts(measured: dict[str, Any]) -> list[str]:
    """What strokes are worth to the model, as a table of mean Dice."""
    arms = [arm for arm in STROKES if arm in measured["arms"]]
    counts = list(measured["arms"][arms[0]]["after"])
    head = [f"| after ... strokes | {' | '.join(counts)} |", "|---" * (len(counts) + 1) + "|"]
    for arm in arms:
        after = measured["arms"][arm]["after"]
        head.append(f"| {STROKES[arm]} | " + " | ".join(f"{after[k]:.3f}" for k in counts) + " |")
    where = f"{measured['dataset']}, {measured['split']}, n = {measured['n']}"
    title = f"**Strokes** of a [simulated annotator](interactive.md) on {where}, mean Dice:"
    return [title, "\n".join(head)]


PAGES = {
    "commands.md": commands_page,
    "model-cards.md": cards_page,
    "studies.md": lambda: studies_page(NOTE),
    "measured.md": lambda: measured_page(NOTE),
    "universal.md": lambda: universal_page(NOTE),
}
"""What is made, and by what."""


def main() -> None:
    """Write the pages."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
        print(DOCS / name)


if __name__ == "__main__":
    main()
