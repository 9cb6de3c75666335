"""docs/measured.md quotes what the experiments wrote, and that follows from its own rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
TEXT = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
SMALL = ("hippocampus", "chase-vessels")
"""Models whose small objects are there."""


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def interval(found: dict[str, float], digits: int = 4) -> str:
    mean, low, high = (f"{found[key]:+.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


@pytest.mark.parametrize("model", SMALL)
def test_small_objects_are_quoted_and_follow_from_the_cases(model):
    report = read(f"{model}-small-objects")
    assert report["command"] in TEXT
    section = TEXT.split(f"## small-objects, {model}\n")[1].split("\n## ")[0]
    for name, part in report["classes"].items():
        rows = [
            (image["id"], image["classes"][name])
            for image in report["images"]
            if image["classes"][name]["size"]
        ]
        rows.sort(key=lambda row: (row[1]["size"], row[0]))
        start = 0
        for title, quarter in part["quarters"].items():
            mine = [row for _, row in rows[start : start + quarter["n"]]]
            start += quarter["n"]
            assert quarter["from"] == pytest.approx(min(row["size"] for row in mine))
            assert quarter["to"] == pytest.approx(max(row["size"] for row in mine))
            gain = np.mean([row["refined"] - row["prior"] for row in mine])
            assert quarter["minus_prior"]["refined"]["mean"] == pytest.approx(gain, abs=2e-6)
            sizes = f"{quarter['from']:,.0f} - {quarter['to']:,.0f}"
            dice = f"{quarter['dice']['prior']:.4f} | {quarter['dice']['refined']:.4f}"
            ahead = interval(quarter["minus_prior"]["refined"])
            assert f"| {name} | {title} | {quarter['n']} | {sizes} | {dice} | {ahead} |" in section
        assert start == len(rows) == part["n"]
    assert interval(report["lowest"]["minus_prior"]["refined"]) in section


def test_what_is_claimed_holds():
    """On the smallest parts of the hippocampus a gain cannot be told from chance."""
    lowest = read("hippocampus-small-objects")["lowest"]
    assert lowest["n"] == 15
    assert lowest["minus_prior"]["refined"]["low"] < 0 < lowest["minus_prior"]["refined"]["high"]


@pytest.mark.parametrize("name", [f"{model}-small-objects" for model in SMALL])
def test_pictures_are_there_and_small(name):
    report = read(name)
    assert (RESULTS / f"{name}.json").stat().st_size < 300_000
    for picture in report["pictures"]:
        path = RESULTS / f"{name}-{picture}"
        assert path.stat().st_size < 300_000
        with Image.open(path) as drawn:
            assert drawn.width > 600
