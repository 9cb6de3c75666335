"""DICOM segmentations as napari's layers: saved over an opened series, opened again, offered."""

import numpy as np
import pydicom
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels
from npe2 import PluginManager
from volume_files import OBLIQUE, write_series

from napari_hidiff._qt.files import FILTERS, offered, placement, suggestion, write_layer
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff.errors import InputError
from napari_hidiff.io.dicom.segmentation import is_installed
from napari_hidiff.io.record import CLASSES

PLUGIN = "napari-hidiff"
installed = pytest.mark.skipif(
    not is_installed(), reason="highdicom (extra dicom-seg) is not installed"
)


@pytest.fixture(autouse=True)
def plugins():
    manager = PluginManager.instance()
    manager.discover()
    return manager


@pytest.fixture
def bench(tmp_path, tiny):
    """A session on an oblique series, with a mask painted at random."""
    stored = np.random.default_rng(0).integers(0, 4000, (4, 20, 24)).astype(np.uint16)
    write_series(tmp_path / "chest", stored, axes=OBLIQUE, order=[2, 0, 3, 1])
    viewer = ViewerModel()
    (image,) = viewer.open(tmp_path / "chest", plugin=PLUGIN)
    annotated = AnnotatedImage(viewer, image, tiny(4, 1).card, lambda: False, lambda: None)
    mask = annotated.mask.data
    mask[...] = np.random.default_rng(3).integers(0, 4, mask.shape)
    return annotated


def test_dicom_is_offered_for_a_series_alone(bench):
    assert ".dcm" in offered(bench.image)
    assert offered(bench.image) == FILTERS
    assert ".dcm" not in offered(Image(np.zeros((4, 5))))
    assert suggestion(bench.image, bench.mask).name == "chest_mask.nii.gz"


@installed
def test_a_saved_mask_opens_over_its_series(bench, tmp_path):
    bench.export(tmp_path / "chest_mask.dcm")
    (again,) = ViewerModel().open(tmp_path / "chest_mask.dcm", plugin=PLUGIN)
    assert isinstance(again, Labels)
    assert again.name == "chest_mask"
    np.testing.assert_array_equal(again.data, bench.mask.data)
    np.testing.assert_allclose(
        placement(again)["world"], placement(bench.image)["world"], atol=1e-6
    )
    assert [kind["name"] for kind in again.metadata[CLASSES]][1:] == ["vessel", "disc", "lesion"]
    for label in (1, 2, 3):
        np.testing.assert_allclose(again.get_color(label), bench.mask.get_color(label))
    made = pydicom.dcmread(tmp_path / "chest_mask.dcm")
    assert [one.SegmentLabel for one in made.SegmentSequence] == ["vessel", "disc", "lesion"]


@installed
def test_naparis_own_save_writes_it_too(bench, tmp_path):
    _, facts, _ = bench.mask.as_layer_data_tuple()
    facts["metadata"] = {**facts["metadata"], **bench.image.metadata}
    path = tmp_path / "own.dcm"
    assert write_layer(str(path), bench.mask.data, facts) == [str(path)]
    (again,) = ViewerModel().open(path, plugin=PLUGIN)
    np.testing.assert_array_equal(again.data, bench.mask.data)


@installed
def test_a_mask_of_no_series_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs the DICOM series of the mask"):
        write_layer(str(tmp_path / "own.dcm"), np.zeros((3, 4, 5), np.uint8), {})
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(is_installed(), reason="highdicom is installed")
def test_without_highdicom_the_window_says_how_to_install_it(bench, tmp_path):
    with pytest.raises(InputError, match=r"napari-hidiff\[dicom-seg\]"):
        bench.export(tmp_path / "chest_mask.dcm")
    assert not (tmp_path / "chest_mask.dcm").exists()
