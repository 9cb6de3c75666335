"""docs/fine-tune.md quotes what the experiments wrote."""

import json

import pytest
from paths import ROOT

TEXT = (ROOT / "docs" / "fine-tune.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["fine-tune", "fine-tune-converged"])
def test_the_page_quotes_the_experiment(name):
    found = json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))
    refined = found["dice"]["refined"]
    for arm in ("start", "tuned on 8 corrected", "as long on the 4 old"):
        assert f"{refined[arm]:.3f}" in TEXT
    for pair in ("tuned minus start", "old minus start", "tuned minus old"):
        gain = refined[pair]
        assert f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]" in TEXT
    assert found["command"] in TEXT
