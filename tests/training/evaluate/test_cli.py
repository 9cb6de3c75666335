"""The command ``napari-hidiff-evaluate``: its object, its table, and what it refuses."""

import json
import shutil
import subprocess
import sys

import layouts
import pytest

from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label
from napari_hidiff.training.evaluate import cli
from napari_hidiff.training.validation import Threshold, with_threshold


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    card = Card(
        "untrained",
        (Label("background", "#000000"), Label("vessel", "#ff4040")),
        ("red", "green", "blue"),
        segmentor={"name": "unet", "filters": [4, 4, 6, 8, 8, 8]},
    )
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    HiDiff.create(card).save(path)
    return path


@pytest.fixture(scope="module")
def chase_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "CHASEDB1"
    return layouts.write_chase(root, height=40, width=33)


def run_command(capsys, monkeypatch, *arguments):
    """Exit status, stdout and stderr of the command, in this process."""
    monkeypatch.setattr(sys, "argv", ["napari-hidiff-evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    streams = capsys.readouterr()
    return left.value.code or 0, streams.out, streams.err


def test_the_command_prints_one_object(model_file, chase_folder, capsys, monkeypatch, tmp_path):
    arguments = ["--model", model_file, "--dataset", "chase", "--data", chase_folder.parent]
    arguments += ["--limit", 2, "--seeds", 2, "--seed", 7, "--damage", "--json"]
    written = tmp_path / "scores.json"
    status, out, err = run_command(capsys, monkeypatch, *arguments, "--output", written)
    assert status == 0
    content = json.loads(out)
    assert json.loads(written.read_text()) == content
    assert list(tmp_path.iterdir()) == [written]
    assert content["n"] == 2
    assert content["seeds"] == [7, 8]
    assert content["command"].startswith("napari-hidiff-evaluate --model")
    assert "Image_11L" in err
    again = json.loads(run_command(capsys, monkeypatch, *arguments)[1])
    assert again["images"] == content["images"]


def test_masks_without_the_thresholds_of_the_card(
    tiny, chase_folder, capsys, monkeypatch, tmp_path
):
    """They are those of the same weights on a card without thresholds."""
    found: list[dict] = []
    for refiner, segmentor in ((0.5, 0.5), (0.5, 0.65), (0.7, 0.65)):
        card = tiny().card
        for part, value in (("segmentor", segmentor), ("refiner", refiner)):
            card = with_threshold(card, part, Threshold(value, 0.9, 0.8))
        file = tmp_path / f"{len(found)}.safetensors"
        tiny().with_card(**vars(card)).save(file)
        arguments = ["--model", file, "--dataset", "chase", "--data", chase_folder.parent]
        arguments += ["--limit", 1, "--sampler", "one-step", "--at-half", "--json"]
        found.append(json.loads(run_command(capsys, monkeypatch, *arguments)[1])["mean"])
    plain, first, both = found
    assert plain["prior_at_half"] == plain["prior"] == first["prior_at_half"]
    assert first["prior"] == both["prior"] != plain["prior"]
    assert first["refined_at_half"] == first["refined"] == both["refined_at_half"]
    assert both["refined"] != first["refined"]


def test_the_command_prints_a_table(model_file, chase_folder, capsys, monkeypatch):
    arguments = ["--model", model_file, "--dataset", "chase", "--data", chase_folder]
    arguments += ["--limit", 1, "--sampler", "one-step", "--damage", "--second-observer"]
    status, out, _ = run_command(capsys, monkeypatch, *arguments)
    assert status == 0
    for part in ("Image_11L", "refined - prior", "hd95 ↓", "second_observer", "damaged priors"):
        assert part in out
    assert "from 5 images on with an interval" in out
    assert "[+" not in out


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"--split": "tests"}, "train, val, test"),
        ({"--dataset": "chases"}, "chase, drive, synapse"),
        ({"--data": "nowhere"}, "Image_01L.jpg"),
        ({"--model": "nothing"}, "nothing"),
        ({"--sampler": "euler"}, "one-step"),
        ({"--also": "euler"}, "one-step"),
        ({"--steps": 99}, "steps"),
        ({"--also": "one-step", "--samples": 0}, "samples"),
        ({"--device": "abacus"}, "abacus"),
        ({"--split-file": "none.json"}, "none.json"),
        ({"--output": "no/where.json"}, "no"),
        ({"--seeds": 0}, "--seeds"),
        ({"--limit": "many"}, "--limit"),
        ({"--tolerance": -1}, "--tolerance"),
        ({"--split-rule": "coin"}, "unknown split rule 'coin'"),
        ({"--prior-from": "none.ts"}, "none.ts"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(
    model_file, chase_folder, capsys, monkeypatch, tmp_path, change, part
):
    monkeypatch.chdir(tmp_path)
    options = {"--model": model_file, "--dataset": "chase", "--data": chase_folder, "--limit": 1}
    arguments = [item for pair in (options | change).items() for item in pair]
    status, out, err = run_command(capsys, monkeypatch, *arguments, "--json")
    assert status == 2
    assert out == ""
    lines = [line for line in err.splitlines() if "(1 of 1)" not in line]
    assert len(lines) == 1
    assert part in lines[0]


def test_masks_of_other_software_are_the_start(
    model_file, chase_folder, capsys, monkeypatch, tmp_path
):
    """The second observer's masks as a folder: the refiner of this model returns its prior."""
    for file in chase_folder.glob("*_2ndHO.png"):
        shutil.copy(file, tmp_path / file.name.replace("_2ndHO", ""))
    arguments = ["--model", model_file, "--dataset", "chase", "--data", chase_folder, "--json"]
    arguments += ["--limit", 2, "--sampler", "one-step", "--second-observer"]
    arguments += ["--prior-from", tmp_path, "--tolerance", 0.5]
    status, out, _ = run_command(capsys, monkeypatch, *arguments)
    assert status == 0
    content = json.loads(out)
    assert content["prior_from"] == str(tmp_path)
    assert content["surface"] == {"unit": "pixels", "tolerance": 0.5}
    for image in content["images"]:
        assert image["prior"] == image["second_observer"] == image["refined"]
        assert image["prior"]["dice"] < 1


def test_a_bad_image_is_named_or_skipped(model_file, tmp_path, capsys, monkeypatch):
    root = layouts.write_chase(tmp_path / "CHASEDB1", height=24, width=24)
    (root / "Image_11L_1stHO.png").write_bytes(b"not a picture")
    arguments = ["--model", model_file, "--dataset", "chase", "--data", root, "--seeds", 1]
    status, out, err = run_command(capsys, monkeypatch, *arguments)
    assert (status, out) == (2, "")
    assert "Image_11L_1stHO.png" in err.splitlines()[-1]
    arguments += ["--limit", 2, "--skip-bad"]
    status, out, _ = run_command(capsys, monkeypatch, *arguments)
    assert status == 0
    assert "skipped Image_11L" in out
    content = json.loads(run_command(capsys, monkeypatch, *arguments, "--json")[1])
    assert [image["id"] for image in content["images"]] == ["Image_11R"]
    assert [case["id"] for case in content["skipped"]] == ["Image_11L"]


def test_help_teaches_and_needs_no_torch():
    code = (
        "import sys; sys.argv = ['e', '--help']\n"
        "from napari_hidiff.training.evaluate.cli import main\n"
        "try: main()\n"
        "except SystemExit as left: assert not left.code, left.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr
    for part in ("--damage", "--split-file", "bootstrap", "chase"):
        assert part in done.stdout
