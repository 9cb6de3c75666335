"""What docs/engine.md and docs/training.md say of a GPU is what results/gpu.json holds."""

import json

from paths import ROOT

ENGINE = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
TRAINING = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
RUNS = json.loads((ROOT / "results" / "gpu.json").read_text(encoding="utf-8"))["runs"]
FOUND = {name: value for run in RUNS for name, value in run.items()}


def of_three(value):
    """Three digits, as the page has them."""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def test_steps_as_on_the_page():
    rows = {(r["width"], r["side"], r["samples"], r["way"]): r["median_ms"] for r in FOUND["step"]}
    for width in (32, 128):
        for side in (256, 960):
            line = next(
                line
                for line in ENGINE.splitlines()
                if line.startswith(f"| a step, width {width}, {side} x {side}")
            )
            for way in ("plain", "graph"):
                pair = " / ".join(of_three(rows[width, side, n, way]) for n in (1, 5))
                assert pair in line
    assert rows[128, 256, 1, "graph"] <= 4


def test_refinements_and_masks_as_on_the_page():
    refine, masks = FOUND["refine"], FOUND["masks"]
    for way, title in (("one-step", "one step"), ("ddim 3 x 5", "DDIM, 3 steps, 5 samples")):
        fresh, again = (
            of_three(refine[f"{way}, {what}"]["median_ms"]) for what in ("fresh", "again")
        )
        assert f"| {title} | {fresh} ms | {again} ms |" in ENGINE
    assert refine["one-step, again"]["median_ms"] <= 15
    assert refine["ddim 3 x 5, again"]["median_ms"] <= 120
    assert masks["one-step"]["pixels"] == 0
    for way in ("one-step, tf32", "ddim 3 x 5", "ddim 3 x 5, tf32"):
        assert f"{masks[way]['pixels']:,}" in ENGINE
    assert all(row["deviation"] == 0 for row in masks["exact"])


def test_training_as_on_the_page():
    ours = {r["rounds"]: r["images_per_second"] for r in FOUND["training"] if r["way"] == "ours"}
    assert f"{ours[0]:.0f} images a second, {ours[4]:.0f} with up to four rounds" in TRAINING
