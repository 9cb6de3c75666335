"""docs/other-priors.md quotes what ``benchmarks.lite_medsam`` wrote."""

import json

import pytest
from paths import ROOT

from napari_hidiff.inference.lite_medsam import SHA256

FOUND = json.loads((ROOT / "results" / "lite-medsam.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "other-priors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FOUND["sets"])
def test_the_page_quotes_a_set(name):
    found = FOUND["sets"][name]
    [line] = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    count, *cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
    assert int(count) == found["n"] == len(found["objects"])
    for cell, way in zip(cells, ("box", "box, refined"), strict=True):
        assert cell == f"{found['mean'][way]:.3f} ({found['lowest'][way]:.3f})"
        dices = [row["dice"][way] for row in found["objects"]]
        assert found["mean"][way] == pytest.approx(sum(dices) / len(dices))


def test_the_page_says_how_it_was_measured():
    seconds = [one["seconds"] for one in FOUND["sets"].values()]
    assert f"{min(seconds):.1f} to {max(seconds):.1f} s of processor time" in PAGE
    assert FOUND["command"] in PAGE
    assert FOUND["weights_sha256"] == SHA256
    assert "training sets of its weights are not listed" in PAGE
