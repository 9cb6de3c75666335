"""``napari-hidiff replay``: what it says, writes and refuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_hidiff import cli, sidecar, work
from napari_hidiff.guards import Guards
from napari_hidiff.io import read_mask
from napari_hidiff.journal import model_facts
from napari_hidiff.session import Annotation
from napari_hidiff.stack import Stack

INDEX = (-1, -1)
SETTINGS = {"sampler": "ddim", "steps": 2, "samples": 2, "seed": 4, "certain": False, "firm": True}


@pytest.fixture
def call(monkeypatch, capsys):
    """``call(*arguments)`` -> exit status, stdout, stderr of ``napari-hidiff replay``."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["napari-hidiff", "replay", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


@pytest.fixture
def picture(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def session(tiny_model, picture, tmp_path, monkeypatch) -> tuple[Path, np.ndarray]:
    """A session with strokes, two runs and an undo: its sidecar and its mask uint8 [H, W]."""
    monkeypatch.setenv(sidecar.VARIABLE, str(tmp_path / "kept"))
    image = np.asarray(Image.open(picture))
    mask = np.zeros(image.shape[:2], np.uint8)
    annotation = Annotation(mask.shape)
    annotation.begin(channels=0)
    slice_ = annotation.session(INDEX, mask)
    slice_.prior = work.segment(tiny_model, Stack([image], "last"), INDEX, None)
    annotation.note("segment", slice=INDEX, prior="segmentor", **model_facts(tiny_model))
    mask[...] = annotation.around_fixed(INDEX, slice_.prior.mask)
    annotation.wrote(INDEX, mask, what="prior")
    for row in (10, 30):
        mask[row : row + 5, 10:60] = 1
        annotation.changed(mask, painted=True)
        run = slice_.start(2, 2, Guards(near=3, margin=0.1))
        facts = model_facts(tiny_model) | SETTINGS | vars(run.guards)
        entry = annotation.note("run", slice=INDEX, **facts)
        how = (SETTINGS[name] for name in ("sampler", "steps", "samples", "seed"))
        for step in work.steps(
            tiny_model, Stack([image], "last"), INDEX, slice_.prior.given, run, *how
        ):
            slice_.add_step(step.mask, step.probability)
            entry |= {"taken": step.index, "engine": step.engine}
        mask[...] = annotation.around_fixed(INDEX, slice_.view(2))
        annotation.wrote(INDEX, mask, 2)
    slice_.timeline.travel(-1)
    mask[...] = slice_.timeline.content
    annotation.journal.add("undo", INDEX, slice_.timeline, by=1)
    slice_.accept()
    annotation.note("accept", slice=INDEX)
    key = sidecar.image_key(image)
    path = sidecar.path_of(key)
    sidecar.save(path, mask.shape, annotation.records(), annotation.log, key)
    return path, mask


def test_an_image_and_its_model_are_enough(call, session, picture, tiny_file, tmp_path):
    _, mask = session
    out = tmp_path / "mask.png"
    status, said, _ = call(picture, "--model", tiny_file, "--output", out)
    assert status == 0
    assert "every mask is the same" in said
    assert "2 strokes, 2 runs" in said
    np.testing.assert_array_equal(read_mask(out), mask)


def test_json_is_one_object_and_until_stops(call, session, picture, tiny_file):
    path, _ = session
    status, said, _ = call(path, "--image", picture, "--model", tiny_file, "--json")
    record = json.loads(said)
    assert (status, record["deviation"], record["unknown"]) == (0, None, [])
    assert record["done"] == record["entries"] == 12
    assert set(record["digests"]) == {"[-1, -1]"}
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
