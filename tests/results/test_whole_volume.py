"""The figures of ``benchmarks.whole_volume``: means of the cases, and what the page says."""

import json

import numpy as np
import pytest
from paths import ROOT

MODELS = ("universal", "hippocampus")
FOUND = {
    model: json.loads((ROOT / "results" / f"whole-volume-{model}.json").read_text("utf-8"))
    for model in MODELS
}
PAGE = (ROOT / "docs" / "volumes.md").read_text("utf-8")


@pytest.mark.parametrize("model", MODELS)
def test_the_page_has_the_means_of_the_cases(model):
    found = FOUND[model]
    assert found["model"] == model
    assert found["n"] == len(found["cases"])
    for arm, figures in found["arms"].items():
        curves = [case["arms"][arm]["dice"] for case in found["cases"]]
        for after, mean in figures["dice"].items():
            at = [curve[min(int(after), len(curve) - 1)] for curve in curves]
            assert mean == pytest.approx(np.mean(at), abs=1e-6)
        reached = sum(max(curve) >= 0.9 for curve in curves)
        assert figures["goals"]["0.90"]["reached"] == reached
        dice = " | ".join(f"{mean:.3f}" for mean in figures["dice"].values())
        assert f"| {arm} | {dice} | {reached} of {found['n']} |" in PAGE


@pytest.mark.parametrize("model", MODELS)
def test_volumes_start_and_end_as_the_annotator_works(model):
    """Every arm of a case begins alike, and ends at the goal or at the last stroke."""
    found = FOUND[model]
    for case in found["cases"]:
        curves = [arm["dice"] for arm in case["arms"].values()]
        assert len({curve[0] for curve in curves}) == 1
        for curve in curves:
            assert curve[-1] >= 0.9 or len(curve) == found["most"] + 1
            assert all(dice < 0.9 for dice in curve[:-1])
