"""A model as a file, and what it accepts and refuses."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import napari_hidiff
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label

CARD = Card(
    "tiny",
    (Label("background", "#000000"), Label("vessel", "#00d0ff")),
    ("red", "green", "blue"),
    refiner={"width": 32, "stem": 2},
)


@pytest.fixture(scope="module")
def model():
    return HiDiff.create(CARD, seed=3)


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    model.save(path)
    return path


def picture(height=40, width=52, channels=3, dtype=np.uint8):
    top = 255 if dtype == np.uint8 else 65535
    values = np.random.default_rng(1).integers(0, top, (height, width, channels))
    return values.astype(dtype)


def test_a_saved_model_refines_as_before(model, file):
    loaded = load_model(file, device="cpu")
    assert loaded.card == model.card
    again = load_model(file, device="cpu")
    image = picture()
    first, second = (m.refine(image, seed=2) for m in (loaded, again))
    assert np.array_equal(first.probability, second.probability)
    np.testing.assert_allclose(loaded.prior(image), model.prior(image), atol=2e-2)  # float16


def test_saving_twice_changes_nothing(file, tmp_path):
    copy = tmp_path / "copy.safetensors"
    load_model(file).save(copy)
    first, second = load_file(file), load_file(copy)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_the_same_seed_builds_the_same_model_and_leaves_the_global_one_alone():
    torch.manual_seed(0)
    before = torch.rand(1)
    torch.manual_seed(0)
    one, other = (HiDiff.create(CARD, seed=s) for s in (1, 1))
    assert torch.equal(torch.rand(1), before)
    pairs = zip(one.refiner.parameters(), other.refiner.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_bit_depth_gain_and_offset_do_not_matter(model):
    image = picture()
    prior = model.prior(image)
    for same in (
        image.astype(np.uint16) * 257,
        image.astype(np.float64) / 255,
        image.astype(np.int16) - 100,
    ):
        np.testing.assert_allclose(model.prior(same), prior, atol=1e-4)


def test_alpha_is_dropped(model):
    image = picture(channels=4)
    assert np.array_equal(model.prior(image), model.prior(image[..., :3]))


def test_a_second_look_at_the_same_image_does_not_segment_again(file):
    model = load_model(file)
    calls = []
    model.segmentor.register_forward_hook(lambda *_: calls.append(1))
    image = picture()
    prior = model.prior(image)
    result = model.refine(image, sampler="one-step")
    assert len(calls) == 1
    fresh = load_model(file).refine(image, sampler="one-step")
    assert np.array_equal(result.probability, fresh.probability)
    changed = image.copy()
    changed[0, 0] ^= 1
    assert not np.array_equal(model.prior(changed), prior)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (picture(channels=2), r"2 channels, the model was trained on 3 \(red, green, blue\)"),
        (picture()[..., 0], "has 1 channel, the model"),
        (picture(1, 1), "1 x 1 pixels; at least 16 x 16"),
        (np.zeros((0, 20, 3)), "0 x 20 pixels"),
        (np.full((20, 20, 3), np.nan), "NaN or infinite"),
        (np.full((20, 20, 3), np.inf), "NaN or infinite"),
        (np.zeros((2, 20, 20, 3)), r"2 dimensions, or 3 with channels last"),
        (np.full((20, 20, 3), "a"), "holds numbers, not"),
    ],
)
def test_images_that_cannot_be_read_get_one_line(model, image, message):
    for call in (model.check_image, model.prior, model.refine):
        with pytest.raises(InputError, match=message) as caught:
            call(image)
        assert "\n" not in str(caught.value)


def test_a_constant_image_is_no_error(model):
    assert np.isfinite(model.refine(np.full((33, 20, 3), 7, np.uint8)).probability).all()


def test_broken_files_get_one_line(file, tmp_path):
    content = file.read_bytes()
    for name, bytes_ in [
        ("truncated", content[: len(content) // 2]),
        ("empty", b""),
        ("text", b"not a model"),
    ]:
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(bytes_)
        with pytest.raises(InputError, match="not a readable model file") as caught:
            load_model(path)
        assert "\n" not in str(caught.value)
    bare = tmp_path / "bare.safetensors"
    save_file({"x": torch.zeros(1)}, bare)
    with pytest.raises(InputError, match="no card"):
        load_model(bare)
    other = tmp_path / "other.safetensors"
    save_file(load_file(file), other, metadata={"card": CARD.to_json().replace("32", "64")})
    with pytest.raises(InputError, match="do not fit the card"):
        load_model(other)
    odd = tmp_path / "odd.safetensors"
    save_file(load_file(file), odd, metadata={"card": '{"format": 99}'})
    with pytest.raises(InputError, match="another version"):
        load_model(odd)


def test_unknown_names_devices_and_engines(file):
    with pytest.raises(InputError, match="no model 'nowhere': neither a file nor bundled"):
        load_model("nowhere")
    with pytest.raises(InputError, match="device 'abacus' cannot be used"):
        load_model(file, device="abacus")
    with pytest.raises(InputError, match="engine must be one of"):
        load_model(file, engine="steam")


def test_an_estimate_grows_with_the_work(model):
    small, large = model.estimate((128, 128)), model.estimate((256, 256))
    assert large.seconds == pytest.approx(4 * small.seconds)
    assert large.bytes > small.bytes
    assert model.estimate((128, 128), sampler="one-step").seconds < small.seconds
    whole, tiled = model.estimate((2048, 2048)), model.estimate((4096, 4096))
    assert whole.bytes < tiled.bytes < 4 * whole.bytes, "tiles bound the memory"
    assert tiled.seconds > 4 * whole.seconds, "halos are counted"


def test_importing_the_package_loads_neither_torch_nor_qt():
    code = (
        "import sys, napari_hidiff; "
        "print([m for m in ('torch', 'qtpy', 'napari', 'monai') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert set(napari_hidiff.__all__) >= {"load_model", "HiDiff", "available_models"}
