"""``napari-hidiff-evaluate --experiment interactive``: its object, its pictures, going on."""

import json

import layouts
import numpy as np
import pytest
import torch
import volume_layouts
from commands import evaluate as run_command
from PIL import Image

from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label, mean_dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.interactive.annotator import nauc
from napari_hidiff.training.evaluate.interactive.experiment import run
from napari_hidiff.training.evaluate.study import Options

ARMS = ("paint", "refine", "once", "no-clamp", "control")


def write_model(path, names=("background", "polyp"), channels=("red", "green", "blue"), seed=0):
    """A small network that changes its prior, one-step by its card, trained at 40 pixels."""
    card = Card(
        "untrained",
        tuple(Label(name, "#ff4040") for name in names),
        channels,
        segmentor={"name": "unet", "filters": [4, 4, 6, 8, 8, 8]},
        refiner={"width": 32, "stem": 2},
        defaults={"sampler": "one-step", "steps": 2, "samples": 2},
        training={"recipe": {"longest_side": 40}},
    )
    model = HiDiff.create(card, seed)
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(model.refiner.head.weight, std=0.05, generator=generator)
    model.save(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """model, control and kvasir: what the command is pointed at."""
    root = tmp_path_factory.mktemp("interactive")
    return {
        "model": write_model(root / "first.safetensors"),
        "control": write_model(root / "second.safetensors", seed=1),
        "kvasir": layouts.write_kvasir(root / "Kvasir-SEG"),
    }


def command(files, *more):
    data = ["--dataset", "kvasir", "--data", files["kvasir"], "--limit", 2, "--strokes", 2]
    return ["--experiment", "interactive", "--model", files["model"], *data, *more]


def without_times(content):
    """The object without what differs between two runs on one machine."""
    plain = json.loads(json.dumps(content))
    for row in plain["runs"]:
        del row["seconds"]
    for arm in plain["arms"].values():
        arm.pop("seconds", None)
    return plain


def test_the_command_from_end_to_end(files, capsys, monkeypatch, tmp_path):
    state, output = tmp_path / "state", tmp_path / "scores.json"
    more = ["--control", files["control"], "--arms", ",".join(ARMS), "--seeds", 2]
    more += ["--state", state, "--output", output]
    status, out, err = run_command(capsys, monkeypatch, *command(files, *more, "--json"))
    assert status == 0, err
    content = json.loads(out)
    assert json.loads(output.read_text()) == content
    assert list(content["arms"]) == list(ARMS)
    assert (content["n"], content["subjects"], content["longest_side"]) == (2, 2, 40)
    assert content["experiment"] == "interactive"
    assert content["hardware"]["device"]
    for name, arm in content["arms"].items():
        assert len(arm["dice"]) == 3
        assert arm["nauc"]["2"] == pytest.approx(nauc(arm["dice"], 2), abs=1e-5)
        assert arm["fixed_changed"] == 0 or name == "no-clamp"
    assert set(content["differences"]["refine_minus"]) == set(ARMS) - {"refine"}
    assert set(content["differences"]["minus_paint"]) == set(ARMS) - {"paint"}
    assert any("control's own segmentor differs" in note for note in content["notes"])
    assert "annotators to do: about" in err
    for picture in ("curves", "helped", "harmed"):
        beside = tmp_path / f"scores-{picture}.png"
        assert beside.read_bytes() == (state / f"{picture}.png").read_bytes()
        with Image.open(beside) as image:
            assert min(image.size) > 100
    status, table, _ = run_command(capsys, monkeypatch, *command(files, *more))
    assert status == 0
    for part in ("refine minus", "minus paint", "fixed", "nAUC 2", "to 0.90", "control"):
        assert part in table


def test_shrunk_images_are_scored_without_an_experiment_too(files, capsys, monkeypatch):
    plain = ["--model", files["model"], "--dataset", "kvasir", "--data", files["kvasir"]]
    plain += ["--limit", 1, "--json"]
    content = json.loads(run_command(capsys, monkeypatch, *plain)[1])
    assert content["longest_side"] == 40, "as the card says"
    other = json.loads(run_command(capsys, monkeypatch, *plain, "--longest-side", 0)[1])
    assert other["longest_side"] == 0
    assert other["images"] != content["images"]


def test_resumed_is_uninterrupted_and_a_second_call_does_no_work(files, tmp_path):
    model = load_model(files["model"], device="cpu", engine="torch")
    calls = []
    for module in (model.segmentor, model.refiner):
        module.register_forward_hook(lambda *_: calls.append(1))
    dataset = open_dataset("kvasir", files["kvasir"])
    cases = dataset.split("test")[:2]
    options = Options(arms=("paint", "refine", "walker"), strokes=2, seeds=(0,))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    full = run(model, dataset, cases, options, whole)

    def stop(done, what):
        if done >= 0.9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(model, dataset, cases, options, parts, stop)
    kept = sorted(parts.glob("refine-*.json"))
    assert len(kept) == 1
    kept[0].write_text(kept[0].read_text()[:-9])  # torn
    seen = len(calls)
    resumed = run(model, dataset, cases, options, parts)
    assert len(calls) > seen
    assert without_times(resumed) == without_times(full)

    seen = len(calls)
    before = {path: path.stat().st_mtime_ns for path in parts.iterdir()}
    again = run(model, dataset, cases, options, parts)
    assert again == resumed
    assert len(calls) == seen, "no network was asked"
    assert {path: path.stat().st_mtime_ns for path in parts.iterdir()} == before
    more = run(model, dataset, cases, Options(arms=("refine",), strokes=3, seeds=(0,)), parts)
    assert len(calls) > seen, "other settings are other work"
    assert more["arms"]["refine"]["dice"][:3] == full["arms"]["refine"]["dice"]


def test_of_a_volume_some_slices_are_annotated_as_part_of_it(tmp_path):
    """Slices are normalised with the whole volume: the first mask is that of the volume."""
    root = volume_layouts.write_msd(tmp_path / "Task", ("MRI",))
    dataset = open_dataset("msd", root)
    path = write_model(tmp_path / "three.safetensors", dataset.classes, dataset.channels)
    model = load_model(path, device="cpu")
    cases = dataset.split("train")[:2]
    state = tmp_path / "state"
    state.mkdir()
    content = run(
        model, dataset, cases, Options(arms=("paint",), strokes=1, slices=2, seeds=(0,)), state
    )
    assert (content["subjects"], len(content["cases"])) == (4, 2)
    sample = dataset.load(cases[0])
    filled = np.flatnonzero(sample.mask.any((1, 2)))
    slices = content["cases"][0]["slices"]
    assert set(slices) <= set(filled.tolist())
    planes = model.intensity(sample.image)
    for row, z in zip(content["runs"], slices, strict=False):
        mask = model.mask_of(model.prior(planes[z], normalised=True))
        assert row["dice"][0] == pytest.approx(mean_dice(mask, sample.mask[z], 3), abs=1e-4)


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--arms", "paint,guess"], "unknown arm 'guess'"),
        (["--arms", "control"], "--control FILE"),
        (["--experiment", "mood"], "unknown experiment 'mood'"),
        (["--stroke", "cross"], "strokes are auto"),
        (["--damage"], "--damage does not go with --experiment"),
        (["--strokes", "0"], "--strokes"),
        (["--control", "none.safetensors", "--arms", "control"], "none.safetensors"),
        (["--wrong-strokes", "2"], "--wrong-strokes"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(files, capsys, monkeypatch, tmp_path, more, part):
    monkeypatch.chdir(tmp_path)
    status, out, err = run_command(capsys, monkeypatch, *command(files, "--json", *more))
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert part in err


def test_a_control_of_other_classes_is_refused(files, capsys, monkeypatch, tmp_path):
    other = write_model(tmp_path / "other.safetensors", ("background", "vessel"))
    arguments = command(files, "--control", other, "--state", tmp_path / "state")
    status, _, err = run_command(capsys, monkeypatch, *arguments)
    assert status == 2
    assert "classes background, vessel" in err.splitlines()[-1]


def test_options_of_experiments_need_one(files, capsys, monkeypatch):
    arguments = ["--model", files["model"], "--dataset", "kvasir", "--data", files["kvasir"]]
    status, _, err = run_command(capsys, monkeypatch, *arguments, "--arms", "paint")
    assert status == 2
    assert "--arms needs --experiment" in err
