"""Units of length: whatever a layer or a file has them in, mm are right when they come back."""

import nibabel
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels
from npe2 import PluginManager

from napari_hidiff._qt.files import export
from napari_hidiff.errors import InputError
from napari_hidiff.io.registry import read
from napari_hidiff.io.tiff import read_tiff
from napari_hidiff.io.volume import Source, millimetres
from napari_hidiff.io.write import write_labels

FACTORS = {"nm": 1e-6, "um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0, "inch": 25.4}
FILES = ("m_mask.tif", "m_mask.npz", "m_mask.nii.gz")


@pytest.fixture(autouse=True)
def plugins():
    PluginManager.instance().discover()


def test_lengths_have_many_names_and_pixels_are_none():
    for name in ("um", "µm", "μm", "micron", "microns", "Micron", "\\u00B5m", "micrometer"):
        assert millimetres(name) == pytest.approx(1e-3)
    for name, factor in (("Millimeter", 1), ("cm", 10), ("meter", 1000), ("in", 25.4), ("Å", 1e-7)):
        assert millimetres(name) == pytest.approx(factor)
    for name in ("pixel", "px", "", "unknown", "sec", "mm**9999999999", None):
        assert millimetres(name) is None


@pytest.mark.parametrize("unit", FACTORS)
@pytest.mark.parametrize("name", FILES)
def test_exported_masks_state_mm(tmp_path, unit, name):
    facts = {"scale": (0.5, 0.2, 0.3), "units": (unit,) * 3}
    mask = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    export(tmp_path / name, Labels(mask, **facts), Image(np.zeros((2, 3, 4)), **facts), None)
    wanted = np.array(facts["scale"]) * FACTORS[unit]
    got = read(tmp_path / name)
    np.testing.assert_allclose(got.spacing, wanted, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got.affine[:3, :3], axis=0), wanted[::-1], rtol=1e-5)
    (again,) = ViewerModel().open(tmp_path / name, plugin="napari-hidiff")
    np.testing.assert_allclose(again.scale, facts["scale"])
    assert [millimetres(one) for one in again.units] == pytest.approx([FACTORS[unit]] * 3)


@pytest.mark.parametrize("name", FILES)
def test_napari_saves_layers_of_any_unit_and_of_several(tmp_path, name):
    viewer = ViewerModel()
    viewer.add_labels(np.ones((2, 3, 4), np.uint8), scale=(5, 2, 3), units=("cm", "um", "nm"))
    assert viewer.layers.save(str(tmp_path / name), plugin="napari-hidiff")
    np.testing.assert_allclose(read(tmp_path / name).spacing, (50, 2e-3, 3e-6), rtol=1e-5)


def test_other_programs_read_the_same_sizes(tmp_path):
    facts = {"scale": (0.2, 0.3), "units": ("um", "um")}
    layer, image = Labels(np.ones((3, 4), np.uint8), **facts), Image(np.zeros((3, 4)), **facts)
    for suffix in (".tif", ".npz", ".nii"):
        export(tmp_path / f"m{suffix}", layer, image, None)
    with tifffile.TiffFile(tmp_path / "m.tif") as tiff:
        above, below = tiff.pages.first.tags.valueof("XResolution")
        assert tiff.imagej_metadata["unit"] == "mm"
        assert below / above == pytest.approx(3e-4)
    header = nibabel.load(tmp_path / "m.nii").header
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_zooms()[:2] == pytest.approx((3e-4, 2e-4))
    with np.load(tmp_path / "m.npz") as archive:
        np.testing.assert_allclose(archive["spacing"][1:], (2e-4, 3e-4))
        np.testing.assert_allclose(np.diag(archive["affine"])[:2], (-3e-4, -2e-4))


def test_a_layer_in_pixels_states_no_length(tmp_path):
    write_labels(tmp_path / "m.tif", np.ones((3, 4), np.uint8))
    assert read_tiff(tmp_path / "m.tif").source.header["unit"] == "pixel"


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1e-3), ("mm", 1), ("meter", 1e3)])
def test_masks_of_nifti_images_in_any_unit(tmp_path, unit, factor):
    image = nibabel.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.diag([-3, 2, 5, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "i.nii")
    volume = read(tmp_path / "i.nii")
    for name in FILES:
        write_labels(tmp_path / name, np.ones((2, 3, 4), np.uint8), None, volume.source)
        got = read(tmp_path / name)
        np.testing.assert_allclose(got.spacing, np.array([5, 2, 3]) * factor, rtol=1e-5)
        sizes = np.linalg.norm(got.affine[:3, :3], axis=0)
        np.testing.assert_allclose(sizes, np.array([3, 2, 5]) * factor, rtol=1e-5)


@pytest.mark.parametrize(("unit", "factor"), [("\\u00B5m", 1e-3), ("nm", 1e-6), ("inch", 25.4)])
def test_tif_of_any_unit_gives_mm(tmp_path, unit, factor):
    facts = {"axes": "ZYX", "spacing": 2.0, "unit": unit}
    array = np.zeros((2, 3, 4), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", array, imagej=True, resolution=(4, 2), metadata=facts)
    volume = read(tmp_path / "s.tif")
    np.testing.assert_allclose(volume.spacing, np.array([2, 0.5, 0.25]) * factor, rtol=1e-5)
    written = write_labels(tmp_path / "m.npz", array, None, Source.from_dict(vars(volume.source)))
    np.testing.assert_allclose(read(written[0]).spacing, volume.spacing, rtol=1e-6)


def test_an_npz_may_have_its_sizes_in_the_affine_alone(tmp_path):
    image, affine = np.zeros((4, 20, 24)), np.diag([0.5, 0.6, 3, 1.0])
    np.savez(tmp_path / "a.npz", image=image, affine=affine)
    volume = read(tmp_path / "a.npz")
    assert (volume.spacing, volume.source.header["unit"]) == ((3.0, 0.6, 0.5), "mm")
    np.savez(tmp_path / "b.npz", image=image, affine=affine, spacing=(3, 0.6, 0.5))
    assert read(tmp_path / "b.npz").spacing == (3.0, 0.6, 0.5)
    np.savez(tmp_path / "c.npz", image=image[0], affine=affine, spacing=(0.6, 0.5))
    assert read(tmp_path / "c.npz").spacing == (3.0, 0.6, 0.5)
    np.savez(tmp_path / "d.npz", image=image, affine=affine, spacing=(3, 0.5, 0.6))
    with pytest.raises(InputError, match=r"d\.npz: its spacing, 3 x 0\.5 x 0\.6, contradicts"):
        read(tmp_path / "d.npz")
