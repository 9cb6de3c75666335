"""``napari-hidiff replay``: what it says, writes and refuses."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sessions import record, replay
from torch.nn.modules.module import register_module_forward_pre_hook

from napari_hidiff import load_model
from napari_hidiff.annotation import refinement, sidecar
from napari_hidiff.inference.stack import Stack
from napari_hidiff.io.images import read_mask
from napari_hidiff.io.storage import SESSIONS

INDEX = (-1, -1)


@pytest.fixture
def call(monkeypatch, capsys):
    """``call(*arguments)`` -> exit status, stdout, stderr of ``napari-hidiff replay``."""
    return partial(replay, monkeypatch, capsys)


@pytest.fixture
def picture(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def session(tiny_model, picture, tmp_path, monkeypatch) -> tuple[Path, np.ndarray]:
    """A session with strokes, two runs and an undo: its sidecar and its mask uint8 [H, W]."""
    monkeypatch.setenv(SESSIONS, str(tmp_path / "kept"))
    image = np.asarray(Image.open(picture))
    return record(tiny_model, Stack([image], "last"), image)


def test_an_image_and_its_model_are_enough(call, session, picture, tiny_file, tmp_path):
    _, mask = session
    out = tmp_path / "mask.png"
    status, said, _ = call(picture, "--model", tiny_file, "--output", out)
    assert status == 0
    assert "every mask is the same" in said
    assert "2 strokes, 2 runs" in said
    np.testing.assert_array_equal(read_mask(out), mask)


@pytest.mark.parametrize("scale", [1.0, 32 / 80])
def test_a_log_keeps_the_scale(call, tiny_model, picture, tmp_path, monkeypatch, scale):
    """An older log has none: it was made without resampling, and so it is replayed."""
    monkeypatch.setenv(SESSIONS, str(tmp_path / "kept"))
    file = tmp_path / "small.safetensors"
    tiny_model.with_card(longest_side=32).save(file)
    image, model = np.asarray(Image.open(picture)), load_model(file, device="cpu")
    stack = Stack([image], "last")
    assert stack.scale(model.card, INDEX) == 32 / 80
    path, _ = record(model, stack, image, scale=scale)
    log = sidecar.load(path).log
    kept = [entry.get("scale", 1.0) for entry in log if entry["action"] in ("segment", "run")]
    assert kept == [scale] * 3
    _, said, _ = call(picture, "--model", file)
    assert "every mask is the same" in said


def test_a_log_is_repeated_on_as_many_threads(
    call, tiny_model, picture, tiny_file, tmp_path, monkeypatch
):
    """Torch rounds sums by the number of its threads."""
    monkeypatch.setenv(SESSIONS, str(tmp_path / "kept"))
    image = np.asarray(Image.open(picture))
    with refinement.on_threads(3):
        path, _ = record(tiny_model, Stack([image], "last"), image)
    log = sidecar.load(path).log
    assert [entry["threads"] for entry in log if entry["action"] in ("segment", "run")] == [3] * 3
    seen = set()

    def look(module: torch.nn.Module, given: tuple) -> None:
        if type(module) is type(tiny_model.segmentor):
            seen.add(torch.get_num_threads())

    hook = register_module_forward_pre_hook(look)
    with hook:
        _, said, _ = call(picture, "--model", tiny_file)
    assert "every mask is the same" in said
    assert seen == {3}
    assert torch.get_num_threads() == 1


def test_json_is_one_object_and_until_stops(call, session, picture, tiny_file):
    path, _ = session
    status, said, _ = call(path, "--image", picture, "--model", tiny_file, "--json")
    told = json.loads(said)
    assert (status, told["deviation"], told["unknown"]) == (0, None, [])
    assert told["done"] == told["entries"] == 12
    assert set(told["digests"]) == {"[-1, -1]"}
    status, said, _ = call(picture, "--model", tiny_file, "--json", "--until", 5)
    assert (status, json.loads(said)["done"]) == (0, 5)


def test_another_image_or_model_is_refused(call, session, picture, tiny, tmp_path):
    path, _ = session
    other = tmp_path / "other.png"
    Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(other)
    status, _, said = call(path, "--image", other)
    assert status == 2
    assert "is not the image of this log" in said
    status, _, said = call(other)
    assert status == 2
    assert "no session of this image" in said
    tiny(labels=3).save(tmp_path / "three.safetensors")
    status, _, said = call(picture, "--model", tmp_path / "three.safetensors")
    assert status == 2
    assert "'tiny' in a file like tiny.safetensors" in said
    assert "--model" in said
    status, _, said = call(path)
    assert status == 2
    assert "--image" in said


@pytest.mark.parametrize("what", ["seed", "fixed", "unknown"])
def test_what_differs_is_named(call, session, picture, tiny_file, what):
    path, _ = session
    kept = sidecar.load(path)
    slices = dict(kept.slices)
    if what == "seed":
        run = next(entry for entry in kept.log if entry["action"] == "run")
        run |= {"seed": 5, "margin": 0.0, "near": None}
    elif what == "fixed":
        slices[INDEX].fixed[0, 0] = 1
    else:
        kept.log.insert(2, {"action": "levitate"})
    sidecar.save(path, kept.shape, slices, kept.log, kept.key)
    status, said, err = call(picture, "--model", tiny_file)
    if what == "unknown":
        assert status == 0
        assert "entry 3: this version does not know 'levitate'" in err
        return
    assert status == 1
    assert "the same" not in said
    wanted = {"seed": "entry 7, write, gives another mask", "fixed": "differ in slices [[-1, -1]]"}
    assert wanted[what] in err


def test_an_undone_pass_is_no_place_to_begin_at(call, session, picture, tiny_file):
    """Its entry counts slices under the key that a snapshot has its slices under."""
    path, _ = session
    kept = sidecar.load(path)
    log = [*kept.log, {"action": "take_back", "at": 9.0, "slices": 1}]
    sidecar.save(path, kept.shape, kept.slices, log, kept.key)
    status, said, _ = call(picture, "--model", tiny_file, "--json")
    assert (status, json.loads(said)["deviation"]) == (0, None)


@pytest.mark.parametrize(
    "damage", [{"pixels": "!"}, {"slice": [9, -1, -1]}, {"slice": None}, {"action": None}]
)
def test_a_damaged_entry_is_named(call, session, picture, tiny_file, damage):
    path, _ = session
    kept = sidecar.load(path)
    kept.log[4] |= damage
    sidecar.save(path, kept.shape, kept.slices, kept.log, kept.key)
    status, _, err = call(picture, "--model", tiny_file)
    assert status in (0, 1)
    assert "entry 5" in err
    assert "Traceback" not in err
