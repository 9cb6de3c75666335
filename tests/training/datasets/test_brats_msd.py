"""BraTS and the Decathlon as they are distributed, and what is refused of a volume."""

import json

import nibabel
import numpy as np
import pytest
import volume_layouts as layouts
from cases import every, ids, message, refused

from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import SPLITS, open_dataset


@pytest.mark.parametrize("year", ["2020", "2021", "2023"])
def test_brats_of_every_year(tmp_path, year):
    dataset = open_dataset("brats", layouts.write_brats(tmp_path, year))
    assert dataset.channels == ("flair", "t1", "t1ce", "t2")
    assert dataset.regions == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    assert dataset.intensity == {"rule": "zscore"}
    name = layouts.brats_names(year, 4)[2]
    sample = dataset.load(every(dataset)[name])
    image, mask = layouts.volume(2, labels=4)
    assert np.array_equal(sample.image, np.stack([image * c for c in (1, 2, 3, 4)], -1))
    assert np.array_equal(sample.mask, mask)
    assert sample.spacing == (1, 1, 1)


def test_brats_patients_stay_together(tmp_path):
    dataset = open_dataset("brats", layouts.write_brats(tmp_path, "2023", count=8))
    homes = {name: {case.id[:15] for case in dataset.splits[name]} for name in SPLITS}
    assert [len(homes[name]) for name in SPLITS] == [2, 1, 1]
    assert len(set.union(*homes.values())) == 4


def test_brats_2021_complete_has_the_paper_s_sizes(tmp_path):
    for number in range(1251):
        name = f"BraTS2021_{number:05}"
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}_seg.nii.gz").touch()
    splits = open_dataset("brats", tmp_path).splits
    assert [len(splits[name]) for name in SPLITS] == [1013, 113, 125]
    assert splits == open_dataset("brats", tmp_path).splits


def test_brats_without_segmentation_and_with_the_odd_one(tmp_path):
    layouts.write_brats(tmp_path, "2020", count=3)
    names = layouts.brats_names("2020", 3)
    (tmp_path / names[0] / f"{names[0]}_seg.nii").unlink()
    odd = tmp_path / names[1] / f"{names[1]}_seg.nii"
    odd.rename(odd.with_name("W39_1998.09.19_Segm.nii"))
    dataset = open_dataset("brats", tmp_path)
    assert set(every(dataset)) == set(names[1:])
    assert dataset.notes[0] == f"1 cases have no segmentation and are left out, {names[0]} first"
    assert dataset.load(every(dataset)[names[1]]).mask.max() == 3


def test_brats_validation_data_alone_trains_nothing(tmp_path):
    dataset = open_dataset("brats", layouts.write_brats(tmp_path, "2023", truths=False))
    text = message(dataset.split, "train")
    assert "4 cases have no segmentation" in text


def spoil_by_a_missing_modality(folder, name):
    (folder / f"{name}_t1ce.nii.gz").unlink()
    return f"{name}_t1ce.nii.gz: missing"


def spoil_by_truncation(folder, name):
    path = folder / f"{name}_t2.nii.gz"
    path.write_bytes(path.read_bytes()[:1000])
    return f"{name}_t2.nii.gz: cannot be read"


def spoil_mask_size(folder, name):
    path = folder / f"{name}_seg.nii.gz"
    layouts.write_nifti(path, np.zeros((5, 40, 48)), spacing=(1, 1, 1))
    return f"{name}_seg.nii.gz: 5 x 40 x 48 pixels, but {name}_flair.nii.gz has 6 x 40 x 48"


def spoil_modality_size(folder, name):
    layouts.write_nifti(folder / f"{name}_t1.nii.gz", np.zeros((5, 40, 48)), spacing=(1, 1, 1))
    return f"{name}_t1.nii.gz: 5 x 40 x 48"


def spoil_label(folder, name):
    path = folder / f"{name}_seg.nii.gz"
    layouts.write_nifti(path, np.full((6, 40, 48), 3), spacing=(1, 1, 1))
    return f"{name}_seg.nii.gz: unknown label 3; known are 0, 1, 2, 4"


def spoil_by_nan(folder, name):
    image = np.zeros((6, 40, 48))
    image[1, 2, 3] = np.nan
    path = folder / f"{name}_t1ce.nii.gz"
    layouts.write_nifti(path, image, spacing=(1, 1, 1), dtype=np.float32)
    return f"{name}_t1ce.nii.gz: NaN"


def spoil_by_fractions(folder, name):
    path = folder / f"{name}_seg.nii.gz"
    layouts.write_nifti(path, np.full((6, 40, 48), 0.5), spacing=(1, 1, 1), dtype=np.float32)
    return f"{name}_seg.nii.gz: has values that are not whole"


def spoil_by_a_lost_header(folder, name):
    """The array of the image's own orientation, saved with the identity as its affine."""
    path = folder / f"{name}_seg.nii.gz"
    stored = np.asarray(nibabel.load(path).dataobj)
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), path)
    return f"{name}_seg.nii.gz: its header says orientation RAS"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_by_a_missing_modality,
        spoil_by_truncation,
        spoil_mask_size,
        spoil_modality_size,
        spoil_label,
        spoil_by_nan,
        spoil_by_fractions,
        spoil_by_a_lost_header,
    ],
)
def test_a_bad_file_of_a_case_is_named_when_it_is_loaded(tmp_path, spoil):
    layouts.write_brats(tmp_path, count=3)
    names = layouts.brats_names("2021", 3)
    start = spoil(tmp_path / names[1], names[1])
    dataset = open_dataset("brats", tmp_path)
    assert start in refused(dataset, names[1])
    for good in (names[0], names[2]):
        dataset.load(every(dataset)[good])


def test_a_truncated_file_without_compression_is_named(tmp_path):
    layouts.write_brats(tmp_path, "2020", count=2)
    name = layouts.brats_names("2020", 2)[0]
    path = tmp_path / name / f"{name}_t1.nii"
    path.write_bytes(path.read_bytes()[:-500])
    line = refused(open_dataset("brats", tmp_path), name)
    assert f"{name}_t1.nii: " in line
    assert "cut off" in line


def test_brats_real(real_data):
    dataset = open_dataset("brats", real_data("BraTS2021").parent)
    assert ids(dataset.splits["train"]) == ["BraTS2021_00000"]
    assert dataset.licence == "CC BY 4.0"
    sample = dataset.load(dataset.splits["train"][0])
    assert sample.image.shape == (155, 240, 240, 4)
    assert [int(n) for n in np.bincount(sample.mask.ravel())[1:]] == [11738, 12836, 32731]


def test_msd_of_one_modality(tmp_path):
    dataset = open_dataset("msd", layouts.write_msd(tmp_path / "Task09_Spleen"))
    assert [len(dataset.splits[name]) for name in SPLITS] == [5, 1, 1]
    assert dataset.classes == ("background", "organ", "tumour")
    assert dataset.intensity["rule"] == "window"
    sample = dataset.load(every(dataset)["case_003"])
    assert np.array_equal(sample.image[..., 0], layouts.ct(3, 3)[0])
    assert np.array_equal(sample.mask, layouts.ct(3, 3)[1])
    assert sample.spacing == pytest.approx(layouts.SPACING)


def test_msd_of_four_modalities_and_a_missing_file(tmp_path):
    modalities = ("FLAIR", "T1w", "t1gd", "T2w")
    root = layouts.write_msd(tmp_path / "Task01_BrainTumour", modalities)
    (root / "labelsTr" / "case_001.nii.gz").unlink()
    dataset = open_dataset("msd", root)
    assert dataset.channels == modalities
    assert dataset.intensity == {"rule": "zscore"}
    image = dataset.load(every(dataset)["case_002"]).image
    assert np.array_equal(image[..., 3], 4 * layouts.volume(2, 3)[0])
    assert "case_001.nii.gz: missing" in refused(dataset, "case_001")


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"labels": {}, "modality": {}})])
def test_a_description_that_is_none(tmp_path, text):
    root = layouts.write_msd(tmp_path / "Task09_Spleen", count=1)
    (root / "dataset.json").write_text(text)
    with pytest.raises(InputError, match=r"dataset\.json: not the description"):
        open_dataset("msd", root)


def test_msd_real(real_data):
    dataset = open_dataset("msd", real_data("Task04_Hippocampus"))
    assert [len(dataset.splits[name]) for name in SPLITS] == [162, 34, 34]
    assert dataset.classes == ("background", "anterior", "posterior")
    assert dataset.licence == "CC-BY-SA 4.0"
    sample = dataset.load(every(dataset)["hippocampus_001"])
    assert sample.image.shape == (35, 51, 35, 1)
    assert sample.mask.max() == 2
