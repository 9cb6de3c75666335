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


def test_the_readme_quotes_the_page():
    """Its three numbers, from the objects; results.md repeats them with their intervals."""
    control = json.loads((RESULTS / "hippocampus-refiner-control.json").read_text())
    output = json.loads((RESULTS / "hippocampus-output.json").read_text())
    (ours,) = (row for row in control["rows"] if row["name"] == "ours")
    (paper,) = (row for row in output["rows"] if row["name"] == "paper")
    (longer,) = (row for row in output["rows"] if row["name"] == "paper-longer")
    found = (
        ours["cells"]["ddim-3x5"]["to_reference"],
        paper["cells"]["ancestral-10x1"]["to_prior"],
        paper["cells"]["ancestral-10x1-unlinked"]["to_prior"],
    )
    polyps = json.loads((RESULTS / "kvasir-refiner-control.json").read_text())
    (theirs,) = (row for row in polyps["rows"] if row["name"] == "ours")
    readme, results = (ROOT / "README.md").read_text(), (DOCS / "results.md").read_text()
    for difference in found:
        assert f"{difference['mean']:+.4f}" in readme
        whole = "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**difference)
        assert whole in results
    apart = theirs["cells"]["ddim-3x5"]["to_reference"]
    assert "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**apart) in results
    rows = json.loads((RESULTS / "kvasir-output.json").read_text())["rows"]
    (there,) = (row for row in rows if row["name"] == "paper")
    for way in ("ancestral-10x1", "ancestral-10x1-unlinked"):
        lost = there["cells"][way]["to_prior"]
        assert "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**lost) in results
        cell = longer["cells"][way]["to_prior"]
        assert "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**cell) in results
        assert cell["high"] < 0, "more training does not mend it"
    assert re.search(r"two training seeds", results)
    assert control["seeds"] == output["seeds"] == [0, 1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_command_names_no_folder_of_one_machine(path):
    assert " /" not in json.loads(path.read_text())["command"]


def test_what_the_results_page_says_of_the_ablation():
    rows = json.loads((RESULTS / "hippocampus-ablation.json").read_text())["rows"]
    named, results = {row["name"]: row for row in rows}, (DOCS / "results.md").read_text()
    assert all(row["cells"] for row in rows), "no row is left out"
    for name in ("v2", "v3"):
        lost = named[name]["cells"]["ancestral-10x1"]["to_prior"]
        assert "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**lost) in results
    for name in ("alternate", "real", "berdiff"):
        apart = named[name]["cells"]["ddim-3x5"]["to_reference"]
        assert apart["low"] < 0 < apart["high"]
