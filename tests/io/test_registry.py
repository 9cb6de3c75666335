"""Files as napari sees them: layers in, masks out, with every transform; no window needed."""

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers import Image, Labels
from npe2 import PluginManager
from PIL import Image as Picture
from volume_files import affine_of, blob, write_nifti, write_series

from napari_hidiff._qt.files import get_reader, placement, suggestion
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.layers.layer_data import check_layer, check_place
from napari_hidiff.errors import InputError
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.io.record import CLASSES
from napari_hidiff.io.volume import KEY
from napari_hidiff.io.write import write_labels

SHAPE = (18, 20, 6)
PLUGIN = "napari-hidiff"


@pytest.fixture(autouse=True)
def plugins():
    manager = PluginManager.instance()
    manager.discover()
    return manager


@pytest.fixture
def case(tmp_path):
    return write_nifti(tmp_path / "case.nii.gz", blob(SHAPE), affine_of("LPS", SHAPE, oblique=True))


def bench_of(viewer, image, tiny, channels=1):
    card = tiny(4, channels).card
    return AnnotatedImage(viewer, image, card, lambda: False, lambda: None)


def paint(bench):
    rng = np.random.default_rng(3)
    bench.mask.data[...] = rng.integers(0, 4, bench.mask.data.shape)
    return bench.mask.data


def test_an_image_lies_in_mm(case):
    (layer,) = ViewerModel().open(case, plugin=PLUGIN)
    assert isinstance(layer, Image)
    np.testing.assert_allclose(layer.scale, read_volume(case).spacing)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert layer.metadata[KEY]["format"] == "nifti"


def test_an_image_of_dicom_without_a_size_of_its_pixels_lies_in_pixels(tiny, tmp_path):
    def change(index, file):
        del file.PixelSpacing

    write_series(tmp_path / "us", np.zeros((1, 12, 14), np.uint16), change=change)
    viewer = ViewerModel()
    (image,) = viewer.open(tmp_path / "us", plugin=PLUGIN)
    assert [str(unit) for unit in image.units] == ["pixel"] * 3
    assert tuple(image.scale) == (1, 1, 1)
    bench = bench_of(viewer, image, tiny)
    mask = paint(bench)
    out = suggestion(image, bench.mask)
    bench.export(out)
    (again,) = ViewerModel().open(out, plugin=PLUGIN)
    np.testing.assert_array_equal(again.data, mask)
    assert [str(unit) for unit in again.units] == ["pixel"] * 3


def test_exported_masks_lie_over_their_image_in_the_file(case, tiny, tmp_path):
    viewer = ViewerModel()
    (image,) = viewer.open(case, plugin=PLUGIN)
    bench = bench_of(viewer, image, tiny)
    mask = paint(bench)
    out = suggestion(image, bench.mask)
    assert out == tmp_path / "case_mask.nii.gz"
    bench.export(out)
    written, source = nibabel.load(out), nibabel.load(case)
    np.testing.assert_array_equal(written.affine, source.affine)
    turned = nibabel.as_closest_canonical(written)
    np.testing.assert_array_equal(np.asarray(turned.dataobj).T, mask)
    assert "vessel" in (tmp_path / "case_mask_labels.txt").read_text()

    (again,) = ViewerModel().open(out, plugin=PLUGIN)
    assert isinstance(again, Labels)
    np.testing.assert_array_equal(again.data, mask)
    assert placement(again) == placement(bench.mask)
    assert [kind["name"] for kind in again.metadata[CLASSES]][1] == "vessel"
    assert again.features["class"].tolist() == ["background", "vessel", "disc", "lesion"]
    for label in (1, 2, 3):
        np.testing.assert_allclose(again.get_color(label), bench.mask.get_color(label))


def test_channels_are_one_layer_and_the_mask_has_none(tiny, tmp_path):
    array = np.stack([blob(SHAPE, seed) for seed in range(3)], -1)
    path = write_nifti(tmp_path / "m.nii", array, affine_of("PIR", SHAPE))
    viewer = ViewerModel()
    (image,) = viewer.open(path, plugin=PLUGIN)
    volume = read_volume(path)
    assert image.data.shape == (3, *volume.array.shape[:3])
    np.testing.assert_array_equal(image.data[1], volume.array[..., 1])
    bench = bench_of(viewer, image, tiny, channels=3)
    assert bench.leading == 1
    mask = paint(bench)
    bench.export(tmp_path / "m_mask.nii.gz")
    written = nibabel.load(tmp_path / "m_mask.nii.gz")
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)
    np.testing.assert_array_equal(read_volume(tmp_path / "m_mask.nii.gz").array, mask)


def test_a_dicom_folder_opens_and_its_mask_is_nifti(tiny, tmp_path):
    stored = np.random.default_rng(0).integers(0, 4000, (4, 20, 24)).astype(np.uint16)
    lps = write_series(tmp_path / "chest", stored)
    viewer = ViewerModel()
    (image,) = viewer.open(tmp_path / "chest", plugin=PLUGIN)
    (single,) = viewer.open(tmp_path / "chest" / "im002.dcm", plugin=PLUGIN)
    np.testing.assert_array_equal(single.data, image.data)
    assert (image.name, single.name) == ("chest", "chest [1]")
    bench = bench_of(viewer, image, tiny)
    paint(bench)
    out = suggestion(image, bench.mask)
    assert out == tmp_path / "chest_mask.nii.gz" == suggestion(single, bench.mask)
    bench.export(out)
    np.testing.assert_allclose(nibabel.load(out).affine, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-4)


@pytest.mark.parametrize("suffix", [".nii.gz", ".tif", ".npz"])
def test_every_transform_of_a_plain_layer_comes_back(tiny, tmp_path, suffix):
    data = np.random.default_rng(0).normal(size=(5, 20, 24)).astype(np.float32)
    image = Image(
        data,
        scale=(-3, 0.5, -0.25),
        translate=(1, -2, 30),
        rotate=(10, 20, 30),
        shear=(0.1, 0.2, 0.05),
        affine=np.array([[1, 0, 0.1, 2], [0, 1, 0, 0], [0, 0, 2, 5], [0, 0, 0, 1]]),
        units=("mm",) * 3,
        axis_labels=("a", "b", "c"),
    )
    viewer = ViewerModel()
    viewer.add_layer(image)
    bench = bench_of(viewer, image, tiny)
    mask = paint(bench)
    out = tmp_path / f"x_mask{suffix}"
    bench.export(out)
    (again,) = ViewerModel().open(out, plugin=PLUGIN)
    np.testing.assert_array_equal(again.data, mask)
    np.testing.assert_allclose(placement(again)["world"], placement(image)["world"], atol=1e-6)
    np.testing.assert_allclose(again.scale, image.scale)
    assert again.axis_labels == image.axis_labels
    if suffix == ".nii.gz":  # other programs see the same place, in ITK's axes
        file = nibabel.load(out)
        index = np.array([2, 7, 11])
        z, y, x = image.data_to_world(tuple(index))
        ras = nibabel.affines.apply_affine(file.affine, index[::-1])
        np.testing.assert_allclose(ras, (-x, -y, z), rtol=1e-4)
        assert np.asarray(file.dataobj)[11, 7, 2] == mask[2, 7, 11]
        assert file.header["qform_code"] == 0  # no quaternion can say it


def test_a_tif_that_napari_read_gives_its_resolution_to_the_mask(tiny, tmp_path):
    path = tmp_path / "s.tif"
    facts = {"axes": "ZYX", "spacing": 2.5, "unit": "mm"}
    array = np.random.default_rng(0).integers(0, 255, (4, 20, 24)).astype(np.uint8)
    tifffile.imwrite(path, array, imagej=True, resolution=(4, 2), metadata=facts)
    viewer = ViewerModel()
    (image,) = viewer.open(path, plugin="napari")
    bench = bench_of(viewer, image, tiny)
    paint(bench)
    out = suggestion(image, bench.mask)
    assert out == tmp_path / "s_mask.tif"
    bench.export(out)
    assert read_spacing(out) == pytest.approx((2.5, 0.5, 0.25))


def read_spacing(path):
    from napari_hidiff.io.tiff import read_tiff

    return read_tiff(path).spacing


def test_napari_saves_a_labels_layer_of_the_user(tmp_path):
    layer = Labels(np.arange(80).reshape(8, 10), scale=(2, 1))
    viewer = ViewerModel()
    viewer.add_layer(layer)
    for name in ("a_mask.png", "a_mask.tif", "a_mask.npz", "a_mask.nii.gz"):
        assert viewer.layers.save(str(tmp_path / name), plugin=PLUGIN)
        (again,) = ViewerModel().open(tmp_path / name, plugin=PLUGIN)
        np.testing.assert_array_equal(again.data, layer.data)
        np.testing.assert_allclose(again.scale, layer.scale)


def test_files_that_are_not_ours_are_left_to_others(tmp_path):
    np.savez(tmp_path / "weights.npz", a=np.ones(3), b=np.ones(3))
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "folder").mkdir()
    tifffile.imwrite(tmp_path / "picture.tif", np.zeros((20, 20), np.uint8))
    for path in (*tmp_path.iterdir(), tmp_path / "none.nii", tmp_path / "none.npz"):
        assert get_reader(str(path)) is None
    assert get_reader([str(tmp_path / "notes.txt")]) is None


def test_a_cropped_mask_is_written_as_a_plain_array(case, tmp_path):
    viewer = ViewerModel()
    (image,) = viewer.open(case, plugin=PLUGIN)
    cropped = Labels(np.ones((2, 4, 4), np.uint8), metadata=dict(image.metadata))
    viewer.add_layer(cropped)
    viewer.layers.selection = {cropped}
    viewer.layers.save(str(tmp_path / "c_mask.nii"), selected=True, plugin=PLUGIN)
    assert nibabel.load(tmp_path / "c_mask.nii").shape == (4, 4, 2)


def test_broken_volumes_say_so_in_the_viewer(case):
    case.write_bytes(case.read_bytes()[:500])
    with pytest.raises(Exception, match="cannot be read as NIfTI") as caught:
        ViewerModel().open(case, plugin=PLUGIN)
    assert isinstance(caught.value, InputError)


def test_a_mask_by_name_opens_as_one_and_an_image_does_not(case, tmp_path):
    volume = read_volume(case)
    binary = (volume.array > 0).astype(np.int16)
    affine = nibabel.load(case).affine
    for name, kind in (("x_seg.nii.gz", Labels), ("x.nii.gz", Image)):
        write_nifti(tmp_path / name, binary.T, affine)
        assert isinstance(ViewerModel().open(tmp_path / name, plugin=PLUGIN)[0], kind)
    write_labels(tmp_path / "y.nii.gz", binary, None, volume.source)
    assert isinstance(ViewerModel().open(tmp_path / "y.nii.gz", plugin=PLUGIN)[0], Labels)


def test_the_command_opens_stacks_with_their_spacing_and_names_what_is_broken(case, tmp_path):
    from napari_hidiff._qt.commands import add_files

    facts = {"axes": "ZYX", "spacing": 2.5, "unit": "mm"}
    array = np.zeros((4, 20, 24), np.uint8)
    stack = tmp_path / "s.tif"
    tifffile.imwrite(stack, array, imagej=True, resolution=(4, 2), metadata=facts)
    viewer = ViewerModel()
    add_files(viewer, [stack, case])
    np.testing.assert_allclose(viewer.layers[0].scale, (2.5, 0.5, 0.25))
    np.testing.assert_allclose(viewer.layers[1].scale, read_volume(case).spacing)
    case.write_bytes(case.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        add_files(viewer, [case])
    assert len(viewer.layers) == 2


UNLIKE = {
    "shifted": {"translate": (1, 30.5, -2)},
    "scaled": {"scale": (3, 0.5, 0.26)},
    "mirrored": {"scale": (3, -0.5, 0.25), "translate": (1, 39.5, -2)},
    "turned": {"rotate": (0, 0, 3)},
    "plain": {"scale": (1, 1, 1), "translate": (0, 0, 0)},
    "other unit": {"units": ("um",) * 3},
}


@pytest.mark.parametrize("unlike", UNLIKE)
@pytest.mark.parametrize("leading", [0, 1])
def test_labels_to_start_from_lie_over_the_image(unlike, leading):
    place = {"scale": (3, 0.5, 0.25), "translate": (1, 30, -2), "units": ("mm",) * 3}
    placed = {"scale": (1, *place["scale"]), "translate": (0, *place["translate"])}
    placed |= {"units": ("pixel", *place["units"])}
    shape = (5, 20, 24)
    image = Image(np.zeros((2,) * leading + shape), **(placed if leading else place))
    labels = np.zeros(shape, np.uint8)
    check_place(Labels(labels, **place), image, leading)
    same = {"scale": (3000, 500, 250), "translate": (1000, 30000, -2000), "units": ("um",) * 3}
    check_place(Labels(labels, **same), image, leading)
    check_place(Labels(labels, **place | {"units": ("pixel",) * 3}), image, leading)
    check_place(Labels(labels, **place | {"translate": (1.01, 30, -2)}), image, leading)
    layer = Labels(labels, name="mine", **place | UNLIKE[unlike])
    with pytest.raises(InputError, match="mine lies elsewhere than Image, by up to"):
        check_place(layer, image, leading)


@pytest.mark.parametrize("name", ["x.jpg", "x.tif"])
def test_colours_for_print_are_refused_in_the_window_too(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3)).astype(np.uint8)
    Picture.fromarray(noise).convert("CMYK").save(tmp_path / name)
    (layer,) = ViewerModel().open(tmp_path / name, plugin="napari")
    assert layer.data.shape[-1] == 4  # as if it were RGBA
    with pytest.raises(InputError, match="x is a CMYK picture"):
        check_layer(layer)
    Picture.fromarray(noise).convert("RGBA").save(tmp_path / "y.png")
    (layer,) = ViewerModel().open(tmp_path / "y.png", plugin="napari")
    check_layer(layer)


def test_the_command_opens_png_of_16_bits_with_all_of_them(tmp_path):
    from napari_hidiff._qt.commands import add_files

    values = np.random.default_rng(0).integers(0, 65535, (40, 48, 3)).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(values))
    viewer = ViewerModel()
    add_files(viewer, [tmp_path / "x.png"])
    assert viewer.layers[0].rgb
    np.testing.assert_array_equal(viewer.layers[0].data, values)
