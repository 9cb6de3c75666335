"""The second bundled model: its card, its result file and what the pages say of it."""

import json

import pytest
from paths import ROOT

from napari_hidiff import load_model
from napari_hidiff.training.cli import resolved
from napari_hidiff.training.publish import LARGEST, interactive_scores_of, scores_of

REPORT = json.loads((ROOT / "results" / "hippocampus-test.json").read_text(encoding="utf-8"))
ROWS = {
    "first mask (segmentor alone)": "prior",
    "refined (one pass, the default)": "refined",
    "refined (DDIM, 3 steps, mean of 5 samples)": "ddim",
}


def test_the_page_quotes_the_result_file():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    results = page.split("### Hippocampus")[1].split("\n## ")[0]
    for row, arm in ROWS.items():
        scores = REPORT["mean"][arm]
        cells = [f"{scores[m]:.3f}" for m in ("dice", "iou", "recall", "nsd")]
        assert f"| {row} | {' | '.join(cells)} | {scores['hd95']:.2f} |" in results
    for dice in (REPORT["difference"]["dice"], REPORT["difference_to"]["ddim"]["dice"]):
        assert f"{dice['mean']:+.4f} [{dice['low']:+.4f}, {dice['high']:+.4f}]" in results
    damage = REPORT["damage"]
    assert f"lose {damage['lost']['mean']:.3f} Dice" in results
    assert f"regains {damage['share']:.0%}" in results
    assert REPORT["command"] in results
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    change = "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**REPORT["difference"]["dice"])
    assert f"{change} on the hippocampus" in readme
    assert f"hippocampus {REPORT['mean']['refined']['dice']:.3f}, where" in readme


def test_volumes_of_held_out_cases_were_scored_in_mm():
    assert REPORT["dataset"] == "msd"
    assert REPORT["split"] == "test"
    assert REPORT["surface"] == {"unit": "mm", "tolerance": 1.0}
    assert REPORT["n"] == len(REPORT["images"]) == 34
    for arm, scores in REPORT["mean"].items():
        for metric, value in scores.items():
            values = [image[arm][metric] for image in REPORT["images"]]
            assert sum(values) / REPORT["n"] == pytest.approx(value, abs=2e-6)
    assert set(REPORT["per_class"]) == {"anterior", "posterior"}


def test_the_bundled_model_has_its_card_in_order():
    path = ROOT / "napari_hidiff" / "models" / "hippocampus.safetensors"
    assert path.stat().st_size <= LARGEST
    model = load_model("hippocampus", device="cpu")
    card = model.card
    assert model.classes == 3
    assert [label.name for label in card.classes] == ["background", "anterior", "posterior"]
    assert card.intensity["rule"] == "zscore"
    assert card.spacing == [1.0, 1.0]  # volumes of another spacing are resampled
    strokes = json.loads((ROOT / "results" / "hippocampus-interactive.json").read_text())
    assert card.scores == scores_of(REPORT) | {"interactive": interactive_scores_of(strokes)}
    assert "CC" in card.licence
    assert "BY-SA" in card.licence
    assert "Medical Segmentation Decathlon" in card.attribution
    seen = set(card.training["cases"]["train"] + card.training["cases"]["val"])
    assert len(seen) == 196
    assert not seen & {image["id"] for image in REPORT["images"]}


def test_the_recipes_give_what_the_cards_say():
    """Each command of docs/results.md, as the recipe that its model was trained with."""
    folds = {"pretrain_iterations": 2500, "fold_iterations": 2500}
    for name, dataset, changes in (
        ("chase-vessels", "chase", {}),
        ("hippocampus", "msd", {"batch": 16, "iterations": 3000} | folds),
    ):
        recipe = resolved(dataset, "quick", False, changes)
        card = load_model(name, device="cpu").card
        for field, value in card.training["recipe"].items():
            if field == "crop" and value < recipe.crop:
                continue  # no larger than the images
            assert getattr(recipe, field) == value, field


def test_a_model_of_three_slices_is_said_to_find_better_and_to_refine_worse():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    said = page.split("**Three slices at a time**")[1].split("### Polyps")[0]
    found, strokes, bundled, validated = (
        json.loads((ROOT / "results" / f"hippocampus-{name}.json").read_text(encoding="utf-8"))
        for name in (
            "three-slices-test",
            "three-slices-strokes",
            "interactive",
            "three-slices-val",
        )
    )
    first, change = found["mean"]["prior"], found["difference"]["dice"]
    assert f"better first masks, {first['dice']:.3f} (NSD {first['nsd']:.3f})" in said
    assert "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**change) in said
    assert first["dice"] > REPORT["mean"]["prior"]["dice"]
    areas = [
        report["arms"][arm]["nauc"]["20"]
        for report in (strokes, bundled)
        for arm in ("refine", "paint")
    ]
    assert areas[2] > areas[0]
    texts = [f"{area:.3f}" for area in areas]
    assert f"nAUC {texts[0]}, painting alone {texts[1]}" in said
    assert f"the bundled model has {texts[2]} and {texts[3]}" in said
    ahead = "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(
        **validated["difference_to"]["ddim"]["dice"]
    )
    assert f"one pass is ahead, by {ahead}" in said
    for report in (found, strokes, validated):
        assert report["command"] in said
