"""The studies' tables against the Dice of every case that lies beside them, and what is quoted."""

import json
import re

import numpy as np
import pytest
from doc_pages import DOCS, ROOT

RESULTS = ROOT / "results"
FILES = sorted(
    path
    for study in ("refiner-control", "output", "ablation", "segmentors")
    for path in RESULTS.glob(f"*-{study}.json")
)
assert FILES


def bootstrap(values):
    """Mean and 95 % interval over resampled cases, written out."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(4000)]
    return values.mean(), *np.percentile(means, [2.5, 97.5])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_difference_follows_from_the_cases(path):
    content = json.loads(path.read_text())
    assert content["split"] == "test"
    for row in content["rows"]:
        for way, cell in row["cells"].items():
            cases = content["images"][row["name"]].values()
            dice = np.array([case[way] for case in cases]).mean(1)
            assert len(dice) == content["n"]
            assert cell["dice"] == pytest.approx(dice.mean(), abs=2e-6)
            if way == "prior":
                continue
            gain = dice - np.array([case["prior"] for case in cases]).mean(1)
            mean, low, high = bootstrap(gain)
            assert cell["to_prior"]["mean"] == pytest.approx(mean, abs=2e-6)
            spread = max(high - low, 1e-6)
            assert cell["to_prior"]["low"] == pytest.approx(low, abs=0.1 * spread)
            assert cell["to_prior"]["high"] == pytest.approx(high, abs=0.1 * spread)


INTERVAL = "{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def test_the_short_answers_quote_the_objects():
    """Those on top of docs/studies.md; docs/results.md repeats the first."""
    control, output, polyps, polyps_output = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in (
            "hippocampus-refiner-control",
            "hippocampus-output",
            "kvasir-refiner-control",
            "kvasir-output",
        )
    )

    def row(content, name):
        return next(row["cells"] for row in content["rows"] if row["name"] == name)

    page, results = (DOCS / "studies.md").read_text(), (DOCS / "results.md").read_text()
    short = page.split("## In short")[1].split("\n## ")[0]
    for content in (control, polyps):
        apart = INTERVAL.format(**row(content, "ours")["ddim-3x5"]["to_reference"])
        assert apart in short
        assert apart in results
    longer = row(output, "paper-longer")
    for cells in (row(output, "paper"), longer, row(polyps_output, "paper")):
        for way in ("ancestral-10x1", "ancestral-10x1-unlinked"):
            assert INTERVAL.format(**cells[way]["to_prior"]) in short
            assert longer[way]["to_prior"]["high"] < 0
    assert re.search(r"two training seeds", short)
    assert control["seeds"] == output["seeds"] == [0, 1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_command_names_no_folder_of_one_machine(path):
    assert " /" not in json.loads(path.read_text())["command"]


def test_what_the_page_says_of_the_ablation():
    rows = json.loads((RESULTS / "hippocampus-ablation.json").read_text())["rows"]
    named, page = {row["name"]: row for row in rows}, (DOCS / "studies.md").read_text()
    short = page.split("## In short")[1].split("\n## ")[0]
    assert all(row["cells"] for row in rows), "no row is left out"
    for name in ("v2", "v3"):
        lost = named[name]["cells"]["ancestral-10x1"]["to_prior"]
        assert INTERVAL.format(**lost) in short
    for name in ("alternate", "real", "berdiff"):
        apart = named[name]["cells"]["ddim-3x5"]["to_reference"]
        assert apart["low"] < 0 < apart["high"]
