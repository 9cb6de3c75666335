"""A published model: another card, the same weights."""

import json

import pytest
import torch
from safetensors.torch import load_file

from napari_hidiff import load_model
from napari_hidiff.errors import InputError
from napari_hidiff.training import publish


def test_only_the_card_changes(tiny_file, tmp_path):
    report = {"n": 8, "mean": {"prior": {"dice": 0.5}}, "command": "c", "images": [1]}
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps(report))
    publish.publish_command(
        tiny_file, tmp_path, "named", "a summary", scores, note="restarted once"
    )
    published = tmp_path / "named.safetensors"
    before, after = load_model(tiny_file).card, load_model(published).card
    assert (after.name, after.summary) == ("named", "a summary")
    assert after.training == before.training | {"note": "restarted once"}
    assert after.scores == {"n": 8, "mean": {"prior": {"dice": 0.5}}, "command": "c"}
    assert after.refiner == before.refiner
    old, new = load_file(tiny_file), load_file(published)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_scores_of_strokes_stand_beside_the_others(tiny_file, tmp_path):
    arm = {"nauc": {"20": 0.9}, "dice": [0.7, 0.9], "lowered": 0.1, "seconds": None}
    report = {
        key: key for key in ("dataset", "split", "strokes", "seeds", "longest_side", "command")
    } | {"n": 3, "versions": {}, "arms": {"refine": arm}, "runs": [1, 2]}
    report["differences"] = {"refine_minus": {"paint": {"nauc_20": 0.1}}, "minus_paint": {}}
    strokes, scores = tmp_path / "strokes.json", tmp_path / "scores.json"
    strokes.write_text(json.dumps(report))
    scores.write_text(json.dumps({"n": 8, "mean": {"prior": {"dice": 0.5}}}))
    publish.publish_command(tiny_file, tmp_path, "named", interactive=strokes)
    published = tmp_path / "named.safetensors"
    publish.publish_command(published, tmp_path, scores=scores)
    found = load_model(published).card.scores
    assert found["n"] == 8
    assert found["interactive"]["n"] == 3
    assert found["interactive"]["arms"] == {
        "refine": {"nauc": {"20": 0.9}, "lowered": 0.1, "seconds": None}
    }
    assert found["interactive"]["refine_minus"] == {"paint": {"nauc_20": 0.1}}
    assert "runs" not in found["interactive"]


def test_a_model_that_is_too_large_to_bundle_is_refused(tiny_file, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "LARGEST", 10)
    with pytest.raises(InputError, match="are bundled"):
        publish.publish_command(tiny_file, tmp_path, "large")
    assert not (tmp_path / "large.safetensors").exists()
