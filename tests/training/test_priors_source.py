"""Priors from outside: masks and probabilities of other software, and TorchScript networks."""

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from dicom_files import segmented, write
from PIL import Image
from torch import nn
from torch.nn import functional as F

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.preprocessing import soften
from napari_hidiff.masks import Label
from napari_hidiff.training.priors import open_prior_source

SOFTEN = {"sigma": 1.5, "confidence": 0.85}


def a_card(labels=3, channels=2):
    return Card(
        "tiny",
        tuple(Label(f"label {i}", "#000000") for i in range(labels)),
        tuple(f"channel {i}" for i in range(channels)),
        soften=SOFTEN,
    )


def labels_of(shape, labels=3, seed=0):
    return np.random.default_rng(seed).integers(0, labels, shape).astype(np.uint8)


def image_of(depth=1, height=20, width=28, channels=2, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(depth, channels, height, width)).astype(np.float32)


def softened(mask, card):
    return np.stack([soften(plane, card.outputs, **SOFTEN) for plane in mask])


def write_nifti(path, array, orientation="RAS"):
    """Write [Z, Y, X] as NIfTI whose voxels run as ``orientation`` says; RAS is the canonical."""
    orient = nibabel.orientations
    stored = nibabel.Nifti1Image(array.transpose(2, 1, 0), np.eye(4))
    turn = orient.ornt_transform(orient.axcodes2ornt("RAS"), orient.axcodes2ornt(orientation))
    nibabel.save(stored.as_reoriented(turn), path)


@pytest.mark.parametrize("labels", [2, 3])
def test_masks_of_pictures_are_softened_by_the_card_s_rule(tmp_path, labels):
    card, mask = a_card(labels), labels_of((20, 28), labels)
    Image.fromarray(mask).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", mask)
    (tmp_path / "patient" / "left").mkdir(parents=True)
    np.save(tmp_path / "patient" / "left" / "c.npy", mask)
    write_nifti(tmp_path / "d.nii.gz", mask[None])
    source = open_prior_source(tmp_path, card)
    for case in ("a", "b", "patient/left/c", "d"):
        prior = source.prior(case, image_of())
        assert prior.dtype == np.float32
        assert prior.shape == (1, card.outputs, 20, 28)
        np.testing.assert_array_equal(prior, softened(mask[None], card))


def test_a_white_mask_of_one_class_counts_as_one(tmp_path):
    mask = labels_of((20, 28), 2)
    Image.fromarray(mask * 255).save(tmp_path / "a.png")
    prior = open_prior_source(tmp_path, a_card(2)).prior("a", image_of())
    assert np.array_equal(prior[0, 0] >= 0.5, mask == 1)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_nifti_volumes_come_in_canonical_orientation(tmp_path, orientation, dtype):
    card, mask = a_card(), labels_of((5, 20, 28))
    write_nifti(tmp_path / "case 1.nii.gz", mask.astype(dtype), orientation)
    prior = open_prior_source(tmp_path, card).prior("case 1", image_of(depth=5))
    np.testing.assert_array_equal(prior, softened(mask, card))


def test_segmentations_of_dicom_come_in_canonical_orientation(tmp_path):
    card, mask = a_card(), labels_of((5, 20, 28))
    stored = mask[:, ::-1, ::-1]  # axial files run to the left and to the back
    frames = np.concatenate([(stored == label).astype(np.uint8) for label in (1, 2)])
    heights = [*range(100, 110, 2)] * 2
    write(tmp_path, segmented(frames, [1] * 5 + [2] * 5, heights))
    (tmp_path / "im000.dcm").rename(tmp_path / "case 1.dcm")
    prior = open_prior_source(tmp_path, card).prior("case 1", image_of(depth=5))
    np.testing.assert_array_equal(prior, softened(mask, card))


def test_probabilities_are_taken_as_they_are(tmp_path):
    values = np.random.default_rng(0).random((3, 5, 20, 28))
    values /= values.sum(0)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "b.npz", values.astype(np.float16))
    np.savez_compressed(tmp_path / "c.npz", probabilities=values, other=np.zeros(3))
    np.save(tmp_path / "d.npy", values[:, 0])
    source = open_prior_source(tmp_path, a_card())
    for case in "abc":
        prior = source.prior(case, image_of(depth=5))
        assert prior.dtype == np.float32
        assert prior.shape == (5, 3, 20, 28)
        np.testing.assert_allclose(prior, values.swapaxes(0, 1), atol=1e-3)
    np.testing.assert_allclose(source.prior("d", image_of())[0], values[:, 0], atol=1e-6)


def write_wrong(folder, name):
    mask, odd = labels_of((20, 28)), np.full((3, 20, 28), 0.5)
    write = {
        "size.png": lambda p: Image.fromarray(mask[:19]).save(p),
        "label.png": lambda p: Image.fromarray(mask + 5).save(p),
        "label.npy": lambda p: np.save(p, mask.astype(np.int16) - 1),
        "depth.nii.gz": lambda p: write_nifti(p, labels_of((4, 20, 28))),
        "half.nii.gz": lambda p: write_nifti(p, np.full((1, 20, 28), 0.5, np.float32)),
        "torn.nii.gz": lambda p: p.write_bytes(b"no volume"),
        "classes.npy": lambda p: np.save(p, odd[:2]),
        "range.npy": lambda p: np.save(p, odd * 3),
        "nan.npy": lambda p: np.save(p, odd * np.nan),
        "many.npz": lambda p: np.savez(p, a=odd, b=odd),
        "text.npy": lambda p: np.save(p, np.array(["a", "b"])),
        "object.npy": lambda p: np.save(p, np.array([{}, 1]), allow_pickle=True),
        "torn.npy": lambda p: p.write_bytes(b"no array"),
    }
    write[name](folder / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("size.png", "1 x 19 x 28 pixels, but the image has 1 x 20 x 28"),
        ("label.png", "unknown label 7; known are 0 to 2"),
        ("label.npy", "unknown label -1; known are 0 to 2"),
        ("depth.nii.gz", "4 x 20 x 28 pixels, but the image has 1 x 20 x 28"),
        ("half.nii.gz", "one whole class number per voxel"),
        ("torn.nii.gz", "cannot be read as NIfTI"),
        ("classes.npy", r"shape \(2, 20, 28\); the image needs \(3, 1, 20, 28\): 3 channels"),
        ("range.npy", "between 0 and 1"),
        ("nan.npy", "between 0 and 1"),
        ("many.npz", "holds a, b; wanted is one array, or one named probabilities"),
        ("text.npy", r"holds <U1 \(2,\); wanted labels"),
        ("object.npy", "cannot be read as an array"),
        ("torn.npy", "cannot be read as an array"),
    ],
)
def test_files_that_do_not_fit_are_named_in_one_line(tmp_path, name, message):
    write_wrong(tmp_path, name)
    source = open_prior_source(tmp_path, a_card())
    with pytest.raises(InputError, match=message) as caught:
        source.prior(name.partition(".")[0], image_of())
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_case_without_a_file_or_with_two_is_named(tmp_path):
    Image.fromarray(labels_of((20, 28))).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", labels_of((20, 28)))
    source = open_prior_source(tmp_path, a_card())
    with pytest.raises(InputError, match=r"a\.png and a\.npy are both there; keep one"):
        source.prior("a", image_of())
    with pytest.raises(InputError, match=r"p1/left: no mask of this case; wanted is one of \.png,"):
        source.prior("p1/left", image_of())


class Net(nn.Module):
    """A stride of 2 and back: sizes that are odd would not come back."""

    def __init__(self, channels=2, classes=3):
        super().__init__()
        self.down = nn.Conv2d(channels, 4, 3, 2, 1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.ConvTranspose2d(4, classes, 2, 2)

    def forward(self, x):
        return self.head(self.norm(self.down(x)))


class Two(Net):
    def forward(self, x):
        features = self.norm(self.down(x))
        return self.head(features), features


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("kind", [Net, Two])
def test_a_torchscript_network_gives_its_probabilities(tmp_path, labels, kind):
    torch.manual_seed(0)
    card = a_card(labels)
    network = kind(classes=card.outputs)
    network.norm.running_mean.fill_(0.3)
    torch.jit.script(network.train()).save(tmp_path / "network.ts")  # read in evaluation mode
    image = image_of(depth=3, height=21, width=27)
    prior = open_prior_source(tmp_path / "network.ts", card).prior("a", image)
    assert prior.dtype == np.float32
    x = F.pad(torch.from_numpy(image), (2, 3, 5, 6), mode="replicate")
    with torch.no_grad():
        network.eval()
        logits = network.head(network.norm(network.down(x)))[..., 5:26, 2:29].numpy()
    oracle = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    oracle = 1 / (1 + np.exp(-logits)) if labels == 2 else oracle
    np.testing.assert_allclose(prior, oracle, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Net(channels=3), r"fails on case a, an image \(1, 2, 32, 32\): .*expected input"),
        (Net(classes=2), r"gives \(1, 2, 32, 32\) for case a; wanted \(1, 3, 32, 32\)"),
        (nn.Sequential(nn.Conv2d(2, 3, 1), nn.MaxPool2d(2)), r"wanted \(1, 3, 32, 32\)"),
    ],
)
def test_networks_that_do_not_fit_get_one_line(tmp_path, network, message):
    file = tmp_path / "network.pt"
    torch.jit.script(network).save(file)
    with pytest.raises(InputError, match=message) as caught:
        open_prior_source(file, a_card()).prior("a", image_of())
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_source_gets_one_line(tmp_path):
    torch.save(Net().state_dict(), tmp_path / "weights.pt")
    (tmp_path / "text.ts").write_text("no network")
    (tmp_path / "model.onnx").write_text("no network")
    (tmp_path / "empty").mkdir()
    for name, message in [
        ("weights.pt", "is not TorchScript"),
        ("text.ts", "is not TorchScript"),
        ("model.onnx", r"a folder of masks, or a TorchScript file \(.pt or .ts\)"),
        ("nowhere", "a folder of masks, or a TorchScript file"),
        ("empty", "holds no masks; wanted are files of .png"),
    ]:
        with pytest.raises(InputError, match=message) as caught:
            open_prior_source(tmp_path / name, a_card())
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
