"""``napari-hidiff replay`` of sessions of volumes, pictures and layers, from their files."""

from functools import partial

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from sessions import record, replay
from volume_files import affine_of, blob, write_nifti, write_series

from napari_hidiff import load_model
from napari_hidiff._qt.files import read_layer
from napari_hidiff.inference.stack import Stack
from napari_hidiff.io.images import read_mask
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.io.npz import read_npz
from napari_hidiff.io.registry import labels, read
from napari_hidiff.io.storage import SESSIONS

SHAPE = (64, 48, 5)
INDEX = (2, -1, -1)


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv(SESSIONS, str(tmp_path / "kept"))


@pytest.fixture
def call(monkeypatch, capsys):
    """``call(*arguments)`` -> exit status, stdout, stderr of ``napari-hidiff replay``."""
    return partial(replay, monkeypatch, capsys)


@pytest.fixture(scope="module")
def models(tiny, tmp_path_factory):
    """``models(channels)``: the file of a model of one class, and the model."""
    folder = tmp_path_factory.mktemp("models")

    def of(channels):
        path = folder / f"{channels}.safetensors"
        if not path.exists():
            tiny(2, channels).save(path)
        return path, load_model(path, device="cpu", engine="torch")

    return of


def four_channels(tmp_path):
    affine = affine_of("LPS", SHAPE, oblique=True)
    return write_nifti(tmp_path / "case.nii.gz", blob((*SHAPE, 4)), affine)


def test_channels_of_a_nifti_file_as_its_layer_has_them(call, models, tmp_path):
    path, (file, model) = four_channels(tmp_path), models(4)
    image = read_layer(path)[0]
    assert image.shape == (4, 5, 48, 64)
    _, mask = record(model, Stack([image], "first"), image, INDEX)
    out = tmp_path / "mask.nii.gz"
    status, said, err = call(path, "--model", file, "--output", out)
    assert (status, "every mask is the same" in said) == (0, True), err
    np.testing.assert_array_equal(labels(read_volume(out)), mask)
    np.testing.assert_array_equal(nibabel.load(out).affine, nibabel.load(path).affine)
    assert "vessel" in (tmp_path / "mask_labels.txt").read_text()


def test_channels_of_a_nifti_file_behind(call, models, tmp_path):
    """As ``viewer.add_image(files.read.read(path).array)`` shows them."""
    path, (file, model) = four_channels(tmp_path), models(4)
    image = read_volume(path).array
    _, mask = record(model, Stack([image], "last"), image, INDEX)
    out = tmp_path / "mask.npz"
    assert call(path, "--model", file, "--output", out)[0] == 0
    np.testing.assert_array_equal(read_npz(out).array, mask)


def test_a_series_of_dicom_files_by_its_folder_or_a_file(call, models, tmp_path):
    series, (file, model) = tmp_path / "chest", models(1)
    array = np.random.default_rng(0).integers(0, 900, (5, 48, 64)).astype(np.uint16)
    write_series(series, array, order=[3, 0, 4, 1, 2])
    image = read_layer(series)[0]
    _, mask = record(model, Stack([image]), image, INDEX, walk=True)
    out = tmp_path / "mask.nii"
    assert call(series, "--model", file, "--output", out)[0] == 0
    written = read_volume(out)
    np.testing.assert_array_equal(written.array, mask)
    np.testing.assert_allclose(written.affine, read(series).affine, atol=1e-4)
    one = sorted(series.iterdir())[1]
    assert call(one, "--model", file)[0] == 0


@pytest.mark.parametrize(
    ("shape", "spacing", "channels", "index"),
    [
        ((5, 48, 64), (3.0, 1.0, 1.0), 1, INDEX),
        ((48, 64), None, 1, INDEX[1:]),
        ((48, 64, 3), None, 3, INDEX[1:]),  # colours, from uint8
        ((5, 48, 64, 4), (3.0, 1.0, 1.0), 4, INDEX),
    ],
)
def test_arrays_of_npz(call, models, tmp_path, shape, spacing, channels, index):
    path, (file, model) = tmp_path / "case.npz", models(channels)
    kind = np.uint8 if channels == 3 else np.int16
    array = np.random.default_rng(0).integers(0, 250, shape).astype(kind)
    np.savez(path, image=array, **({} if spacing is None else {"spacing": spacing}))
    image = read_layer(path)[0]
    layout = {1: "none", 3: "last", 4: "first"}[channels]
    kept, mask = record(model, Stack([image], layout), image, index)
    out = tmp_path / "mask.tif"
    assert call(path, "--model", file, "--output", out)[0] == 0
    np.testing.assert_array_equal(tifffile.imread(out), mask)
    assert call(kept, path, "--model", file)[0] == 0


def test_a_layer_per_channel_in_the_order_of_the_model(call, models, tmp_path):
    file, model = models(4)
    affine = affine_of("RAS", SHAPE)
    names = ("red", "green", "blue", "infrared")
    paths = [
        write_nifti(tmp_path / f"{name}.nii.gz", blob(SHAPE, seed), affine)
        for seed, name in enumerate(names)
    ]
    arrays = [read_layer(path)[0] for path in paths]
    kept, mask = record(model, Stack(arrays, "apart"), arrays[2], INDEX, walk=True)
    out = tmp_path / "mask.nii.gz"
    assert call(*paths, "--model", file, "--output", out)[0] == 0
    np.testing.assert_array_equal(read_volume(out).array, mask)
    given = [word for path in paths for word in ("--image", path)]
    assert call(kept, *given, "--model", file)[0] == 0

    status, _, said = call(*paths[::-1], "--model", file)
    assert (status, "gives another mask than it did" in said) == (1, True)
    for few in (paths[2:3], paths[1:]):
        status, _, said = call(*few, "--model", file)
        assert status == 2
        assert "4 channels were layers of their own: give the file of each, in the order" in said
        assert f"not {len(few)}" in said
    small = write_nifti(tmp_path / "small.nii.gz", blob((64, 48, 4)), affine)
    status, _, said = call(*paths[:3], small, "--model", file)
    assert (status, "small.nii.gz: is not of the size of" in said) == (2, True)


@pytest.mark.parametrize("mode", ["1", "LA", "CMYK"])
def test_pictures_as_napari_shows_them(call, models, tmp_path, mode):
    """Not as this package reads them: bits are no bytes there, print colours are four."""
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 80, 3)).astype(np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    image = np.asarray(Image.open(path))
    channels = {"1": 1, "LA": 2, "CMYK": 4}[mode]
    file, model = models(channels)
    _, mask = record(model, Stack([image], "none" if mode == "1" else "last"), image)
    out = tmp_path / "mask.png"
    assert call(path, "--model", file, "--output", out)[0] == 0
    np.testing.assert_array_equal(read_mask(out), mask)


def test_what_cannot_be_read_or_written_is_one_line(call, models, tmp_path):
    path, (file, model) = four_channels(tmp_path), models(4)
    image = read_layer(path)[0]
    record(model, Stack([image], "first"), image, INDEX)
    status, _, said = call(path, "--model", file, "--output", tmp_path / "mask.jpg")
    assert (status, "masks are written as .nii.gz" in said) == (2, True)
    status, _, said = call(path, "--model", file, "--output", tmp_path / "mask.png")
    assert (status, "a mask of 3 axes is written as .tif or .nii.gz" in said) == (2, True)
    for name in ("gone.nii.gz", "gone.png", "gone.npz"):
        status, _, said = call(tmp_path / name)
        assert (status, said.count("\n"), f"{name}: no such file" in said) == (2, 1, True)
    for name in ("text.tif", "text.png", "text.npy", "text.nii", "text.npz"):
        (tmp_path / name).write_text("no image")
        status, _, said = call(tmp_path / name)
        assert (status, said.count("\n"), name in said) == (2, 1, True), said
