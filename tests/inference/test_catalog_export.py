"""An export: a smaller file, the same values on both engines, and no way back to training."""

import json
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_hidiff.cli import app
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import MODELS, export_file, load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label
from napari_hidiff.networks.binary import BinaryConv2d

BUNDLED = ("chase-vessels", "hippocampus")
"""Those that are bundled in full; ``universal`` is an export."""
CHANNELS = {"chase-vessels": 3, "hippocampus": 1, "tiny": 3}


@pytest.fixture(scope="module")
def files(tiny_file, tmp_path_factory):
    """Latent file and export of a model by its name."""
    folder = tmp_path_factory.mktemp("exports")
    sources = {name: MODELS / f"{name}.safetensors" for name in BUNDLED} | {"tiny": tiny_file}
    found = {name: (source, folder / f"{name}.safetensors") for name, source in sources.items()}
    for source, target in found.values():
        export_file(str(source), target)
    return found


@pytest.fixture
def changed(files, tmp_path):
    """``changed(form, name=tensor)``: the tiny export with another form or other tensors."""

    def write(form="bits", **tensors):
        path = tmp_path / "changed.safetensors"
        with safe_open(files["tiny"][1], "pt") as file:
            metadata = file.metadata() | {"weights": form}
        save_file(load_file(files["tiny"][1]) | tensors, path, metadata=metadata)
        return path

    return write


@pytest.fixture
def call(monkeypatch, capsys):
    """``call(*arguments)`` -> exit status, stdout, stderr of ``napari-hidiff export``."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["napari-hidiff", "export", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            app.main()
        return left.value.code, *capsys.readouterr()

    return run


def picture(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, channels), np.uint8)
    return pixels if channels > 1 else pixels[..., 0]


def first_scale(file):
    return next(name for name in load_file(file) if name.endswith(".scale"))


@pytest.mark.parametrize("name", BUNDLED)
def test_the_file_of_a_bundled_model_shrinks_to_half(files, name):
    source, target = files[name]
    assert target.stat().st_size < 0.5 * source.stat().st_size
    before, after = load_file(source), load_file(target)
    bits = [key.removesuffix(".bits") for key in after if key.endswith(".bits")]
    assert {key for key in before if key not in after} == {f"{layer}.weight" for layer in bits}
    refiner = load_model(source, "cpu", "torch").refiner
    assert len(bits) == sum(isinstance(part, BinaryConv2d) for part in refiner.modules())
    for layer in bits:
        assert 16 * after[f"{layer}.bits"].nbytes == before[f"{layer}.weight"].nbytes
    assert all(torch.equal(before[key], after[key]) for key in before if key in after)


@pytest.mark.usefixtures("own_scale")
@pytest.mark.parametrize("engine", ["torch", "packed"])
@pytest.mark.parametrize("name", CHANNELS)
def test_results_are_those_of_the_model_bit_for_bit(files, name, engine):
    original, export = (load_model(file, "cpu", engine) for file in files[name])
    assert (original.exported, export.exported) == (False, True)
    assert export.card == original.card
    image = picture(CHANNELS[name])
    assert np.array_equal(export.prior(image), original.prior(image))
    found, expected = (
        model.refine(image, sampler="ddim", steps=3, samples=2, seed=4)
        for model in (export, original)
    )
    assert found.engine == expected.engine == engine
    assert np.array_equal(found.probability, expected.probability)
    assert not np.array_equal(found.probability, original.prior(image)), "the refiner does work"


def test_the_stored_scale_counts_not_the_mean_of_the_weights():
    layer = BinaryConv2d(32, 64, 3, 1, 8)
    generator = torch.Generator().manual_seed(0)
    signs = torch.rand(layer.weight.shape, generator=generator) < 0.5
    scale = torch.rand(64, generator=generator)
    scale[-1] = 0
    layer.set_signs(signs, scale)
    assert torch.equal(layer.scale, scale)
    assert torch.equal(layer.weight[:-1] >= 0, signs[:-1])
    assert not torch.equal(layer.weight.abs().flatten(1).mean(1), scale), "this is rounded"
    x, time = torch.randn(2, 32, 9, 9, generator=generator), torch.zeros(1, 8)
    expected = layer.sums(x, time) * scale[:, None, None]
    torch.testing.assert_close(layer(x, time), expected)
    assert "stored_scale" not in layer.state_dict()


def test_an_export_stays_one_when_it_is_saved_or_exported_again(files, tmp_path):
    export = files["chase-vessels"][1]
    model = load_model(export, "cpu", "torch").with_card(name="renamed")
    model.save(tmp_path / "saved.safetensors")
    export_file(str(export), tmp_path / "exported.safetensors")
    for again in ("saved", "exported"):
        path = tmp_path / f"{again}.safetensors"
        assert load_model(path, "cpu", "torch").exported
        first, second = load_file(export), load_file(path)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert load_model(tmp_path / "saved.safetensors", "cpu").card.name == "renamed"


def test_an_unsaved_model_is_exported_as_its_file_would_be(tiny, tmp_path):
    """Weights of float32 lose a sign on their way to float16, where a small one becomes -0."""
    model = HiDiff.create(tiny(labels=3).card)
    layer = next(part for part in model.refiner.modules() if isinstance(part, BinaryConv2d))
    with torch.no_grad():
        layer.weight.view(-1)[:8] = -1e-9
    direct, latent, after = (tmp_path / f"{n}.safetensors" for n in ("direct", "latent", "after"))
    model.save(direct, export=True)
    model.save(latent)
    export_file(str(latent), after)
    assert not model.exported
    first, second = load_file(direct), load_file(after)
    assert all(torch.equal(first[key], second[key]) for key in second)


def test_training_is_refused_with_one_line(files):
    original, export = (load_model(file, "cpu", "torch") for file in files["tiny"])
    original.check_trainable()
    with pytest.raises(InputError, match=r"^tiny is an export for inference.*made from$") as caught:
        export.check_trainable()
    assert "\n" not in str(caught.value)


def test_an_export_is_not_published(files, tmp_path):
    from napari_hidiff.training.publish import publish_command

    with pytest.raises(InputError, match="export for inference"):
        publish_command(files["tiny"][1], tmp_path, "named")
    assert not list(tmp_path.iterdir())


def test_a_real_refiner_has_nothing_to_export(tmp_path):
    labels = (Label("background", "#000000"), Label("spot", "#ff0000"))
    real = HiDiff.create(Card("real", labels, ("grey",), refiner={"convolution": "real"}))
    real.save(tmp_path / "real.safetensors")
    with pytest.raises(InputError, match="real has no binary layers"):
        export_file(str(tmp_path / "real.safetensors"), tmp_path / "small.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["real.safetensors"]


def test_broken_exports_get_one_line(files, changed, tmp_path):
    export = files["tiny"][1]
    scale = first_scale(export)
    bits, held = scale.replace(".scale", ".bits"), load_file(export)
    cases = [
        ({"form": "ternary"}, "holds weights as 'ternary', which this version"),
        ({"form": "latent"}, "do not fit the card"),
        ({bits: held[bits][:, :-1].clone()}, "bits of .* are uint8 .*, not uint8"),
        ({bits: held[bits][1:].clone()}, "bits of .* are uint8"),
        ({bits: held[bits].float()}, "bits of .* are float32"),
        ({scale: held[scale][1:].clone()}, "scales of .* are float32 .*, not float32"),
        ({scale: held[scale].half()}, "scales of .* are float16"),
        ({scale: held[scale] * np.nan}, "no magnitudes"),
        ({scale: -1 - held[scale]}, "no magnitudes"),
        ({"refiner.extra": torch.zeros(1)}, "do not fit the card"),
    ]
    for change, line in cases:
        with pytest.raises(InputError, match=line) as caught:
            load_model(changed(**change), "cpu", "torch")
        assert "\n" not in str(caught.value)
    with safe_open(export, "pt") as file:
        metadata = file.metadata()
    path = tmp_path / "lacking.safetensors"
    for lacking in (bits, scale):
        save_file({k: v for k, v in held.items() if k != lacking}, path, metadata=metadata)
        with pytest.raises(InputError, match="do not fit the card"):
            load_model(path, "cpu", "torch")
    path.write_bytes(export.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a readable model file"):
        load_model(path, "cpu", "torch")


def test_the_command_writes_an_export_and_says_how_large_it_is(call, tmp_path):
    target = tmp_path / "small.safetensors"
    status, out, err = call("chase-vessels", target)
    assert (status, err) == (0, "")
    assert out == f"{target}: 3.2 MB, the model 6.6 MB\n"
    assert load_model(target, "cpu", "torch").exported


def test_the_command_prints_one_json_object(call, files, tmp_path):
    source, target = files["tiny"][0], tmp_path / "small.safetensors"
    status, out, err = call(source, target, "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report.pop("command").startswith("napari-hidiff export")
    sizes = {"model": source.stat().st_size, "file": target.stat().st_size}
    assert report == {"model": str(source), "file": str(target), "bytes": sizes}


def test_the_command_replaces_nothing_unasked_and_never_the_model(call, files, tmp_path):
    source, target = tmp_path / "mine.safetensors", tmp_path / "small.safetensors"
    source.write_bytes(files["tiny"][0].read_bytes())
    target.write_bytes(b"mine")
    status, out, err = call(source, target)
    assert (status, out) == (2, "")
    assert err.endswith("small.safetensors: exists already; --overwrite replaces it\n")
    assert target.read_bytes() == b"mine"
    assert call(source, target, "--overwrite")[0] == 0
    assert load_model(target, "cpu", "torch").exported
    status, _, err = call(source, source, "--overwrite")
    assert status == 2
    assert "is the model itself" in err
    assert source.read_bytes() == files["tiny"][0].read_bytes()


def test_bad_arguments_of_the_command_are_one_line_and_status_2(call, files, tmp_path):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "text.safetensors").write_text("not a model")
    for model, target, line in (
        ("unheard-of", "new.safetensors", "no model 'unheard-of'"),
        (tmp_path / "text.safetensors", "new.safetensors", "not a readable model file"),
        ("chase-vessels", "new.pt", "a model file ends in .safetensors"),
        (files["tiny"][0], "none/new.safetensors", "cannot be written: No such file"),
    ):
        status, out, err = call(model, tmp_path / target)
        assert (status, out) == (2, "")
        assert line in err
        assert len(err.splitlines()) == 1
    status, _, err = call(files["tiny"][0], tmp_path / "folder.safetensors", "--overwrite")
    assert status == 2
    assert "cannot be written" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.safetensors", "text.safetensors"]
