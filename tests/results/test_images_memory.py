"""What many images leave in memory: the figures of the docs, and that they are bounded."""

import json

from paths import ROOT

FOUND = json.loads((ROOT / "results" / "images-memory.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "engine.md").read_text("utf-8")


def test_the_figures_in_the_docs_were_measured() -> None:
    for kind, one in FOUND["kinds"].items():
        held = one["resident_MiB"]
        assert len(held) == FOUND["pictures"] + 1
        assert (held[0], held[-1]) == (one["before_MiB"], one["after_MiB"])
        cells = (held[0], held[1], held[-1], one["per_picture_MiB"])
        assert f"| {kind} | {' | '.join(map(str, cells))} |" in PAGE


def test_closed_images_leave_little_and_their_masks_come_back() -> None:
    annotated = FOUND["kinds"]["annotated"]
    held = annotated["resident_MiB"]
    assert held[-1] - held[1] < FOUND["limit_MiB"]
    assert annotated["remembered_MiB"] == 0
    assert annotated["came_back"]
