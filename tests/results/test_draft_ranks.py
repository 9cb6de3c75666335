"""The page *Annotate a folder* says what results/draft-ranks.json and results/queue.json hold."""

import json

from paths import ROOT

PAGE = (ROOT / "docs" / "folder.md").read_text(encoding="utf-8")
SETS = ("hippocampus volumes", "hippocampus slices", "polyps")


def test_the_table_of_ranks_is_that_of_the_file() -> None:
    sets = json.loads((ROOT / "results" / "draft-ranks.json").read_text())["sets"]
    for what in ("in_order", "best"):
        cells = " | ".join(f"{sets[name][what]:.2f}" for name in SETS)
        assert f"| {cells} |" in PAGE
    for measure in ("border", "image", "area", "soft", "moved"):
        found = [sets[name]["measures"][measure] for name in SETS]
        cells = " | ".join(f"{one['share']:.2f} ({one['spearman']:.2f})" for one in found)
        assert f"| {cells} |" in PAGE
    for name in (SETS[0], SETS[2]):
        shares = {key: one["share"] for key, one in sets[name]["measures"].items()}
        assert shares["area"] == max(shares.values()), "the measure that the window uses"


def test_memory_is_flat_and_drafts_do_not_stall_the_window() -> None:
    found = json.loads((ROOT / "results" / "queue.json").read_text())
    memory = found["study"]["memory_MiB"]
    assert f"{min(memory)} to {max(memory)} MiB" in PAGE
    assert abs(found["study"]["growth_MiB_per_image"]) * len(memory) < max(memory) - min(memory)
    drafted = found["drafted"]
    assert drafted["drafts"] == drafted["images"]
    assert f"| {drafted['blocked_while_drafting_s']} s |" in PAGE
