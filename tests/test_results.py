"""The numbers in the README and on the model's card are those of the result files."""

import json
from pathlib import Path

import pytest

from napari_hidiff import load_model
from napari_hidiff.training.publish import LARGEST, interactive_scores_of, scores_of

ROOT = Path(__file__).resolve().parent.parent
REPORT = json.loads((ROOT / "results" / "chase-vessels-test.json").read_text(encoding="utf-8"))
ROWS = {
    "prior (segmentor alone)": "prior",
    "refined (one step, the default)": "refined",
    "refined (DDIM, 3 steps, mean of 5 samples)": "ddim",
    "second human observer": "second_observer",
}


def test_the_readme_quotes_the_result_file():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = readme.split("<!-- results: begin")[1].split("<!-- results: end")[0]
    for row, arm in ROWS.items():
        scores = REPORT["mean"][arm]
        cells = [f"{scores[m]:.3f}" for m in ("dice", "iou", "recall", "accuracy")]
        assert f"| {row} | {' | '.join(cells)} | {scores['hd95']:.1f} |" in results
    for dice in (REPORT["difference"]["dice"], REPORT["difference_to"]["ddim"]["dice"]):
        assert f"{dice['mean']:+.4f} [{dice['low']:+.4f}, {dice['high']:+.4f}]" in results
    damage = REPORT["damage"]
    assert f"{damage['share']:.0%}" in results
    assert REPORT["command"] in results


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
