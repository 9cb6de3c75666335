"""NIfTI masks lie over their images: the same affine, orientation, codes and units."""

import gzip
import itertools

import nibabel
import numpy as np
import pytest
from volume_files import affine_of, blob, write_nifti

from napari_hidiff.errors import InputError
from napari_hidiff.io import record, registry
from napari_hidiff.io.nifti import PLACE, read_volume
from napari_hidiff.io.volume import Source
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import Label

CLASSES = (Label("background", "#000000"), Label("left lung", "#ff8000"), Label("b", "#0080ff"))
SHAPE = (5, 6, 7)


def mask_of(array):
    return (array > -300).astype(np.uint8) + (array > 400)


def assert_over(mask_path, image_path, rule=mask_of):
    """A mask that another program opens on top of the image: voxel by voxel, in mm too."""
    mask, image = nibabel.load(mask_path), nibabel.load(image_path)
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.shape == image.shape[:3]
    assert nibabel.aff2axcodes(mask.affine) == nibabel.aff2axcodes(image.affine)
    for field in PLACE:
        got, wanted = mask.header[field], image.header[field]
        np.testing.assert_array_equal(*((a[:4] if field == "pixdim" else a) for a in (got, wanted)))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), rule(np.asarray(image.dataobj)))
    turned = [nibabel.as_closest_canonical(each) for each in (mask, image)]
    np.testing.assert_array_equal(turned[0].affine, turned[1].affine)
    np.testing.assert_array_equal(
        np.asarray(turned[0].dataobj), rule(np.asarray(turned[1].dataobj))
    )
    return mask


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "LIA", "PSR", "ASL"])
def test_a_mask_lies_over_its_image_in_any_orientation(tmp_path, codes, oblique, suffix):
    affine = affine_of(codes, SHAPE, oblique=oblique)
    path = write_nifti(tmp_path / f"case{suffix}", blob(SHAPE), affine)
    volume = read_volume(path)
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    out = tmp_path / f"case_mask{suffix}"
    written = write_labels(out, mask_of(volume.array), CLASSES, volume.source)
    mask = assert_over(out, path)
    assert mask.get_data_dtype() == np.uint8
    assert mask.header.get_intent()[0] == "label"
    names = [f"case_mask{suffix}", "case_mask_labels.txt", "case_mask_labels.ctbl"]
    assert [file.name for file in written] == names
    assert {file.name for file in tmp_path.iterdir()} == {f"case{suffix}", *names}


def test_every_orientation_comes_back_as_it_was(tmp_path):
    every = [
        "".join(flip)
        for axes in itertools.permutations(("RL", "AP", "SI"))
        for flip in itertools.product(*axes)
    ]
    assert len(every) == 48
    for codes in every:
        path = write_nifti(tmp_path / "a.nii", blob(SHAPE), affine_of(codes, SHAPE))
        volume = read_volume(path)
        write_labels(tmp_path / "m.nii", mask_of(volume.array), None, volume.source)
        assert_over(tmp_path / "m.nii", path)


@pytest.mark.parametrize("codes", [(1, 0), (0, 3), (0, 0), (4, 2)])
@pytest.mark.parametrize("unit", ["mm", "micron", "unknown"])
def test_codes_and_units_are_the_sources(tmp_path, codes, unit):
    path = write_nifti(tmp_path / "a.nii.gz", blob(SHAPE), affine_of("LPS", SHAPE), codes, unit)
    volume = read_volume(path)
    write_labels(tmp_path / "m.nii.gz", mask_of(volume.array), None, volume.source)
    mask = assert_over(tmp_path / "m.nii.gz", path)
    assert mask.header.get_xyzt_units()[0] == unit
    assert (int(mask.header["qform_code"]), int(mask.header["sform_code"])) == codes


def test_forms_that_contradict_one_another_are_both_kept(tmp_path):
    image = nibabel.Nifti1Image(blob(SHAPE), affine_of("RAS", SHAPE))
    image.set_qform(affine_of("LPS", SHAPE, (1, 1, 2)), 1)
    image.set_sform(affine_of("LIA", SHAPE, oblique=True), 2)
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    write_labels(tmp_path / "m.nii", mask_of(volume.array), None, volume.source)
    assert_over(tmp_path / "m.nii", tmp_path / "a.nii")


def test_sizes_in_microns_are_read_in_mm(tmp_path):
    affine = affine_of("RAS", SHAPE, (100, 200, 300))
    path = write_nifti(tmp_path / "a.nii", blob(SHAPE), affine, unit="micron")
    volume = read_volume(path)
    assert volume.spacing == pytest.approx((0.3, 0.2, 0.1))
    np.testing.assert_allclose(np.diag(volume.affine)[:3], (0.1, 0.2, 0.3), rtol=1e-5)


def test_nifti_2_stays_nifti_2_with_its_doubles(tmp_path):
    affine = affine_of("LAS", SHAPE, (1 / 3, 0.7, 1.1), oblique=True)
    path = write_nifti(tmp_path / "a.nii", blob(SHAPE), affine, kind=nibabel.Nifti2Image)
    volume = read_volume(path)
    write_labels(tmp_path / "m.nii", mask_of(volume.array), None, volume.source)
    mask = assert_over(tmp_path / "m.nii", path)
    assert isinstance(mask, nibabel.Nifti2Image)


def test_channels_are_read_and_their_mask_has_none(tmp_path):
    array = np.stack([blob(SHAPE, seed) for seed in range(3)], -1)
    path = write_nifti(tmp_path / "a.nii.gz", array, affine_of("LPI", SHAPE))
    volume = read_volume(path)
    assert volume.array.shape == (7, 6, 5, 3)
    mask = mask_of(volume.array[..., 1])
    write_labels(tmp_path / "m.nii.gz", mask, CLASSES, volume.source)
    assert_over(tmp_path / "m.nii.gz", path, lambda a: mask_of(a[..., 1]) if a.ndim > 3 else a)


def test_classes_are_in_the_header_and_in_tables_beside(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", blob(SHAPE), affine_of("RAS", SHAPE))
    volume = read_volume(path)
    out = tmp_path / "m.nii.gz"
    write_labels(out, mask_of(volume.array), CLASSES, volume.source)
    again = registry.read(out)
    assert registry.is_mask(again)
    np.testing.assert_array_equal(registry.labels(again), mask_of(volume.array))
    assert record.labels_of(again.source.header["record"]["classes"]) == CLASSES
    assert str(tmp_path) not in out.with_name("m_labels.txt").read_text()
    lines = (tmp_path / "m_labels.txt").read_text().splitlines()
    table = [line.split(None, 7) for line in lines if not line.startswith("#")]
    assert [row[7] for row in table] == ['"Clear Label"', '"left lung"', '"b"']
    assert table[1][:7] == ["1", "255", "128", "0", "1", "1", "1"]
    slicer = (tmp_path / "m_labels.ctbl").read_text().splitlines()
    assert [line for line in slicer if not line.startswith("#")] == [
        "0 background 0 0 0 0",
        "1 left_lung 255 128 0 255",
        "2 b 0 128 255 255",
    ]


def test_the_same_mask_gives_the_same_bytes(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", blob(SHAPE), affine_of("RAS", SHAPE))
    volume = read_volume(path)
    for name in ("m.nii.gz", "n.nii.gz"):
        write_labels(tmp_path / name, mask_of(volume.array), CLASSES, volume.source)
    assert (tmp_path / "m.nii.gz").read_bytes() == (tmp_path / "n.nii.gz").read_bytes()


def test_a_source_goes_through_json(tmp_path):
    import json

    path = write_nifti(tmp_path / "a.nii", blob(SHAPE), affine_of("LIA", SHAPE, oblique=True))
    source = read_volume(path).source
    assert Source.from_dict(json.loads(json.dumps(source.to_dict()))) == source
    with pytest.raises(InputError, match="cannot be read"):
        Source.from_dict({"path": "a.nii"})


def test_the_hippocampus_of_the_decathlon(real_data, tmp_path):
    folder = real_data("Task04_Hippocampus")
    path = sorted((folder / "imagesTr").glob("hippocampus_*.nii.gz"))[0]
    truth = nibabel.load(folder / "labelsTr" / path.name)
    volume = read_volume(path)
    mask = read_volume(folder / "labelsTr" / path.name).array.astype(np.uint8)
    out = tmp_path / "out_mask.nii.gz"
    write_labels(out, mask, CLASSES, volume.source)
    written, image = nibabel.load(out), nibabel.load(path)
    np.testing.assert_array_equal(written.affine, image.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(truth.dataobj))
    assert written.header.get_xyzt_units()[0] == image.header.get_xyzt_units()[0]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", blob(SHAPE), affine_of("LPS", SHAPE))
    volume = read_volume(path)
    mask = mask_of(volume.array)
    out = tmp_path / "out"
    out.mkdir()
    cases = [
        ("m.nii.gz", mask[1:], {"source": volume.source}, "shape"),
        ("m.nii.gz", mask.astype(np.float32), {}, "integer"),
        ("m.nii.gz", mask.astype(np.int32) - 1, {}, "labels -1"),
        ("m.nii.gz", mask.astype(np.int32) * 70000, {}, "65535"),
        ("m.nii.gz", mask[None, None], {}, "written as .tif"),
        ("m.png", mask, {}, "3 axes"),
        ("m.nrrd", mask, {}, "written as"),
        ("m", mask, {}, "written as"),
        ("m.tif", mask, {"spacing": (1, 0, 1)}, "spacing"),
        ("m.nii", mask[:0], {}, "integer"),
        ("none/m.nii.gz", mask, {}, "cannot be written"),
        ("none/m.png", mask[0], {}, "cannot be written"),
    ]
    for name, given, options, line in cases:
        with pytest.raises(InputError, match=line) as caught:
            write_labels(out / name, given, **options)
        assert str(out / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not list(out.iterdir())


def test_a_mask_that_cannot_be_finished_leaves_nothing_behind(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", blob(SHAPE), affine_of("LPS", SHAPE))
    volume = read_volume(path)
    blocked = tmp_path / "m_labels.ctbl"
    blocked.mkdir()  # the last file to be written cannot take its place
    with pytest.raises(InputError, match="cannot be written"):
        write_labels(tmp_path / "m.nii.gz", mask_of(volume.array), CLASSES, volume.source)
    assert set(tmp_path.iterdir()) == {path, blocked}


def test_damaged_files_get_one_line(tmp_path):
    good = write_nifti(tmp_path / "good.nii.gz", blob((20, 20, 20)), affine_of("LPS", (20,) * 3))
    whole = good.read_bytes()
    line = nibabel.Nifti1Image(blob((5,)), np.eye(4))
    nibabel.save(line, tmp_path / "line.nii")
    nowhere = nibabel.Nifti1Image(blob((5, 6, 7)), None)
    nowhere.header["sform_code"], nowhere.header["srow_x"] = 1, np.nan
    nibabel.save(nowhere, tmp_path / "nowhere.nii")
    damaged = {
        "cut.nii.gz": whole[: len(whole) // 2],
        "head.nii.gz": whole[:40],
        "text.nii": b"no image" * 100,
        "empty.nii": b"",
        "bits.nii.gz": whole[:200] + bytes(200) + whole[400:],
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
    for name in (*damaged, "none.nii", "line.nii", "nowhere.nii"):
        with pytest.raises(InputError) as caught:
            registry.read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_noticed_by_the_checksum(tmp_path):
    shape = (20, 30, 40)
    path = write_nifti(tmp_path / "a.nii.gz", blob(shape), affine_of("LPS", shape))
    good = read_volume(path).array
    raw = gzip.decompress(path.read_bytes())
    stored = bytearray(gzip.compress(raw, 0))
    stored[600] ^= 0x40
    path.write_bytes(stored)
    for reader in (registry.read, read_volume):
        with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be read as NIfTI"):
            reader(path)
    packed, rng = gzip.compress(raw, 6), np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(packed), 60):
        bad = bytearray(packed)
        bad[place] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        try:
            array = read_volume(path).array
        except InputError:
            refused += 1
        else:
            np.testing.assert_array_equal(array, good)  # gzip's head has bits of no account
    assert refused > 50


@pytest.mark.parametrize("shape", [(18, 20), (18, 20, 1)])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PSR"])
def test_a_single_slice_is_read_and_its_mask_lies_over_it(tmp_path, shape, codes):
    affine = affine_of(codes, (18, 20, 1))
    path = write_nifti(tmp_path / "a.nii.gz", blob(shape), affine)
    volume = read_volume(path)
    assert volume.array.ndim == 3
    assert sorted(volume.array.shape) == [1, 18, 20]
    write_labels(tmp_path / "m.nii.gz", mask_of(volume.array), None, volume.source)
    mask = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(mask.affine, nibabel.load(path).affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj)[..., 0], mask_of(blob(shape)).squeeze())
