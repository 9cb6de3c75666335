"""The figures of ``benchmarks.carry`` say what the rule in use is chosen by."""

import json

import numpy as np
import pytest
from paths import ROOT

from napari_hidiff.annotation.refinement import SETTLED

FOUND = json.loads((ROOT / "results" / "carry.json").read_text("utf-8"))


def test_the_rule_in_use_is_the_best_of_those_measured():
    rules = FOUND["rules"]
    assert FOUND["split"] == "val"
    assert FOUND["settled"] == SETTLED
    assert max(rules, key=lambda rule: rules[rule]["gain"]) == "correction"
    assert rules["correction"]["interval"][0] > 0 > rules["mask"]["interval"][1]


@pytest.mark.parametrize("rule", list(FOUND["rules"]))
def test_the_means_are_those_of_the_cases(rule):
    gains = np.array([case[rule] for case in FOUND["cases"]])
    assert FOUND["n"] == len(gains)
    assert FOUND["rules"][rule]["gain"] == pytest.approx(gains.mean())
    assert FOUND["rules"][rule]["better"] == pytest.approx((gains > 0).mean())
