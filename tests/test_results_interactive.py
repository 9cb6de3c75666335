"""What the documents say about strokes that carry, against the results files and their runs."""

import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "interactive.md").read_text(encoding="utf-8")
TEST, VAL = (
    json.loads((ROOT / "results" / f"kvasir-interactive{part}.json").read_text(encoding="utf-8"))
    for part in ("", "-val")
)
ROWS = {
    "paint only": "paint",
    "re-refine, one pass (default)": "refine",
    "one-step control": "control",
    "re-refine, near the strokes only": "refine-near",
    "near, prior: mean with the current mask": "near-both",
    "refine once, then paint": "once",
    "random walker": "walker",
    "re-refine without clamp": "no-clamp",
    "paint, 5 % wrong strokes": "paint-wrong",
    "re-refine, 5 % wrong strokes": "refine-wrong",
}


@pytest.mark.parametrize("title", ROWS)
def test_the_table_quotes_the_result_file(title):
    figures = TEST["arms"][ROWS[title]]
    cells = [figures["after"][n] for n in ("0", "1", "3", "10", "20")] + [figures["nauc"]["20"]]
    assert f"| {title} | {' | '.join(f'{cell:.3f}' for cell in cells)} |" in TEXT
    line = next(line for line in TEXT.splitlines() if line.startswith(f"| {title} |"))
    assert f"| {figures['fixed_changed']} |" in line
    if title != "re-refine, one pass (default)":
        gain = TEST["differences"]["refine_minus"][ROWS[title]]["nauc_20"]
        assert f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" in line
    if "lowered" in figures:
        assert f"| {figures['lowered']:.0%} | {figures['changed_off_stroke']:.0%} |" in line


@pytest.mark.parametrize("arm", ["refine", "paint", "control"])
def test_the_areas_follow_from_the_curves_of_the_runs(arm):
    curves = np.array([run["dice"] for run in TEST["runs"] if run["arm"] == arm])
    assert len(curves) == TEST["n"] == 80
    assert TEST["arms"][arm]["dice"] == pytest.approx(curves.mean(0), abs=1e-4)
    area = (curves[:, :-1] + curves[:, 1:]).mean() / 2
    assert TEST["arms"][arm]["nauc"]["20"] == pytest.approx(area, abs=1e-4)


def test_what_is_claimed_holds():
    assert TEST["split"] == "test"
    assert VAL["split"] == "val"
    assert TEST["command"] in TEXT
    for name in ("paint", "once", "walker"):
        assert TEST["differences"]["refine_minus"][name]["nauc_20"]["low"] > 0
    tie = TEST["differences"]["refine_minus"]["control"]["nauc_20"]
    assert tie["low"] < 0 < tie["high"]
    clamped = [figures for name, figures in TEST["arms"].items() if name != "no-clamp"]
    assert all(figures["fixed_changed"] == 0 for figures in clamped)
    assert TEST["arms"]["refine"]["as_painting"]["share"] <= 0.2
    best = max(VAL["arms"], key=lambda name: VAL["arms"][name]["nauc"]["10"])
    assert best == "refine"


def test_the_figures_of_samples_are_quoted_too():
    text = (ROOT / "docs" / "generative.md").read_text(encoding="utf-8")
    alternatives, uncertainty = (
        json.loads((ROOT / "results" / f"kvasir-{name}-val.json").read_text(encoding="utf-8"))
        for name in ("alternatives", "uncertainty")
    )
    assert alternatives["split"] == uncertainty["split"] == "val"
    for kind, name in (
        ("dice", "ancestral best of 3 - one-step"),
        ("dice", "ancestral best of 3 - levels best of 3"),
        ("cldice", "ancestral mean - one-step"),
    ):
        gain = alternatives["differences"][kind][name]
        assert f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" in text
    means = uncertainty["mean"]
    for name in ("segmentor", "samples", "mean of segmentor and one-step"):
        cells = [
            means[kind][mask][name] for kind in ("auroc", "area") for mask in ("prior", "one-step")
        ]
        assert f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |" in text
    for report in (alternatives, uncertainty):
        assert report["command"] in text


def test_the_readme_quotes_the_same_file():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    refine, near = TEST["arms"]["refine"], TEST["arms"]["refine-near"]
    strokes = refine["as_painting"]["strokes"]
    assert f"{strokes} strokes with re-refinement reach the Dice that 20 painted" in text
    assert f"{refine['lowered']:.0%} of the re-refinements" in text
    assert f"brings that to {near['lowered']:.0%}" in text
