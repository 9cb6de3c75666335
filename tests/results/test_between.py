"""The figures of ``benchmarks.between``: means of the cases, and what the page says of them."""

import json

import numpy as np
import pytest
from paths import ROOT

FOUND = json.loads((ROOT / "results" / "between.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "volumes.md").read_text("utf-8")


@pytest.mark.parametrize("every", list(FOUND["every"]))
def test_the_page_has_the_means_of_the_cases(every):
    part = FOUND["every"][every]
    means = {arm: np.mean([case[arm] for case in part["cases"]]) for arm in part["mean"]}
    assert part["mean"] == pytest.approx(means, abs=1e-6)
    figures = " | ".join(f"{means[arm]:.3f}" for arm in means)
    ahead = part["difference"]["refined - interpolated"]
    gain = f"{ahead['mean']:+.3f} [{ahead['low']:+.3f}, {ahead['high']:+.3f}]"
    assert f"| {every} | {figures} | {gain} |" in PAGE


def test_the_page_says_where_it_pays():
    ahead = {every: part["difference"] for every, part in FOUND["every"].items()}
    assert all(ahead[every]["refined - interpolated"]["low"] > 0 for every in ("3", "4", "6"))
    assert ahead["2"]["refined - interpolated"]["low"] < 0 < ahead["2"]["refined - model"]["low"]
    assert ahead["6"]["refined - model"]["high"] < 0
    assert all(ahead[every]["universal - interpolated"]["high"] < 0 for every in ("2", "3"))
