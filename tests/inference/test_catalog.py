"""Which models there are; what is copied into the user's folder, and what is refused."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import call
from safetensors.torch import load_file, save_file

import napari_hidiff
from napari_hidiff.cli import app
from napari_hidiff.errors import InputError
from napari_hidiff.inference import catalog
from napari_hidiff.inference.card import card_rows, card_scores
from napari_hidiff.inference.catalog import load_model

BUNDLED = ["chase-vessels", "hippocampus", "polyps", "universal"]


def models(*arguments):
    return call(app.main, "models", *arguments)


def test_a_copy_is_found_by_its_name_everywhere(tiny_file):
    assert napari_hidiff.available_models() == BUNDLED
    added = catalog.add(tiny_file, "mine")
    assert added.path.read_bytes() == tiny_file.read_bytes()
    assert napari_hidiff.available_models() == [*BUNDLED, "mine"]
    assert load_model("mine", engine="torch").card.name == "tiny"
    assert catalog.entry("mine").kind == "yours"
    assert catalog.entry(tiny_file).kind == "file"
    assert catalog.remove("mine") == added.path
    with pytest.raises(InputError, match="no model 'mine'"):
        load_model("mine")


def test_nothing_that_is_no_sound_model_gets_in(tiny_file, tmp_path, monkeypatch):
    plain = tmp_path / "pickle.safetensors"
    plain.write_bytes(pickle.dumps({"a": 1}))
    saved = tmp_path / "state.pt"
    torch.save({"a": torch.zeros(1)}, saved)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_file.read_bytes()[:-100])
    bare = tmp_path / "bare.safetensors"
    save_file({"a": torch.zeros(1)}, bare)
    other = tmp_path / "other.safetensors"
    tensors = load_file(tiny_file)
    tensors.pop(next(name for name in tensors if name.endswith(".weight")))
    save_file(tensors, other, {"card": catalog.read_card(tiny_file).to_json()})
    for file, message in (
        (plain, "is a pickle"),
        (saved, "is a pickle"),
        (cut, "is not a readable model file"),
        (bare, "no card"),
        (other, "do not fit the card"),
        (tmp_path / "none.safetensors", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            catalog.add(file)
    with pytest.raises(InputError, match="is a pickle"):
        load_model(plain)
    assert not catalog.folder().exists() or not list(catalog.folder().iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"refiner": {"width": 31}},
        {"refiner": {"width": 32, "stem": 2, "threshold": 1.0}},
        {"segmentor": {"name": "unet", "filters": [4, 4, 8, 8, 8, 8], "threshold": 0}},
        {"segmentor": {"name": "unet", "threshold": "half"}},
        {"segmentor": {}},
        {"diffusion": {"steps": "ten"}},
        {"diffusion": {"speed": 1}},
        {"intensity": {"rule": "magic"}},
    ],
)
def test_a_card_that_builds_no_model_is_one_line(tiny_file, tmp_path, change):
    card = {**json.loads(catalog.read_card(tiny_file).to_json()), **change}
    file = tmp_path / "odd.safetensors"
    save_file(load_file(tiny_file), file, {"card": json.dumps(card)})
    with pytest.raises(InputError) as raised:
        load_model(file, device="cpu", engine="torch")
    assert "\n" not in str(raised.value)


def test_names(tiny_file):
    with pytest.raises(InputError, match="bundled model, which stays"):
        catalog.add(tiny_file, "hippocampus")
    for name in ("../up", "", ".hidden", "a/b", "end "):
        with pytest.raises(InputError, match="cannot be a name"):
            catalog.add(tiny_file, name)
    first = catalog.add(tiny_file)
    assert first.name == "tiny"
    with pytest.raises(InputError, match="you have a model of this name"):
        catalog.add(tiny_file)
    catalog.add(tiny_file, overwrite=True)
    with pytest.raises(InputError, match="is in your folder of models already"):
        catalog.add(first.path)
    (catalog.folder() / "chase-vessels.safetensors").write_bytes(tiny_file.read_bytes())
    assert napari_hidiff.available_models() == [*BUNDLED, "tiny"]
    assert catalog.find_model("chase-vessels").parent == catalog.MODELS
    assert catalog.free_name("tiny") == "tiny-1"
    with pytest.raises(InputError, match="is bundled"):
        catalog.remove("chase-vessels")


def test_a_broken_file_is_listed_with_its_problem(tmp_path):
    catalog.folder().mkdir(parents=True)
    (catalog.folder() / "broken.safetensors").write_bytes(b"12345678")
    (one,) = (one for one in catalog.entries() if one.name == "broken")
    assert one.card is None
    assert "not a readable model file" in one.problem


def test_cards_are_read_and_a_missing_model_is_named_without_torch(tiny_file):
    catalog.add(tiny_file)
    script = (
        "import sys; from napari_hidiff.inference import catalog\n"
        "cards = [one.card.name for one in catalog.entries()]\n"
        "print(cards)\n"
        "try:\n    catalog.load_model('none')\nexcept ValueError as error:\n    print(error)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'tiny'" in done.stdout
    assert "no model 'none'" in done.stdout


def test_the_command(tiny_file, tmp_path):
    done = models("add", tiny_file, "--name", "mine")
    assert done.returncode == 0, done.stderr
    listed = json.loads(models("--json").stdout)
    assert [one["name"] for one in listed["models"]] == [*BUNDLED, "mine"]
    assert listed["models"][0]["classes"] == ["background", "vessel"]
    shown = models("show", "hippocampus").stdout
    for word in ("anterior", "#40a0ff", "CC-BY-SA 4.0", "40 to 59 x 31 to 43", "0.861", "6.6 MB"):
        assert word in shown
    card = json.loads(models("show", "mine", "--json").stdout)["card"]
    assert card["name"] == "tiny"
    assert "mine" in models().stdout
    for arguments in (("remove", "chase-vessels"), ("show", "no"), ("add", tmp_path / "no.pt")):
        done = models(*arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
    assert models("remove", "mine").returncode == 0
    assert napari_hidiff.available_models() == BUNDLED


def test_facts_and_scores_of_every_card(tiny_file):
    for name in BUNDLED:
        card = catalog.read_card(catalog.find_model(name))
        headings = [heading for heading, _ in card_rows(card)]
        for heading in ("Channels", "Image size", "Intensity", "Data", "Licence", "Attribution"):
            assert heading in headings
        about, rows = card_scores(card)
        if card.prompted:
            assert "from an empty mask" in about
            assert rows[0] == [
                "set",
                "objects",
                "strokes",
                *(f"after {n}" for n in (1, 2, 3, 5, 10)),
            ]
            assert "kvasir_polyp" in [row[0] for row in rows]
        else:
            assert "split test" in about
            assert rows[0][:2] == ["mask", "Dice"]
        assert {len(row) for row in rows} == {len(rows[0])}
    assert card_scores(catalog.read_card(Path(tiny_file))) == ("", [])
