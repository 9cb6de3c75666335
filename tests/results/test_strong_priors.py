"""What refinement adds to a strong first mask: the page against the result files."""

import json

import pytest
from paths import ROOT

from napari_hidiff.inference.catalog import entries
from napari_hidiff.training.evaluate.output import interval

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## What refinement adds to a strong first mask")[1].split("\n## ")[0]


def read(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_samplers_and_their_mean():
    found = read("polyps-steps")
    assert (found["model"], found["split"], found["n"]) == ("polyps", "test", 80)
    for arm in ("one-step", "ddim-3x5", "ensemble"):
        row = found["arms"][arm]
        assert f"{row['mean']['dice']:.4f}, {interval(row['minus_prior']['dice'])}" in SECTION
    assert found["arms"]["ddim-3x5"]["minus_prior"]["dice"]["high"] < 0
    assert found["command"] in SECTION


def test_the_mean_on_vessels():
    found = read("chase-vessels-ensemble-steps")
    dice = [
        f"{found['arms'][arm]['mean']['dice']:.4f}" for arm in ("one-step", "ddim-3x5", "ensemble")
    ]
    assert f"{dice[0]}, {dice[1]} and {dice[2]}" in SECTION
    assert interval(found["arms"]["ensemble"]["minus_one_step"]["dice"]) in SECTION
    assert found["command"] in SECTION


@pytest.mark.parametrize("model", ["polyps", "chase-vessels", "hippocampus"])
def test_changed_images(model):
    found = read(f"{model}-domain-shift")
    assert (found["model"], found["split"]) == (model, "test")
    for name, row in found["shifts"].items():
        [line] = [line for line in SECTION.splitlines() if line.startswith(f"| {name} |")]
        first, added = row["mean"]["prior"]["dice"], row["minus_prior"]["refined"]["dice"]
        assert f"| {first:.3f} | {interval(added)} |" in line
    assert found["command"] in SECTION


def test_masks_from_elsewhere():
    found = read("polyps-foreign-priors")
    assert "--control universal" in found["command"]
    for name in ("exact", "grown", "shrunk", "shifted", "scaled", "holes", "second model"):
        row = found["kinds"][name]
        apart = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**row["difference"])
        cells = [name, f"{row['before']:.3f}", f"{row['after']:.3f}", apart, f"{row['worse']:.0%}"]
        assert f"| {' | '.join(cells)} |" in SECTION
    assert found["command"] in SECTION


def test_every_bundled_model_recommends_one_pass():
    bundled = [one.card for one in entries() if one.kind == "bundled"]
    assert len(bundled) == 4
    assert {card.defaults["sampler"] for card in bundled} == {"one-step"}
