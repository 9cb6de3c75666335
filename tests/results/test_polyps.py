"""The bundled model of polyps: its card, its result file and what the pages say of it."""

import json

import pytest
from paths import ROOT

from napari_hidiff import load_model
from napari_hidiff.training.publish import LARGEST, interactive_scores_of, scores_of

REPORT = json.loads((ROOT / "results" / "polyps-test.json").read_text(encoding="utf-8"))
ROWS = {
    "first mask (segmentor alone)": "prior",
    "refined (the default)": "refined",
}


def test_the_pages_quote_the_result_file():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    results = page.split("### Polyps")[1].split("\n## ")[0]
    for row, arm in ROWS.items():
        scores = REPORT["mean"][arm]
        cells = [f"{scores[m]:.3f}" for m in ("dice", "iou", "recall", "nsd")]
        assert f"| {row} | {' | '.join(cells)} | {scores['hd95']:.1f} |" in results
    change = "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**REPORT["difference"]["dice"])
    assert f"by {change}" in results
    assert REPORT["command"] in results
    for name in ("README.md", "README.zh.md"):
        readme = (ROOT / name).read_text(encoding="utf-8")
        assert f"{REPORT['mean']['refined']['dice']:.3f}" in readme


def test_the_page_has_the_scores_at_full_size():
    found = json.loads((ROOT / "results" / "polyps-full-size.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert (found["split"], found["n"]) == ("test", 80)
    dice, nsd = ([found["mean"][arm][m] for arm in ("prior", "refined")] for m in ("dice", "nsd"))
    change = "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**found["difference"]["dice"])
    assert f"first mask {dice[0]:.3f}, refined {dice[1]:.3f}, a change of {change}" in page
    assert f"NSD {nsd[0]:.3f} and {nsd[1]:.3f}" in page
    assert found["command"] in page


def test_the_test_images_are_the_authors_list_and_were_not_trained_on():
    assert (REPORT["dataset"], REPORT["split"], REPORT["n"]) == ("kvasir", "test", 80)
    card = load_model("polyps", device="cpu").card
    cases = card.training["cases"]
    assert (len(cases["train"]), len(cases["val"])) == (792, 88)
    assert not set(cases["train"] + cases["val"]) & {image["id"] for image in REPORT["images"]}
    for arm, scores in REPORT["mean"].items():
        for metric, value in scores.items():
            values = [image[arm][metric] for image in REPORT["images"]]
            assert sum(values) / REPORT["n"] == pytest.approx(value, abs=2e-6)


def test_the_bundled_model_has_its_card_in_order():
    path = ROOT / "napari_hidiff" / "models" / "polyps.safetensors"
    assert path.stat().st_size <= LARGEST
    card = load_model("polyps", device="cpu").card
    assert card.segmentor["name"] == "lite-unet"
    assert card.longest_side == 256
    strokes = json.loads((ROOT / "results" / "polyps-interactive.json").read_text("utf-8"))
    assert card.scores == scores_of(REPORT) | {"interactive": interactive_scores_of(strokes)}
    assert "CC BY 4.0" in card.licence
    for source in ("Kvasir-SEG", "10.1038/s41597-020-00622-y", "Apache-2.0", "ImageNet"):
        assert source in card.attribution
    assert card.training["command"].startswith("napari-hidiff-train --dataset kvasir")
    assert "joint" in card.looks


def test_one_pass_is_the_default_as_the_validation_images_want_it():
    found = json.loads((ROOT / "results" / "polyps-val.json").read_text(encoding="utf-8"))
    assert (found["split"], found["n"]) == ("val", 88)
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    dice = {arm: f"{scores['dice']:.3f}" for arm, scores in found["mean"].items()}
    assert f"a Dice of {dice['prior']} for the first mask and {dice['refined']} refined" in page
    assert f"DDIM is lower there ({dice['ddim']};" in page
    assert found["mean"]["ddim"]["dice"] < found["mean"]["refined"]["dice"]
    strokes = load_model("polyps", device="cpu").card.training["validation"]
    painted, corrected = (f"{strokes[arm]:.3f}" for arm in ("painted", "corrected"))
    assert f"painting alone has {painted}, with updates {corrected} (on the card)" in page


def test_the_first_mask_is_as_good_as_we_aimed_for_and_refinement_adds_to_it():
    assert REPORT["mean"]["prior"]["dice"] >= 0.87
    assert REPORT["difference"]["dice"]["low"] > 0
