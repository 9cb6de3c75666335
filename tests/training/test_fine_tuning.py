"""Fine-tuning: what is refused, what is held out, and a run from end to end through the command."""

import dataclasses
import json
import subprocess
import sys

import layouts
import pytest
import torch
from commands import call
from safetensors.torch import load_file

from napari_hidiff.annotation.fine_tuning import Progress, stopped_run
from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.training import cli, fine_tuning
from napari_hidiff.training.datasets import Case, open_dataset
from napari_hidiff.training.recipes import RECIPES

SHORT = ("--pretrain-iterations", 2, "--iterations", 3, "--crop", 32, "--batch", 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return layouts.write_folder(tmp_path_factory.mktemp("data"), count=4)


def run(*arguments):
    return call(cli.main, *arguments)


def start(data, folder, *more):
    given = ("--dataset", "folder", "--data", data, "--output", folder, "--device", "cpu")
    return (*given, *SHORT, *more)


@pytest.fixture(scope="module")
def whole(data, tiny_file, tmp_path_factory):
    """The folder of an uninterrupted run, which leaves the model it starts from as it was."""
    folder, before = tmp_path_factory.mktemp("whole") / "run", tiny_file.read_bytes()
    done = run(*start(data, folder, "--from", tiny_file, "--name", "mine"))
    assert done.returncode == 0, done.stderr
    assert tiny_file.read_bytes() == before
    return folder


def test_four_images_are_tuned_on_and_one_is_held_out(data, tiny_file, whole):
    folder = whole
    tuned, old = load_model(folder / "model.safetensors"), load_model(tiny_file)
    card = tuned.card
    assert (card.name, card.classes, card.channels) == ("mine", old.card.classes, old.card.channels)
    assert (card.segmentor, card.refiner) == (old.card.segmentor, old.card.refiner)
    assert card.training["from"]["root"] == "tiny"
    assert card.defaults == old.card.defaults
    assert card.looks["n"] == 3  # what is held out is not looked at
    cases = card.training["cases"]
    assert (len(cases["train"]), len(cases["val"])) == (3, 1)
    assert not (folder / "fold0.pt").exists()
    for part in ("segmentor", "refiner"):
        one, other = (getattr(model, part).state_dict() for model in (tuned, old))
        moved = [name for name in one if not torch.equal(one[name], other[name])]
        assert moved, f"the {part} was not trained"
        close = max(float((one[n] - other[n]).abs().max()) for n in moved if "weight" in n)
        assert close < 0.1, f"the {part} does not start from the model"

    held = json.loads((folder / "report.json").read_text())["held_out"]
    (row,) = held["cases"]
    assert row["id"] == cases["val"][0]
    sample = next(
        open_dataset("folder", data).load(case)
        for split in open_dataset("folder", data).splits.values()
        for case in split
        if case.id == row["id"]
    )
    from napari_hidiff.masks import dice

    assert row["before"]["refined"] == pytest.approx(
        dice(old.refine(sample.image).mask, sample.mask), abs=0.01
    )
    assert row["after"]["refined"] == pytest.approx(
        dice(tuned.refine(sample.image).mask, sample.mask), abs=0.01
    )

    lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    progress, shares = Progress(), []
    for line in lines:
        progress.take(line)
        shares.append(progress.share)
    assert shares == sorted(shares)
    assert progress.finished
    assert progress.share == 1
    assert progress.dice[-1][1] == pytest.approx(row["after"]["refined"])


@pytest.mark.slow
def test_a_run_in_the_background_stops_with_its_input_and_goes_on(data, tiny_file, whole, tmp_path):
    """Without a terminal standard input ends at once: the run stops after one iteration."""
    given = start(data, tmp_path / "run", "--from", tiny_file)
    command = [sys.executable, "-m", "napari_hidiff.training", *map(str, given), "--background"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 130
    assert "--resume goes on from there" in done.stderr
    assert not (tmp_path / "run" / "model.safetensors").exists()
    (tmp_path / "run" / "arguments.json").write_text('{"name": "x", "arguments": []}')
    stems = [f"case{n:02}" for n in range(4)]
    assert stopped_run(tmp_path, stems) is not None
    assert stopped_run(tmp_path, stems[1:]) is None  # the set has changed since
    assert run(*given, "--resume").returncode == 0
    one, other = (load_file(folder / "model.safetensors") for folder in (tmp_path / "run", whole))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_few_images_hold_nothing_out_and_say_so(tiny_file, tmp_path):
    data = layouts.write_folder(tmp_path / "data", count=3)
    folder = tmp_path / "run"
    done = run(*start(data, folder, "--from", tiny_file))
    assert done.returncode == 0, done.stderr
    held = json.loads((folder / "report.json").read_text())["held_out"]
    assert held["cases"] == []
    assert "nothing was held out: that takes at least 4" in held["note"]
    assert len(load_model(folder / "model.safetensors").card.training["cases"]["train"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--width", "64"], "--width cannot be changed with --from: tiny was made with 32"),
        (["--no-xformer"], "--xformer cannot be changed with --from: tiny was made with True"),
        (["--centre", "even"], "--centre cannot be changed with --from: tiny was made with prior"),
        (["--size", "quick"], "leave --size and --paper out"),
        (["--from", "nowhere"], "no model 'nowhere'"),
    ],
)
def test_what_the_weights_do_not_allow_is_refused(data, tiny_file, tmp_path, options, message):
    done = run(*start(data, tmp_path / "run", "--from", tiny_file, *options))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_export_is_refused(data, tiny, tmp_path):
    tiny().save(tmp_path / "small.safetensors", export=True)
    with pytest.raises(InputError, match="is an export for inference"):
        fine_tuning.starting_model(str(tmp_path / "small.safetensors"))


def test_other_classes_or_channels_are_refused(tiny, tmp_path):
    named = open_dataset("folder", layouts.write_folder(tmp_path / "a", classes="polyp\n"))
    plain = open_dataset("folder", layouts.write_folder(tmp_path / "b"))
    several = open_dataset("folder", layouts.write_folder(tmp_path / "c", labels=3))
    card = tiny().card
    assert fine_tuning.adapted(plain, card).classes == ("background", "vessel")
    with pytest.raises(InputError, match="its classes are vessel, theirs polyp"):
        fine_tuning.adapted(named, card)
    with pytest.raises(InputError, match="its classes are vessel, theirs class 1, class 2"):
        fine_tuning.adapted(several, card)
    with pytest.raises(InputError, match="its channels are red, theirs red, green, blue"):
        fine_tuning.adapted(plain, tiny(channels=1).card)


def test_every_fourth_is_held_out_and_stays_so(tiny):
    from pathlib import Path

    def cases(count):
        return [
            Case(f"n{i:02}", f"n{i // 2 if i > 8 else i:02}", (Path("x"),), Path("y"))
            for i in range(count)
        ]

    card = tiny().card
    first = fine_tuning.dealt(cases(8), 0, card)
    held = {case.id for case in first["val"]}
    assert len(held) == 2
    assert held == {case.id for case in fine_tuning.dealt(cases(8)[::-1], 0, card)["val"]}
    assert held != {case.id for case in fine_tuning.dealt(cases(8), 1, card)["val"]}
    seen = {split: [case.id for case in first[split]] for split in ("train", "val")}
    tuned = dataclasses.replace(card, training={"from": {}, "cases": seen})
    again = fine_tuning.dealt(cases(12), 0, tuned)
    assert held <= {case.id for case in again["val"]}
    assert not {case.id for case in again["val"]} & set(seen["train"])
    groups = [{case.group for case in again[name]} for name in ("train", "val")]
    assert not groups[0] & groups[1]


def test_a_recipe_takes_the_model_s_networks(tiny):
    card = tiny().card
    recipe = fine_tuning.tuned(RECIPES["folder"], card, "tiny", {"crop": 64})
    assert (recipe.width, recipe.stem, recipe.crop, recipe.folds) == (32, 2, 64, 0)
    assert recipe.start == "tiny"
    assert fine_tuning.tuned(RECIPES["folder"], tiny(2, 1, 3).card, "tiny", {}).slices == 3
    assert recipe.iterations == fine_tuning.TUNE["iterations"]
