"""NRRD as pynrrd writes it: every voxel where the file says, segments of 3D Slicer with names."""

import nibabel
import nrrd
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from npe2 import PluginManager
from volume_files import blob, write_nifti

from napari_hidiff._qt.files import get_reader, suggestion
from napari_hidiff.batch.jobs import find_images
from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.io.record import CLASSES
from napari_hidiff.io.write import write_labels

SHAPE = (6, 5, 4)
STEPS = np.array([[0, 0.8, 0], [-0.6, 0, 0.1], [0.1, 0, 3.0]])
"""How far a step along i, j, k goes in the space of the file, oblique and in another order."""
ORIGIN = np.array([10.0, -20, 30])
SPACES = {
    "left-posterior-superior": (-1, -1, 1),
    "LAS": (-1, 1, 1),
    "right-anterior-superior": (1, 1, 1),
}


def write(path, array, space="left-posterior-superior", **header):
    facts = {"space": space, "space directions": STEPS, "space origin": ORIGIN}
    nrrd.write(str(path), array, facts | header)
    return path


@pytest.fixture
def viewer():
    PluginManager.instance().discover()
    return ViewerModel()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("um", 1e-3)])
def test_voxels_lie_as_nifti_has_them(tmp_path, space, unit, factor):
    array, affine = blob(SHAPE), np.eye(4)
    affine[:3, :3], affine[:3, 3] = STEPS.T, ORIGIN
    affine = np.diag([*SPACES[space], 1]) @ affine
    affine[:3] *= factor
    wanted = read_volume(write_nifti(tmp_path / "a.nii.gz", array, affine, codes=(0, 2)))
    got = registry.read(write(tmp_path / "a.nrrd", array, space, **{"space units": [unit] * 3}))
    np.testing.assert_array_equal(got.array, wanted.array)
    np.testing.assert_allclose(got.affine, wanted.affine, rtol=1e-5)
    np.testing.assert_allclose(got.spacing, wanted.spacing, rtol=1e-5)
    mask = (got.array > 0).astype(np.uint8)
    write_labels(tmp_path / "m.nii.gz", mask, None, got.source)
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), array > 0)
    np.testing.assert_allclose(written.affine, affine, rtol=1e-5)


def test_a_detached_file_finds_its_data(tmp_path):
    write(tmp_path / "a.nhdr", blob(SHAPE))
    write(tmp_path / "b.nrrd", blob(SHAPE))
    np.testing.assert_array_equal(
        registry.read(tmp_path / "a.nhdr").array, registry.read(tmp_path / "b.nrrd").array
    )


@pytest.mark.parametrize("kind", ["RGB-color", "vector", "list"])
def test_channels_come_last(tmp_path, kind):
    array = blob((2, *SHAPE))
    steps = np.vstack([np.full(3, np.nan), STEPS])
    facts = {"space directions": steps, "kinds": [kind, *["domain"] * 3]}
    got = registry.read(write(tmp_path / "a.nrrd", array, **facts)).array
    one = registry.read(write(tmp_path / "b.nrrd", array[1])).array
    np.testing.assert_array_equal(got[..., 1], one)


def test_without_a_space_it_is_as_stored_with_its_sizes(tmp_path):
    nrrd.write(str(tmp_path / "a.nrrd"), blob(SHAPE), {"spacings": [1, 2, 3], "units": ["cm"] * 3})
    volume = registry.read(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.array, blob(SHAPE).T)
    assert (volume.spacing, volume.source.header["unit"]) == ((30, 20, 10), "mm")
    nrrd.write(str(tmp_path / "b.nrrd"), blob(SHAPE[:2]))
    volume = registry.read(tmp_path / "b.nrrd")
    assert (volume.array.shape, volume.source.header["unit"]) == ((1, 5, 6), "pixel")


def test_segments_of_slicer_open_with_names_and_colours(viewer, tmp_path):
    mask = (np.arange(120).reshape(SHAPE) % 4).astype(np.uint8)
    segments = {}
    for number, (label, name) in enumerate(((1, "liver"), (3, "tumour"))):
        segments |= {
            f"Segment{number}_ID": name,
            f"Segment{number}_LabelValue": str(label),
            f"Segment{number}_Name": name,
            f"Segment{number}_Color": "1 0.5 0",
        }
    path = write(tmp_path / "a.seg.nrrd", mask, **segments)
    image = write(tmp_path / "a.nrrd", blob(SHAPE))
    (layer,) = viewer.open(path, plugin="napari-hidiff")
    (scan,) = viewer.open(image, plugin="napari-hidiff")
    assert isinstance(layer, Labels)
    names = [kind["name"] for kind in layer.metadata[CLASSES]]
    assert names == ["background", "liver", "label 2", "tumour"]
    np.testing.assert_array_equal(layer.data, registry.read(path).array)
    np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), scan.data_to_world((1, 2, 3)))
    assert suggestion(scan, layer) == tmp_path / "a_mask.nii.gz"
    assert find_images([tmp_path]) == [image]


def test_segments_that_overlap_are_refused(tmp_path):
    steps, layers = np.vstack([np.full(3, np.nan), STEPS]), np.zeros((2, *SHAPE), np.uint8)
    facts = {"space directions": steps, "kinds": ["list", *["domain"] * 3], "Segment0_ID": "a"}
    with pytest.raises(InputError, match=r"a\.seg\.nrrd: holds segments that overlap"):
        registry.read(write(tmp_path / "a.seg.nrrd", layers, **facts))


def test_what_is_wrong_is_one_line(tmp_path):
    good = write(tmp_path / "good.nrrd", blob((20, 20, 20))).read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 8
    (tmp_path / "bit.nrrd").write_bytes(bad)
    (tmp_path / "cut.nrrd").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.nrrd").write_text("no image")
    (tmp_path / "good.nrrd").unlink()
    write(tmp_path / "flat.nrrd", blob(SHAPE), **{"space directions": np.zeros((3, 3))})
    nrrd.write(str(tmp_path / "five.nrrd"), blob((2, 2, 2, 2, 2)))
    nrrd.write(str(tmp_path / "lost.nhdr"), blob(SHAPE))
    (tmp_path / "lost.raw.gz").unlink()
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 6
    for name in (*names, "none.nrrd"):
        with pytest.raises(InputError) as caught:
            registry.read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_metaimage_is_refused_with_what_to_do(viewer, tmp_path):
    (tmp_path / "a.mha").write_text("ObjectType = Image")
    assert get_reader(str(tmp_path / "a.mha")) is not None
    with pytest.raises(InputError, match=r"a\.mha: MetaImage is not read; save it as \.nii\.gz"):
        viewer.open(tmp_path / "a.mha", plugin="napari-hidiff")
