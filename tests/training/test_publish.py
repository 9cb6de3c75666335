"""A published model: another card, the same weights."""

import json

import pytest
import torch
import volume_layouts
from safetensors.torch import load_file

from napari_hidiff import load_model
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import card_scores
from napari_hidiff.inference.catalog import find_model
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


def test_only_a_prompted_model_is_scored_by_its_validation(tiny_file, tmp_path):
    seen = {"validation": {"prior": 0.5}}
    load_model(tiny_file).with_card(training=seen).save(tmp_path / "trained.safetensors")
    publish.publish_command(tmp_path / "trained.safetensors", tmp_path, "named")
    card = load_model(tmp_path / "named.safetensors").card
    assert (card.training, card.scores) == (seen, {})


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


def test_a_prompted_model_gets_a_row_per_set_and_stays_an_export(tmp_path):
    def part(*dice):
        return {"n": 3, "arms": {"refine": {"dice": list(dice)}}}

    cases = [{"id": "a/1:1", "stroke": ["disc"]}, {"id": "b/1:1", "stroke": ["scribble"]}]
    report = {"by_set": {"a": part(0, 0.5, 0.75), "b": part(0, 0.25, 0.5)}, "cases": cases}
    strokes = tmp_path / "strokes.json"
    strokes.write_text(json.dumps(report | {"command": "c"}))
    source = find_model("universal")
    publish.publish_command(source, tmp_path, "again", interactive=strokes, licence="free")
    published = load_model(tmp_path / "again.safetensors", engine="torch")
    assert published.exported
    assert published.card.licence == "free"
    assert published.card.scores["prompted"] == [
        {"set": "a", "strokes": "disc", "n": 3, "dice": [0.5, 0.75]},
        {"set": "b", "strokes": "scribble", "n": 3, "dice": [0.25, 0.5]},
    ]
    old, new = load_file(source), load_file(tmp_path / "again.safetensors")
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert card_scores(published.card)[1][1] == ["a", "3", "disc", "0.500", "0.750"]


def test_an_export_is_published_where_it_is_asked_for(tiny_file, tmp_path):
    publish.publish_command(tiny_file, tmp_path, "small", export=True)
    assert load_model(tmp_path / "small.safetensors", engine="torch").exported
    assert (tmp_path / "small.safetensors").stat().st_size < tiny_file.stat().st_size


def test_looks_bring_the_spacing_of_the_training_volumes(tiny, tmp_path):
    data = volume_layouts.write_nifti_folder(tmp_path / "data", count=2)
    cases = {"cases": {"train": ["scan0", "scan1"]}}
    tiny(2, 1).with_card(training=cases).save(tmp_path / "plain.safetensors")
    publish.publish_command(
        tmp_path / "plain.safetensors", tmp_path, "named", looks="folder", data=data
    )
    card = load_model(tmp_path / "named.safetensors").card
    assert card.spacing == pytest.approx(volume_layouts.SPACING[-2:])
    assert card.looks["n"] == 2
