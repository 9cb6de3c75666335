"""The table of docs/results.md says what ``benchmarks.scales`` measured."""

import json

import pytest
from paths import ROOT

FOUND = json.loads((ROOT / "results" / "scales.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "results.md").read_text("utf-8")
SECTION = PAGE.split("## Images of another scale")[1].split("\n## ")[0]


def test_an_enlarged_image_is_as_good_as_the_original():
    ways = {name: one["ways"] for name, one in FOUND["sizes"].items()}
    original = ways["original"]["as it is"]
    assert FOUND["n"] == original["n"] == ways["11 megapixels"]["resampled"]["n"] == 8
    for way in ("prior", "refined"):
        assert ways["11 megapixels"]["resampled"][way] > original[way] - 0.02
        for name in ("11 megapixels", "DRIVE"):
            assert ways[name]["resampled"][way] > ways[name]["as it is"][way]


@pytest.mark.parametrize("name", list(FOUND["sizes"]))
def test_the_page_quotes_the_means_of_the_images(name):
    one = FOUND["sizes"][name]
    for way, rows in one["images"].items():
        found = one["ways"][way]
        assert len(rows) == found["n"]
        for mask in ("prior", "refined"):
            mean = sum(row[mask] for row in rows) / len(rows)
            assert mean == pytest.approx(found[mask], abs=1e-4)
        height, width = one["size"]
        cells = f"{found['n']} | {found['prior']:.4f} | {found['refined']:.4f}"
        seconds = f"{found['fewest_seconds']:.1f}"
        assert f"| {height} x {width} | {way} | {cells} | {seconds} |" in SECTION
