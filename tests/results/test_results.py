"""The numbers of docs/results.md, the README and the model's card are those of the result files."""

import json

import pytest
from paths import ROOT

from napari_hidiff import load_model
from napari_hidiff.training.publish import LARGEST, interactive_scores_of, scores_of

REPORT = json.loads((ROOT / "results" / "chase-vessels-test.json").read_text(encoding="utf-8"))
ROWS = {
    "first mask (segmentor alone)": "prior",
    "refined (one pass, the default)": "refined",
    "refined (DDIM, 3 steps, mean of 5 samples)": "ddim",
    "second human observer": "second_observer",
}


def test_the_page_quotes_the_result_file():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    results = page.split("### Vessels")[1].split("\n### ")[0]
    for row, arm in ROWS.items():
        scores = REPORT["mean"][arm]
        cells = [f"{scores[m]:.3f}" for m in ("dice", "iou", "recall", "accuracy", "nsd")]
        assert f"| {row} | {' | '.join(cells)} | {scores['hd95']:.1f} |" in results
    changes = REPORT["difference"]
    for change in (changes["dice"], changes["nsd"], REPORT["difference_to"]["ddim"]["dice"]):
        assert "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**change) in results
    assert "{mean:+.1f} [{low:+.1f}, {high:+.1f}]".format(**changes["hd95"]) in results
    damage = REPORT["damage"]
    assert f"costs {damage['lost']['mean']:.3f} Dice, of which one pass regains" in results
    assert f"regains {damage['share']:.0%}" in results
    assert REPORT["command"] in results
    samples = json.loads((ROOT / "results" / "chase-alternatives.json").read_text(encoding="utf-8"))
    first, refined = (samples["mean"]["cldice"][arm] for arm in ("prior", "one-step"))
    assert f"first mask is {first:.3f}, of the refined one {refined:.3f}" in results


def test_the_readme_quotes_the_same_scores():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    change, dice = REPORT["difference"]["dice"], REPORT["mean"]["refined"]["dice"]
    assert "{mean:+.4f} [{low:+.4f}, {high:+.4f}] on vessels".format(**change) in readme
    split = f"16 images for training, {REPORT['n']} for testing"
    assert f"vessels {dice:.3f} ({split})" in readme
    assert f"regains {REPORT['damage']['share']:.0%} of the lost Dice on vessels" in readme


def test_the_public_split_is_quoted_and_is_that_of_the_published_values():
    """Its second observer has the published Dice, .768: the same images and the same truth."""
    found, split = (
        json.loads((ROOT / "results" / f"chase-8-20-{part}.json").read_text(encoding="utf-8"))
        for part in ("test", "split")
    )
    assert [image["id"] for image in found["images"]] == split["test"]
    assert (len(split["train"]), len(split["val"]), found["n"]) == (8, 0, 20)
    assert not set(split["train"]) & set(split["test"])
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    dice = {arm: f"{scores['dice']:.3f}" for arm, scores in found["mean"].items()}
    assert f"longer on the same 8 images ²: first mask | 8 / 20 | {dice['prior']} |" in page
    assert f"| the same, refined (one pass) | 8 / 20 | {dice['refined']} |" in page
    assert f"| second observer, scored by us | - / 20 | {dice['second_observer']} |" in page
    assert dice["second_observer"] == "0.768"
    assert "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**found["difference"]["dice"]) in page
    assert found["command"] in page
    for name in ("README.md", "README.zh.md"):
        assert dice["refined"] in (ROOT / name).read_text(encoding="utf-8")


def test_the_means_are_those_of_the_images():
    for arm, scores in REPORT["mean"].items():
        for metric, value in scores.items():
            values = [image[arm][metric] for image in REPORT["images"]]
            assert sum(values) / REPORT["n"] == pytest.approx(value, abs=2e-6)
    assert [image["id"] for image in REPORT["images"]] == [
        f"Image_{child}{eye}" for child in (11, 12, 13, 14) for eye in "LR"
    ]


def test_the_bundled_model_has_its_card_in_order():
    path = ROOT / "napari_hidiff" / "models" / "chase-vessels.safetensors"
    assert path.stat().st_size <= LARGEST
    card = load_model("chase-vessels", device="cpu").card
    strokes = json.loads((ROOT / "results" / "chase-vessels-interactive.json").read_text())
    assert card.scores == scores_of(REPORT) | {"interactive": interactive_scores_of(strokes)}
    assert "CC BY 4.0" in card.licence
    assert "CHASE_DB1" in card.attribution
    assert card.training["command"].startswith("napari-hidiff-train --dataset chase")
    assert not set(card.training["cases"]["train"] + card.training["cases"]["val"]) & {
        image["id"] for image in REPORT["images"]
    }
    assert card.training["recipe"]["seed"] == 0


def test_the_targets_are_met():
    """Refined Dice of .79 or more, not below the prior's, and a third of the damage repaired."""
    mean = REPORT["mean"]
    assert mean["refined"]["dice"] >= 0.79
    assert mean["refined"]["dice"] >= mean["prior"]["dice"]
    assert REPORT["damage"]["share"] >= 1 / 3
