"""docs/experiments.md quotes what the experiments wrote, and that follows from its own rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_hidiff.training.evaluate.bootstrap import paired_bootstrap

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
TEXT = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
MODELS = ("hippocampus", "chase-vessels")


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def interval(found: dict[str, float], digits: int = 4) -> str:
    mean, low, high = (f"{found[key]:+.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


@pytest.mark.parametrize("model", MODELS)
def test_steps_are_quoted(model):
    report = read(f"{model}-steps")
    assert report["command"] in TEXT
    assert report["split"] == "test"
    assert report["recommended"] == "one-step"
    section = TEXT.split(f"### Steps: {model}")[1].split("\n### ")[0]
    prior = report["arms"]["prior"]["mean"]
    scores = f"{prior['dice']:.4f} | {prior['hd95']:.2f} | {prior['nsd']:.4f}"
    assert f"| prior | | {scores} |" in section
    assert len(report["arms"]) == 12
    for name, arm in report["arms"].items():
        if name == "prior":
            continue
        mean = arm["mean"]
        scores = f"{mean['dice']:.4f} | {mean['hd95']:.2f} | {mean['nsd']:.4f}"
        more = "-" if name == "one-step" else interval(arm["minus_one_step"]["dice"])
        ahead = f"{interval(arm['minus_prior']['dice'])} | {more} | {arm['seconds']:.1f}"
        assert f"| `{name}` | {arm['passes']} | {scores} | {ahead} |" in section


@pytest.mark.parametrize("model", MODELS)
def test_the_differences_of_steps_follow_from_the_cases(model):
    report = read(f"{model}-steps")
    assert report["n"] == len(report["images"]) == {"hippocampus": 34, "chase-vessels": 8}[model]
    for name, arm in report["arms"].items():
        for figure in ("dice", "hd95", "nsd"):
            mine = np.array([image[name][figure] for image in report["images"]])
            assert arm["mean"][figure] == pytest.approx(mine.mean(), abs=2e-6)
            for key, other in (("minus_prior", "prior"), ("minus_one_step", "one-step")):
                if key in arm:
                    theirs = np.array([image[other][figure] for image in report["images"]])
                    again = paired_bootstrap(mine - theirs)
                    assert list(arm[key][figure].values()) == pytest.approx(again, abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_small_objects_are_quoted_and_follow_from_the_cases(model):
    report = read(f"{model}-small-objects")
    assert report["command"] in TEXT
    section = TEXT.split(f"### Small objects: {model}")[1].split("\n### ")[0]
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
    """One pass is ahead of every sampler in the mean; refinement shows no lead on small objects."""
    for model in MODELS:
        steps, small = read(f"{model}-steps"), read(f"{model}-small-objects")
        for name, arm in steps["arms"].items():
            if "minus_one_step" in arm:
                assert arm["minus_one_step"]["dice"]["mean"] < 0, f"{model} {name}"
        lowest = small["lowest"]["minus_prior"]["refined"]
        if model == "hippocampus":
            assert lowest["low"] < 0 < lowest["high"]


@pytest.mark.parametrize("name", [f"{m}-{e}" for m in MODELS for e in ("steps", "small-objects")])
def test_pictures_are_there_and_small(name):
    report = read(name)
    assert (RESULTS / f"{name}.json").stat().st_size < 300_000
    for picture in report["pictures"]:
        path = RESULTS / f"{name}-{picture}"
        assert path.stat().st_size < 300_000
        with Image.open(path) as drawn:
            assert drawn.width > 600
