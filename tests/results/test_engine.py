"""What docs/engine.md says of the packed engine, against the results files."""

import json

import pytest
from paths import ROOT

from napari_hidiff.inference import cost

TEXT = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")


def read(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


STEP, AGAIN, MEMORY, ENGINES = (
    read(name) for name in ("refiner-step", "re-refine", "memory", "engines")
)
PAPER = STEP["steps"]["width 128, 256 x 256, stem 1"]
[SAMPLE] = [rows for name, rows in AGAIN["models"].items() if name.startswith("chase-vessels")]


def row(title):
    [line] = [line for line in TEXT.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.mark.parametrize("name", STEP["steps"])
def test_steps_are_quoted(name):
    cells, figures = row(name), STEP["steps"][name]
    cached, uncached = figures["cached"]["ratios"], figures["uncached"]["ratios"]
    assert cells[1:4] == [str(cached.get(key, "-")) for key in ("clean", "torch", "bf16")]
    assert cells[5] == str(uncached["clean"])
    for cell, kind in ((cells[0], "cached"), (cells[4], "uncached")):
        assert float(cell) == pytest.approx(figures[kind]["packed"]["median_ms"], rel=0.01)


@pytest.mark.parametrize("name", STEP["blocks"])
def test_blocks_are_quoted(name):
    places = (STEP["blocks"], STEP["pooled"]["blocks"], STEP["portable"]["blocks"])
    clean, pooled, portable = (place[name]["ratios"]["clean"] for place in places)
    alone = STEP["blocks"][name]["ratios"]["conv2d alone"]
    assert row(name) == [str(value) for value in (clean, alone, pooled, portable)]


@pytest.mark.parametrize(
    "way",
    [
        "one step, whole",
        "one step, whole, nothing kept",
        "one step, local",
        "10 steps, whole",
    ],
)
def test_the_time_of_an_answer_is_quoted(way):
    for cell, (engine, threads) in zip(
        row(way), [(e, t) for e in ("packed", "torch") for t in (1, 2)], strict=True
    ):
        median = SAMPLE[f"threads {threads}"][f"{engine}, {way}"]["median_ms"]
        assert cell.startswith(f"{median:,.0f} ms")


def test_what_is_claimed_holds():
    assert PAPER["network"]["binary_convolutions"] >= 20
    assert PAPER["network"]["binary_gmac"] >= 70
    assert PAPER["cached"]["ratios"]["clean"] >= 15
    assert PAPER["uncached"]["ratios"]["clean"] >= 15
    portable = STEP["portable"]["steps"]["width 128, 256 x 256, stem 1"]
    assert min(portable[kind]["ratios"]["clean"] for kind in ("cached", "uncached")) >= 8
    [whole] = STEP["inference"].values()
    assert whole["ratios"]["clean"] >= 10
    for name, figures in STEP["blocks"].items():
        if "stride 2" not in name and not name.startswith("32"):
            assert figures["ratios"]["clean"] >= 15
    for threads in ("threads 1", "threads 2"):
        assert SAMPLE[threads]["packed, one step, whole"]["median_ms"] < 1000
        assert SAMPLE[threads]["packed, one step, local"]["median_ms"] < 150
        anew = SAMPLE[threads]["packed, one step, whole, nothing kept"]["median_ms"]
        assert SAMPLE[threads]["packed, one step, whole"]["median_ms"] < anew
    assert MEMORY["peaks"]["width 128, 512 x 512"]["refine"]["packed_over_torch"] <= 0.5
    large = MEMORY["large"]
    assert large["engine"] == "packed"
    assert large["peak_bytes"] < 4e9
    for name in ("one-step", "ddim"):
        assert ENGINES["worst"][name]["same_mask"] >= 0.999
        assert ENGINES["worst"][name]["within_0.01"] >= 0.999
        assert ENGINES["worst"][name]["mean"] <= 1e-3


def test_the_results_page_quotes_the_same_files():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    whole, local, slow, slow_local = (
        f"{SAMPLE['threads 2'][f'{engine}, one step, {way}']['median_ms']:.0f}"
        for engine in ("packed", "torch")
        for way in ("whole", "local")
    )
    assert f"{whole} ms from a stroke to the mask" in text
    assert f"{local} ms if only the surroundings" in text
    assert f"torch: {slow} and {slow_local} ms" in text
    assert f"{PAPER['cached']['ratios']['clean']:.0f} times as fast as the same network in" in text


def test_estimates_use_the_measured_memory():
    measured = MEMORY["bytes_per_pixel"]
    assert measured["segmentor"] == cost.SEGMENTOR_BYTES
    for engine, stems in cost.REFINER_BYTES.items():
        for stem, size in stems.items():
            assert measured[engine][f"stem {stem}"]["refiner"] == size
