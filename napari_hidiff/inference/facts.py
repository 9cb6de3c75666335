"""A model's card in words: what the command ``napari-hidiff models`` and the window show of it."""

from collections.abc import Iterator
from typing import Any

from napari_hidiff.inference.card import Card

MEASURES = {"dice": "Dice", "iou": "IoU", "recall": "recall", "nsd": "NSD", "hd95": "HD95"}
"""Scores that are shown, of those that a card holds."""
MASKS = {"prior": "prior", "refined": "refined", "second_observer": "second observer"}
RULES = {
    "standardize": "mean 0, deviation 1 per channel; bit depth, gain and offset do not matter",
    "zscore": "mean 0, deviation 1 of what is not 0, which stays 0",
}

Fact = tuple[str, str]
"""A heading and a line."""


def facts(card: Card) -> Iterator[Fact]:
    """What a user should know before choosing the model, in this order; empty lines are left out.

    Classes and scores are not among them: see ``card.classes`` and :func:`scores`.
    """
    lines = {
        "Finds": card.summary,
        "Channels": ", ".join(card.channels),
        "Image size": _size(card),
        "Spacing": " x ".join(f"{side:g}" for side in card.spacing) if card.spacing else "",
        "Intensity": _intensity(card),
        "Data": card.dataset,
        "Licence": card.licence,
        "Attribution": card.attribution,
        "Trained": _training(card),
        "Recommends": f"{card.defaults['sampler']}, {card.defaults['steps']} steps, "
        f"{card.defaults['samples']} samples"
        if card.defaults["sampler"] != "one-step"
        else "one-step",
        "Command": str(card.training.get("command", "")),
        "Note": str(card.training.get("note", "")),
        "Versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
    }
    return ((name, line) for name, line in lines.items() if line)


def scores(card: Card) -> tuple[str, list[list[str]]]:
    """What the scores were measured on, and a table: names of columns, then a row per mask.

    Both are empty where nothing was measured.
    """
    found = card.scores.get("mean") or {}
    held_out = card.training.get("held_out", {}).get("mean")
    if not found and held_out:
        rows = [["mask", "before", "after"]]
        for name in ("prior", "refined"):
            rows.append([name, *(f"{held_out[when][name]:.3f}" for when in ("before", "after"))])
        count = len(card.training["held_out"]["cases"])
        return f"Dice on {count} held-out corrections, before and after the fine-tuning", rows
    measured = [key for key in MEASURES if all(key in found.get(name, {}) for name in found)]
    if not found or not measured:
        return "", []
    unit = card.scores.get("surface", {}).get("unit", "pixels")
    names = [MEASURES[key] + (f" ({unit})" if key == "hd95" else "") for key in measured]
    rows = [["mask", *names]]
    for key, name in MASKS.items():
        if key in found:
            rows.append([name, *(_number(found[key][measure]) for measure in measured)])
    about = f"{card.scores.get('n', '?')} cases of {card.scores.get('dataset', '?')}"
    return f"{about}, split {card.scores.get('split', '?')}", rows


def size(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB"


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"


def _size(card: Card) -> str:
    if "size" not in card.looks:
        return "not noted on this card"
    (low_h, low_w), (high_h, high_w) = card.looks["size"]
    text = f"{_span(low_h, high_h)} x {_span(low_w, high_w)} pixels in training"
    longest = card.training.get("recipe", {}).get("longest_side")
    return f"{text}, shrunk to {longest}" if longest else text


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _intensity(card: Card) -> str:
    rule = card.intensity.get("rule", "standardize")
    if rule == "window":
        return f"values {card.intensity['low']:g} to {card.intensity['high']:g}, the rest clipped"
    return RULES.get(rule, rule)


def _training(card: Card) -> str:
    cases = card.training.get("cases", {})
    count, chosen = len(cases.get("train", ())), len(cases.get("val", ()))
    origin = card.training.get("from")
    if origin:
        held = f", {chosen} held out" if chosen else ""
        return f"fine-tuned from {origin['name']} on {count} more images{held}"
    return f"on {count} cases, chosen on {chosen}" if count else ""
