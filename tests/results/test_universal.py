"""What docs/universal.md says of the random walker is in results/universal-walker.json."""

import json

import numpy as np
import pytest
from paths import ROOT

from napari_hidiff.training.evaluate.metrics import paired_bootstrap

FOUND = ROOT / "results" / "universal-walker.json"


@pytest.fixture(scope="module")
def low() -> dict[str, list[float]]:
    """By set, the lower bound of universal minus walker after 1 to 5 strokes."""
    content = json.loads(FOUND.read_text("utf-8"))
    dices = {(run["case"], run["arm"]): np.array(run["dice"][1:]) for run in content["runs"]}
    gains: dict[str, list[np.ndarray]] = {}
    for case in sorted({case for case, _ in dices}):
        gain = dices[case, "refine"] - dices[case, "walker-strokes"]
        gains.setdefault(case.split("/")[0], []).append(gain)
    return {
        name: [paired_bootstrap(column).low for column in np.transpose(rows)]
        for name, rows in gains.items()
    }


def test_universal_is_ahead_of_the_walker_from_the_second_stroke_on(low):
    assert len(low) == 7
    assert sum(bounds[0] > 0 for bounds in low.values()) == 2
    assert all(bound > 0 for bounds in low.values() for bound in bounds[1:])
    page = (ROOT / "docs" / "universal.md").read_text(encoding="utf-8")
    assert "ahead on two of the seven sets" in page
    assert "from the second stroke on it is ahead on every set" in page
