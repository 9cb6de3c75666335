"""docs/measured.md says what the experiments wrote, and that follows from their own rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

RESULTS = ROOT / "results"
TEXT = (ROOT / "docs" / "measured.md").read_text(encoding="utf-8")
STEPS = sorted(RESULTS.glob("*-steps.json"))
SMALL = sorted(RESULTS.glob("*-small-objects.json"))
ALL = STEPS + SMALL
CASES = {"hippocampus": 34, "chase-vessels": 8, "kvasir": 80, "polyps": 80}
"""Test cases of each model's data set."""
ENSEMBLES = {"polyps-steps", "chase-vessels-ensemble-steps"}
"""Objects of one pass, DDIM and the mean of both with the prior, in place of every setting."""


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def section(path: Path) -> str:
    """What the page says of a file."""
    experiment = read(path)["experiment"]
    model = path.stem.removesuffix(f"-{experiment}")
    return TEXT.split(f"## {experiment}, {model}\n")[1].split("\n## ")[0]


def interval(found: dict[str, float]) -> str:
    return "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**found)


def bootstrap(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval over resampled cases, written out."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(4000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def check(found: dict[str, float], each: np.ndarray) -> None:
    """A difference against those of the cases."""
    mean, low, high = bootstrap(each)
    assert found["mean"] == pytest.approx(mean, abs=4e-6)
    spread = 0.1 * max(high - low, 1e-5)
    assert found["low"] == pytest.approx(low, abs=spread)
    assert found["high"] == pytest.approx(high, abs=spread)


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_steps_follow_from_the_cases(path):
    report, said = read(path), section(path)
    for name, arm in report["arms"].items():
        mine = np.array([image[name]["dice"] for image in report["images"]])
        assert arm["mean"]["dice"] == pytest.approx(mine.mean(), abs=2e-6)
        for key, other in (("minus_prior", "prior"), ("minus_one_step", "one-step")):
            if key in arm:
                theirs = np.array([image[other]["dice"] for image in report["images"]])
                check(arm[key]["dice"], mine - theirs)
                assert interval(arm[key]["dice"]) in said
    assert len(report["arms"]) == (4 if path.stem in ENSEMBLES else 12)


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_small_objects_follow_from_the_cases(path):
    report, said = read(path), section(path)
    for name, part in report["classes"].items():
        sized = [(image["id"], image["classes"][name]) for image in report["images"]]
        rows = sorted((row["size"], id_, row) for id_, row in sized if row["size"])
        start = 0
        for quarter in part["quarters"].values():
            mine = [row for _, _, row in rows[start : start + quarter["n"]]]
            start += quarter["n"]
            assert quarter["from"] == pytest.approx(mine[0]["size"])
            assert quarter["to"] == pytest.approx(mine[-1]["size"])
            gain = np.array([row["refined"] - row["prior"] for row in mine])
            check(quarter["minus_prior"]["refined"], gain)
            assert interval(quarter["minus_prior"]["refined"]) in said
        assert start == len(rows) == part["n"]
    assert interval(report["lowest"]["minus_prior"]["refined"]) in said


def test_what_the_results_page_claims_holds():
    """No sampler of several steps is ahead of one pass; nowhere can a gain on the smallest objects
    be told from chance where there are enough."""
    assert len(STEPS) == 3 + len(ENSEMBLES)
    for path in STEPS:
        arms = read(path)["arms"]
        several = [
            arm for name, arm in arms.items() if name not in ("prior", "one-step", "ensemble")
        ]
        assert max(arm["minus_one_step"]["dice"]["mean"] for arm in several) < 0
    told = [read(path)["lowest"] for path in SMALL]
    enough = [lowest for lowest in told if lowest["n"] >= 5]
    assert len(enough) >= 2
    for lowest in enough:
        assert (
            lowest["minus_prior"]["refined"]["low"] < 0 < lowest["minus_prior"]["refined"]["high"]
        )


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_files_are_whole_and_small(path):
    """Pictures lie beside their object, but for those of Kvasir-SEG."""
    report = read(path)
    model = (
        report["model"]
        if path.stem in ENSEMBLES
        else path.stem.split("-" + report["experiment"])[0]
    )
    assert report["split"] == "test"
    assert report["n"] == len(report["images"]) == CASES[model]
    assert " /" not in report["command"]
    assert path.stat().st_size < 300_000
    for name in report["pictures"]:
        picture = path.with_name(f"{path.stem}-{name}")
        if report["dataset"] == "kvasir" and name == "cases.png":
            assert not picture.exists()
            continue
        assert picture.stat().st_size < 300_000
        with Image.open(picture) as drawn:
            assert drawn.width > 600
