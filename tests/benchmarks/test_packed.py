"""The benchmarks of the packed engine at tiny sizes: they run, and their JSON is as promised."""

import json
import sys

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("benchmarks", reason="benchmarks come with the repository")

import typer

from benchmarks import _blocks, _packed, _steps, memory, re_refine, refiner_step

TIMES = {"median_ms", "min_ms", "runs"}


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(main, *arguments):
    """What a benchmark prints with --json."""
    app = typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, ["--json", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_steps_blocks_and_inference_of_all_variants(tmp_path, monkeypatch):
    monkeypatch.setattr(
        refiner_step,
        "SHAPES",
        (_blocks.Shape(64, 64, 16), _blocks.Shape(64, 32, 16, joined=True)),
    )
    output = tmp_path / "step.json"
    found = run(
        refiner_step.main,
        *("--widths", "32", "--sizes", "32", "--stem", "1", "--stem", "2", "--rounds", "1"),
        *("--inference", "32", "--steps", "1", "--output", str(output)),
    )
    assert json.loads(output.read_text()) == found
    assert {"processor", "threads", "avx512_vpopcntdq", "torch", "numba"} <= set(found["machine"])
    assert len(found["steps"]) == 2
    for entry in found["steps"].values():
        assert entry["network"]["binary_convolutions"] >= 20
        assert entry["differs"]["torch"] < 1e-3
        for kind in ("cached", "uncached"):
            assert set(entry[kind]) == {*refiner_step.VARIANTS, "ratios"}
            assert set(entry[kind]["packed"]) == TIMES
            assert set(entry[kind]["ratios"]) == set(refiner_step.VARIANTS) - {"packed"}
    for entry in found["blocks"].values():
        assert entry["greatest_difference"] < 1e-3
        assert set(entry["ratios"]) == {"clean", "conv2d alone"}
    (entry,) = found["inference"].values()
    assert set(entry["segmentor alone"]) == TIMES
    assert set(entry["ratios"]) == {"clean", "torch"}


def test_the_network_is_counted():
    facts = _steps.size_of(_packed.make_refiner(32), _packed.make_scene(64))
    assert facts["binary_convolutions"] == 35
    assert facts["real_gmac_per_step"] == pytest.approx(2 * 32 * 9 * 64**2 / 1e9, rel=1e-3)


def test_the_clean_twin_is_the_same_network():
    assert _steps.check_twin(_packed.make_refiner(32, stem=2), side=32) < 1e-6


def test_parts_of_a_result_are_put_together(tmp_path):
    path = tmp_path / "results" / "part.json"
    _packed.write(path, {"machine": {"threads": 1}, "steps": {"a": {"cached": 1}}})
    _packed.write(path, {"machine": {"threads": 2}, "steps": {"b": 2}})
    wanted = {"machine": {"threads": 2}, "steps": {"a": {"cached": 1}, "b": 2}}
    assert json.loads(path.read_text()) == wanted


def test_edits_are_answered_whole_and_locally():
    found = run(
        re_refine.main,
        *("--model", "", "--width", "32", "--crop", "128", "--no-start"),
        *("--repeats", "2", "--limit", "0.1", "--threads", "1"),
    )
    (entry,) = found["models"].values()
    assert set(entry["threads 1"]) == {way.name for way in re_refine.WAYS}
    for times in entry["threads 1"].values():
        assert TIMES | {"p95_ms", "median_processor_ms"} == set(times)
    far = entry["local_against_whole"]
    assert 0 <= far["mean_absolute_difference_of_probability"] <= 1
    assert far["pixels"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peaks_are_measured_in_processes_of_their_own(monkeypatch):
    monkeypatch.setattr(memory, "PARTS", ("refiner",))
    found = memory.at_width(32, 64)
    assert set(found["refiner"]) == {"packed_MiB", "torch_MiB", "packed_over_torch"}
    assert found["refiner"]["torch_MiB"] > 0
