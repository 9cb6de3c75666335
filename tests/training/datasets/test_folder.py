"""A folder of one's own: pictures or volumes, class names, and what is refused."""

import dataclasses
import gzip
import shutil

import layouts
import numpy as np
import pytest
import volume_layouts
from cases import assert_no_group_divided, bad_cases, every, message, refused
from PIL import Image

from napari_hidiff.errors import InputError
from napari_hidiff.training import case_cache
from napari_hidiff.training.datasets import SPLITS, open_dataset
from napari_hidiff.training.datasets.check import check
from napari_hidiff.training.datasets.lacking import without_pair

EMPTY = {"val": (), "test": ()}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_folder_of_ones_own(tmp_path, suffix):
    root = layouts.write_folder(tmp_path / "mine", count=20, suffix=suffix)
    dataset = open_dataset("folder", root)
    assert [len(dataset.splits[name]) for name in SPLITS] == [14, 3, 3]
    assert_no_group_divided(dataset.splits)
    assert dataset.classes == ("background", "foreground")
    assert dataset.channels == ("red", "green", "blue")
    case = dataset.split("test")[0]
    _, vessels, _ = layouts.fundus(int(case.id.removeprefix("case")))
    assert np.array_equal(dataset.load(case).mask, vessels)


def test_folder_split_follows_the_seed_alone(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=20)
    splits = [open_dataset("folder", root, seed=seed).splits for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("background\nretina\nvessel\n", ("background", "retina", "vessel")),
        ("retina\n\n vessel", ("background", "retina", "vessel")),
        (None, ("background", "class 1", "class 2")),
    ],
)
def test_folder_class_names(tmp_path, text, classes):
    root = layouts.write_folder(tmp_path / "mine", labels=3, masks="labels", classes=text)
    dataset = open_dataset("folder", root)
    assert dataset.classes == classes
    assert len(dataset.colors) == 3
    case = dataset.split("train")[0]
    _, vessels, retina = layouts.fundus(int(case.id.removeprefix("case")))
    assert np.array_equal(dataset.load(case).mask, retina * 1 + vessels * 1)


def test_folder_with_jpeg_masks(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=3)
    for path in (root / "masks").iterdir():
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"), quality=60)
        path.unlink()
    dataset = open_dataset("folder", root)
    case = dataset.split("train")[0]
    _, vessels, _ = layouts.fundus(int(case.id.removeprefix("case")))
    assert dataset.classes == ("background", "foreground")
    assert (dataset.load(case).mask == vessels).mean() > 0.97


def spoil_size(root):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(root / "masks" / "case01.png")


def spoil_label(root):
    Image.fromarray(np.full((layouts.HEIGHT, layouts.WIDTH), 7, np.uint8)).save(
        root / "masks" / "case01.png"
    )
    (root / "classes.txt").write_text("vessel", encoding="utf-8")


def spoil_image(root):
    (root / "images" / "case01.png").write_bytes(b"no picture")


def spoil_channels(root):
    Image.open(root / "images" / "case01.png").convert("L").save(root / "images" / "case01.png")


def spoil_by_removing_a_mask(root):
    (root / "masks" / "case01.png").unlink()


def spoil_by_removing_an_image(root):
    (root / "images" / "case01.png").unlink()


def spoil_by_a_second_image(root):
    image = Image.open(root / "images" / "case01.png")
    image.save(root / "images" / "case01.jpg")


def spoil_by_a_volume(root):
    (root / "images" / "case01.nii.gz").write_bytes(b"")


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_size,
        spoil_label,
        spoil_image,
        spoil_channels,
        spoil_by_removing_a_mask,
        spoil_by_removing_an_image,
        spoil_by_a_second_image,
        spoil_by_a_volume,
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path, spoil):
    root = layouts.write_folder(tmp_path / "mine", count=4)
    spoil(root)

    def load_everything():
        dataset = open_dataset("folder", root)
        for cases in dataset.splits.values():
            for case in cases:
                dataset.load(case)

    assert "case01" in message(load_everything)


def test_nan_in_an_image_is_refused(tmp_path):
    import tifffile

    root = layouts.write_folder(tmp_path / "mine", count=1)
    (root / "images" / "case00.png").unlink()
    image = np.zeros((layouts.HEIGHT, layouts.WIDTH), np.float32)
    image[3, 4] = np.nan
    tifffile.imwrite(root / "images" / "case00.tif", image)
    dataset = open_dataset("folder", root)
    assert "case00.tif" in message(dataset.load, dataset.split("train")[0])


def test_folders_that_hold_nothing_useful(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert "empty" in message(open_dataset, "folder", tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    assert "labels" in message(open_dataset, "folder", tmp_path)


@pytest.mark.parametrize("text", ["", "background", "vessel\nvessel"])
def test_class_files_that_are_refused(tmp_path, text):
    root = layouts.write_folder(tmp_path / "mine", count=3, classes=text)
    assert "classes.txt" in message(open_dataset, "folder", root)


def test_a_class_file_that_is_no_text(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=3)
    (root / "classes.txt").write_bytes(b"\xff\xfe\x00vessel")
    assert "classes.txt" in message(open_dataset, "folder", root)


def test_too_many_labels_without_names(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=3)
    Image.fromarray(np.full((60, 64), 200, np.uint8)).save(root / "masks" / "case01.png")
    dataset = open_dataset("folder", root)
    assert dataset.classes == ("background", "foreground")
    assert "classes.txt" in dataset.notes[0]
    assert bad_cases(dataset) == {"case01": "case01.png: unknown label 200"}


def test_a_bad_case_leaves_the_others_usable(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=8)
    (root / "images" / "case00.png").write_bytes(b"no picture")
    (root / "images" / "case03.png").unlink()
    (root / "masks" / "case05.png").unlink()
    (root / "masks" / "case06.png").write_bytes(b"")
    dataset = open_dataset("folder", root)
    assert sum(map(len, dataset.splits.values())) == 8
    assert dataset.channels == ("red", "green", "blue")
    bad = bad_cases(dataset)
    assert set(bad) == {"case00", "case03", "case05", "case06"}
    assert bad["case03"] == "case03.png: missing"
    assert bad["case05"] == "case05.png: missing"


def test_a_folder_in_which_no_image_can_be_read(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=2)
    for path in (root / "images").iterdir():
        path.write_bytes(b"no picture")
    assert "case00.png" in message(open_dataset, "folder", root)


@pytest.mark.parametrize("foreground", [1, 255])
def test_a_folder_of_volumes(tmp_path, foreground):
    root = volume_layouts.write_nifti_folder(tmp_path / "mine", foreground=foreground)
    dataset = open_dataset("folder", root)
    assert [len(dataset.splits[name]) for name in SPLITS] == [5, 1, 1]
    assert dataset.classes == ("background", "foreground")
    assert dataset.channels == ("grey",)
    sample = dataset.load(every(dataset)["scan2"])
    image, mask = volume_layouts.volume(2)
    assert np.array_equal(sample.image[..., 0], image)
    assert np.array_equal(sample.mask, mask)
    assert sample.spacing == pytest.approx(volume_layouts.SPACING)


def test_a_folder_of_volumes_with_several_classes_and_channels(tmp_path):
    root = volume_layouts.write_nifti_folder(tmp_path / "mine", count=2, labels=4)
    for number in range(2):
        image = np.stack([volume_layouts.volume(number, 4)[0]] * 3, -1)
        volume_layouts.write_nifti(root / "images" / f"scan{number}.nii.gz", image, "PIR")
    dataset = open_dataset("folder", root)
    assert dataset.classes == ("background", "class 1", "class 2", "class 3")
    assert dataset.channels == ("channel 1", "channel 2", "channel 3")
    assert dataset.load(every(dataset)["scan1"]).image.shape == (6, 40, 48, 3)


def test_a_folder_that_mixes_volumes_and_pictures(tmp_path):
    root = volume_layouts.write_nifti_folder(
        layouts.write_folder(tmp_path / "a").parent / "b", count=2
    )
    for folder in ("images", "masks"):
        picture = tmp_path / "a" / folder / "case01.png"
        picture.rename(root / folder / picture.name)
    with pytest.raises(InputError, match="mixed"):
        open_dataset("folder", root)


def test_a_volume_that_is_gzip_but_no_nifti(tmp_path):
    root = volume_layouts.write_nifti_folder(tmp_path / "mine", count=3)
    (root / "images" / "scan1.nii.gz").write_bytes(gzip.compress(b"nothing"))
    dataset = open_dataset("folder", root)
    assert "scan1.nii.gz: cannot be read as NIfTI" in refused(dataset, "scan1")
    assert "scan0" in every(dataset)


@pytest.mark.parametrize(
    "ending",
    ["_mask", "-mask", "_seg", "_label", "_labels", "_segmentation", "_MASK"],
)
def test_masks_named_as_they_are_exported(tmp_path, ending):
    root = layouts.write_folder(tmp_path / "mine", count=3)
    for path in sorted((root / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}{ending}.png"))
    dataset = open_dataset("folder", root)
    cases = sorted(every(dataset).values(), key=lambda case: case.id)
    assert [case.id for case in cases] == ["case00", "case01", "case02"]
    assert [case.mask.name for case in cases] == [f"case0{n}{ending}.png" for n in range(3)]
    assert dataset.load(cases[0]).mask.any()


def test_a_mask_of_an_image_that_is_called_so(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=1)
    for folder in ("images", "masks"):
        path = root / folder / "case00.png"
        shutil.copy(path, path.with_name("b_mask.png"))
    cases = every(open_dataset("folder", root))
    assert {name: case.mask.name for name, case in cases.items()} == {
        "case00": "case00.png",
        "b_mask": "b_mask.png",
    }


def test_two_masks_of_one_image_are_one_line(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=2)
    shutil.copy(root / "masks" / "case01.png", root / "masks" / "case01_mask.png")
    with pytest.raises(InputError) as error:
        open_dataset("folder", root)
    assert str(error.value) == (
        f"{root / 'masks' / 'case01_mask.png'}: case01.png is for case01 too; keep one of them"
    )


@pytest.mark.parametrize("names", [("Images", "Masks"), ("IMAGES", "Labels")])
def test_folders_in_capitals(tmp_path, names):
    root = layouts.write_folder(tmp_path / "mine", count=2)
    for old, new in zip(("images", "masks"), names, strict=True):
        (root / old).rename(root / new)
    assert len(every(open_dataset("folder", root))) == 2


def test_images_without_mask_are_counted_in_one_line(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=6)
    for number in range(6):
        path = root / "masks" / f"case0{number}.png"
        path.rename(path.with_name(f"case0{number}_mask.png"))
    for number in (1, 4):
        (root / "masks" / f"case0{number}_mask.png").unlink()
    line = (
        "2 of 6 images have no mask, case01.png first: expected "
        f"{root / 'masks' / 'case01_mask.png'} (the name may also end in _mask, _seg or _label)"
    )
    dataset = open_dataset("folder", root)
    dataset = dataclasses.replace(
        dataset, splits={"train": tuple(case for _, case in sorted(every(dataset).items()))} | EMPTY
    )
    assert without_pair(dataset) == (frozenset({"case01", "case04"}), line)
    with pytest.raises(InputError) as error:
        case_cache.build(dataset, ("train", "val"), tmp_path / "cache")
    assert str(error.value) == f"{line}; --skip-bad leaves them out"
    kept = case_cache.build(dataset, ("train", "val"), tmp_path / "cache", skip_bad=True)
    assert [case.id for case in kept.splits["train"]] == ["case00", "case02", "case03", "case05"]
    assert kept.skipped == [line]
    content = check(dataset)
    assert (content["bad"], content["unusable"], content["loaded"]) == ([line], 2, 4)


def test_masks_of_other_names_are_one_line(tmp_path):
    root = layouts.write_folder(tmp_path / "mine", count=3)
    for path in sorted((root / "masks").iterdir()):
        path.rename(path.with_name(f"truth-{path.name}"))
    dataset = open_dataset("folder", root)
    with pytest.raises(InputError) as error:
        case_cache.build(dataset, ("train", "val"), tmp_path / "cache", skip_bad=True)
    assert "none of the train cases can be used; 3 of 3 images have no mask, " in str(error.value)
    assert "3 of 3 masks have no image, truth-case0" in str(error.value)
