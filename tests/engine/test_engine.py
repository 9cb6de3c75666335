"""Which engine runs, what it says, and that the choice changes no mask."""

import threading

import numpy as np
import pytest
import torch

from napari_hidiff.engine import engine as engines
from napari_hidiff.engine.engine import Engine
from napari_hidiff.errors import InputError, Unpackable
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label

LABELS = (Label("background", "#000000"), Label("spot", "#ff0000"))
CPU = torch.device("cpu")


def model(tmp_path, **refiner):
    made = HiDiff.create(Card("tiny", LABELS, ("grey",), refiner=refiner))
    torch.nn.init.normal_(
        made.refiner.head.weight, std=0.05, generator=torch.Generator().manual_seed(0)
    )
    path = tmp_path / "tiny.safetensors"
    made.save(path)
    return path


def picture():
    return np.random.default_rng(0).integers(0, 255, (70, 90), np.uint8)


def test_auto_takes_packed_kernels_on_the_cpu_and_says_what_ran(tmp_path):
    path = model(tmp_path, stem=2)
    packed, torched = load_model(path, "cpu"), load_model(path, "cpu", engine="torch")
    assert (packed.engine, torched.engine) == ("packed", "torch")
    assert packed.backend.note == torched.backend.note == ""
    found, expected = packed.refine(picture(), seed=3), torched.refine(picture(), seed=3)
    assert (found.engine, expected.engine) == ("packed", "torch")
    assert {step.engine for step in found.steps} == {"packed"}
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)


def test_a_real_refiner_runs_on_torch_with_one_line(tmp_path):
    path = model(tmp_path, convolution="real")
    loaded = load_model(path, "cpu")
    assert loaded.engine == loaded.refine(picture()).engine == "torch"
    assert "real, not binary" in loaded.backend.note
    assert "\n" not in loaded.backend.note
    with pytest.raises(InputError, match="real, not binary"):
        load_model(path, "cpu", engine="packed")


def test_a_machine_without_numba_runs_on_torch_with_one_line(tmp_path, monkeypatch):
    path = model(tmp_path)

    def broken(refiner):
        raise Unpackable("numba does not run here (OSError: no libllvm)")

    monkeypatch.setattr(engines, "compiled", broken)
    loaded = load_model(path, "cpu")
    assert loaded.refine(picture()).engine == "torch"
    assert "no libllvm" in loaded.backend.note

    def worse(refiner):
        raise RuntimeError("LLVM ERROR: unknown target\nand much more")

    monkeypatch.setattr(engines, "compiled", worse)
    assert "unknown target" in load_model(path, "cpu").backend.note
    with pytest.raises(InputError, match="numba does not compile here"):
        load_model(path, "cpu", engine="packed")


def test_unknown_engines_and_packed_elsewhere_are_refused(tmp_path):
    path = model(tmp_path)
    with pytest.raises(InputError, match="engine must be one of auto, packed, torch, not 'steam'"):
        load_model(path, engine="steam")
    refiner = load_model(path, "cpu").refiner
    with pytest.raises(InputError, match="packed engine runs on the CPU, not on meta"):
        Engine(refiner, torch.device("meta"), "packed")
    elsewhere = Engine(refiner, torch.device("meta"), "auto")
    elsewhere.prepare()
    assert elsewhere.name == "torch"
    assert elsewhere.note == "", "torch is the right engine there"


def test_torch_refines_while_another_thread_compiles(tmp_path, monkeypatch):
    loaded = load_model(model(tmp_path), "cpu", prepare=False)
    begun, go = threading.Event(), threading.Event()
    compiled = engines.compiled

    def slow(refiner):
        begun.set()
        assert go.wait(300)
        return compiled(refiner)

    monkeypatch.setattr(engines, "compiled", slow)
    thread = threading.Thread(target=loaded.backend.prepare)
    thread.start()
    assert begun.wait(300)
    assert loaded.backend.preparing
    steps = loaded.steps(picture(), sampler="ddim", steps=3, samples=1)
    first = next(steps)
    go.set()
    thread.join()
    assert not loaded.backend.preparing
    assert [step.engine for step in (first, *steps)] == ["torch"] * 3, "a run keeps its engine"
    after = loaded.refine(picture(), sampler="ddim", steps=3, samples=1)
    assert after.engine == "packed"
    np.testing.assert_allclose(after.steps[0].probability, first.probability, atol=1e-5)
