"""The figures of ``benchmarks.whole_volume``: means of the cases, and what the page says."""

import json

import numpy as np
import pytest
from paths import ROOT

FILES = {"universal": "universal", "hippocampus": "hippocampus", "brats": "universal"}
"""The model of every file."""
FOUND = {
    file: json.loads((ROOT / "results" / f"whole-volume-{file}.json").read_text("utf-8"))
    for file in FILES
}
PAGE = (ROOT / "docs" / "volumes.md").read_text("utf-8")


@pytest.mark.parametrize("file", FILES)
def test_the_page_has_the_means_of_the_cases(file):
    found = FOUND[file]
    assert found["model"] == FILES[file]
    assert found["n"] == len(found["cases"])
    for arm, figures in found["arms"].items():
        curves = [case["arms"][arm]["dice"] for case in found["cases"]]
        for after, mean in figures["dice"].items():
            at = [curve[min(int(after), len(curve) - 1)] for curve in curves]
            assert mean == pytest.approx(np.mean(at), abs=1e-6)
        reached = sum(max(curve) >= 0.9 for curve in curves)
        assert figures["goals"]["0.90"]["reached"] == reached
        dice = " | ".join(f"{mean:.3f}" for mean in figures["dice"].values())
        end = f"{reached} of {found['n']}"
        if found["n"] == 1:
            end = f"{len(curves[0]) - 1}" if reached else "not reached"
        assert f"| {arm} | {dice} | {end} |" in PAGE


def test_the_page_says_which_tumour_it_was():
    found = FOUND["brats"]
    (case,) = found["cases"]
    assert f"(1 volume, {case['id']}; FLAIR" in PAGE
    assert f"the tumour in {case['slices']} slices" in PAGE
    assert f"falls into the split *{found['split']}*" in PAGE
    assert all(ahead["low"] is ahead["high"] is None for ahead in found["difference"].values())


@pytest.mark.parametrize("file", FILES)
def test_volumes_start_and_end_as_the_annotator_works(file):
    """Every arm of a case begins alike, and ends at the goal or at the last stroke."""
    found = FOUND[file]
    for case in found["cases"]:
        curves = [arm["dice"] for arm in case["arms"].values()]
        assert len({curve[0] for curve in curves}) == 1
        for curve in curves:
            assert curve[-1] >= 0.9 or len(curve) == found["most"] + 1
            assert all(dice < 0.9 for dice in curve[:-1])
