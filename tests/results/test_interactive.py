"""What the documents say about strokes that carry, against the results files and their runs."""

import json

import numpy as np
import pytest
from paths import ROOT

TEXT = (ROOT / "docs" / "interactive.md").read_text(encoding="utf-8")


def read(name: str) -> dict:
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


TEST, VAL = read("kvasir-interactive"), read("kvasir-interactive-val")
SECTIONS = {
    "## Kvasir-SEG, 80 test images": "kvasir-interactive",
    "## Kvasir-SEG at 256 px": "polyps-interactive",
    "## Hippocampus, 34 test volumes": "hippocampus-interactive",
    "## CHASE_DB1, 8 test images": "chase-vessels-interactive",
}
ROWS = {
    "paint only": "paint",
    "re-refine, changes anywhere": "refine",
    "re-refine, toss-ups stay (the plugin's default)": "refine-firm",
    "one-step control": "control",
    "re-refine, near the strokes only": "refine-near",
    "near, prior: mean with the current mask": "near-both",
    "near, toss-ups stay": "near-firm",
    "toss-ups stay, prior: mean with the current mask": "both-firm",
    "refine once, then paint": "once",
    "random walker": "walker",
    "re-refine without clamp": "no-clamp",
    "paint, 5 % wrong strokes": "paint-wrong",
    "re-refine, 5 % wrong strokes": "refine-wrong",
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_table_quotes_its_result_file(heading):
    report = read(SECTIONS[heading])
    section = TEXT.split(heading)[1].split("\n## ")[0]
    lines = section.splitlines()
    assert report["command"] in section
    assert set(report["arms"]) <= set(ROWS.values())
    for title, arm in ROWS.items():
        if arm not in report["arms"]:
            assert f"| {title} |" not in section
            continue
        figures = report["arms"][arm]
        after = [figures["after"][n] for n in ("0", "1", "3", "10", "20")]
        cells = " | ".join(f"{cell:.3f}" for cell in (*after, figures["nauc"]["20"]))
        [line] = [line for line in lines if line.startswith(f"| {title} |")]
        assert line.startswith(f"| {title} | {cells} |")
        assert f"| {figures['fixed_changed']} |" in line
        if arm != "refine":
            gain = report["differences"]["refine_minus"][arm]["nauc_20"]
            assert f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" in line
        if figures.get("lowered") is not None:
            assert f"| {figures['lowered']:.0%} | {figures['changed_off_stroke']:.0%} |" in line


@pytest.mark.parametrize("arm", ["refine", "paint", "control"])
def test_the_areas_follow_from_the_curves_of_the_runs(arm):
    curves = np.array([run["dice"] for run in TEST["runs"] if run["arm"] == arm])
    assert len(curves) == TEST["n"] == 80
    assert TEST["arms"][arm]["dice"] == pytest.approx(curves.mean(0), abs=1e-4)
    area = (curves[:, :-1] + curves[:, 1:]).mean() / 2
    assert TEST["arms"][arm]["nauc"]["20"] == pytest.approx(area, abs=1e-4)


@pytest.mark.parametrize("name", SECTIONS.values())
def test_what_is_claimed_holds(name):
    report = read(name)
    assert report["split"] == "test"
    assert report["strokes"] == 20
    ahead = report["differences"]["refine_minus"]
    assert ahead["walker"]["nauc_20"]["low"] > 0
    carried = name != "chase-vessels-interactive"  # there it cannot be told from chance
    for arm in ("paint", "once"):
        assert (ahead[arm]["nauc_20"]["low"] > 0) == carried
    clamped = [figures for arm, figures in report["arms"].items() if arm != "no-clamp"]
    assert all(figures["fixed_changed"] == 0 for figures in clamped)
    assert report["arms"]["no-clamp"]["fixed_changed"] > 0
    firm, free = report["arms"]["refine-firm"], report["arms"]["refine"]
    assert firm["lowered"] < 0.6 * free["lowered"]


@pytest.mark.parametrize(
    ("title", "arm"),
    {
        "nothing (paint only)": "paint",
        "segmentor's prior, changes anywhere": "refine",
        "the same, toss-ups stay (chosen)": "refine-firm",
        "mean of it and the current mask": "refine-both",
        "mean, toss-ups stay": "both-firm",
        "the current mask, softened": "refine-current",
        "segmentor's prior, near the strokes": "refine-near",
        "near the strokes, toss-ups stay": "near-firm",
        "mean, near the strokes": "near-both",
        "current mask, near the strokes": "near-current",
        "segmentor's prior, only where surer": "refine-certain",
        "near and only where surer": "refine-near-certain",
        "refined once, then paint": "once",
        "no clamp": "no-clamp",
    }.items(),
)
def test_the_study_of_the_defaults_is_quoted(title, arm):
    figures = VAL["arms"][arm]
    harm = "- | -"
    if figures.get("lowered") is not None:
        harm = f"{figures['lowered']:.0%} | {figures['changed_off_stroke']:.0%}"
    assert f"| {title} | {figures['nauc']['10']:.3f} | {harm} |" in TEXT


def test_the_claims_about_kvasir_hold():
    tie = TEST["differences"]["refine_minus"]["control"]["nauc_20"]
    assert tie["low"] < 0 < tie["high"]
    assert TEST["arms"]["refine"]["as_painting"]["share"] <= 0.2
    assert VAL["split"] == "val"


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


def test_the_figures_of_observers_samplers_and_variants_are_quoted_too():
    text = (ROOT / "docs" / "generative.md").read_text(encoding="utf-8")
    chase, samplers, variants = (
        json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("chase-alternatives", "kvasir-samplers", "kvasir-variants-val")
    )
    assert (chase["split"], chase["n"], len(chase["seeds"])) == ("test", 8, 3)
    differences = chase["differences"]
    gains = [
        differences["dice"]["ancestral best of 3 - levels best of 3"],
        *(differences["ged"][f"{one} - random levels"] for one in ("ddim", "ancestral")),
        *(
            samplers["differences"]["minus_paint"][arm]["nauc_20"]
            for arm in samplers["arms"]
            if arm != "paint"
        ),
    ]
    for gain in gains:
        assert f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" in text
    for name, variant in variants["variants"].items():
        last = variant["validation"][-1]
        cells = [f"{last[key]:.3f}" for key in ("one-step", "refined", "corrected")]
        assert f"| {name} | {' | '.join(cells)} |" in text
    for report in (chase, samplers):
        assert report["command"] in text


NAMES = {
    "kvasir-interactive": ("Kvasir-SEG, 80 images at 128 px", None),
    "polyps-interactive": ("`polyps`, 80 images at 256 px", "polyps (Kvasir-SEG), 80 images"),
    "hippocampus-interactive": (
        "hippocampus, 34 volumes, 3 slices each",
        "hippocampus, 34 volumes",
    ),
    "chase-vessels-interactive": ("CHASE_DB1, 8 images", "vessels (CHASE_DB1), 8 images"),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_short_tables_quote_the_same_files(name):
    """That of docs/results.md and the smaller one of the README."""
    page, readme = (
        (ROOT / file).read_text(encoding="utf-8") for file in ("docs/results.md", "README.md")
    )
    report = read(name)
    ahead = report["differences"]["refine_minus"]

    def area(arm: str) -> str:
        found = report["arms"].get(arm)
        return f"{found['nauc']['20']:.3f}" if found else "-"

    def gain(arm: str) -> str:
        return "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**ahead[arm]["nauc_20"])

    first = f"{report['arms']['paint']['after']['0']:.3f}"
    row, short = NAMES[name]
    areas = {arm: area(arm) for arm in ("paint", "refine", "once", "control", "walker")}
    if name == "polyps-interactive":  # whose control is no one-pass twin, but another model
        assert f"from the same first masks, nAUC is {areas['control']}." in page
        areas["control"] = "-"
    cells = [row, first, *areas.values(), gain("paint"), gain("once")]
    assert f"| {' | '.join(cells)} |" in page
    if short is not None:
        cells = [short, first, areas["paint"], areas["refine"], areas["walker"], gain("paint")]
        assert f"| {' | '.join(cells)} |" in readme


def test_the_sentences_below_them_quote_the_same_files():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reports = [read(name) for name in SECTIONS.values() if name != "polyps-interactive"]
    for arm in ("refine", "refine-firm"):
        shares = [f"{report['arms'][arm]['lowered']:.0%}" for report in reports]
        assert f"{shares[0]}, {shares[1]} and {shares[2]}" in page
    strokes = [report["arms"]["refine"]["as_painting"]["strokes"] for report in reports]
    assert f"{strokes[0]} strokes with re-refinement reach the Dice that 20 painted" in page
    assert f"hippocampus it takes {strokes[1]}, on CHASE_DB1 {strokes[2]}" in page
    arms = read("polyps-interactive")["arms"]
    own, other = (arms[arm]["as_painting"]["strokes"] for arm in ("refine", "control"))
    assert f"{own} strokes with Update reach the Dice of 20 strokes without" in readme
    assert f"with *universal* answering, {other}." in readme


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_training_seeds_say_the_same(seed):
    report = TEST if seed == 0 else read(f"kvasir-interactive-seed{seed}")
    arms, ahead = report["arms"], report["differences"]["refine_minus"]
    cells = [str(seed), *(f"{arms[arm]['nauc']['20']:.3f}" for arm in ("paint", "refine"))]
    for arm in ("paint", "once", "control"):
        gain = ahead[arm]["nauc_20"]
        assert (gain["low"] > 0) == (arm != "control")
        assert gain["high"] > 0
        cells.append(f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]")
    cells.append(str(arms["refine"]["as_painting"]["strokes"]))
    cells += [f"{arms[arm]['lowered']:.0%}" for arm in ("refine", "refine-firm")]
    cells.append(f"{arms['refine-firm']['changed_off_stroke']:.0%}")
    assert f"| {' | '.join(cells)} |" in TEXT
