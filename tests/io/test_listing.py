"""Which files of a folder are images, and what their masks are called."""

from pathlib import Path

import pytest

from napari_hidiff.io.listing import list_images, mask_name, natural


def test_dicom_files_in_a_folder_are_one_image(tmp_path: Path) -> None:
    for name in ("IM1.dcm", "IM2.dcm"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        *(("a.png", "a_mask.png"), ("a.JPG", "a_mask.png"), ("a.tiff", "a_mask.tif")),
        *(("a.nii.gz", "a_mask.nii.gz"), ("a.b.nrrd", "a.b_mask.nii.gz")),
        *(("a.npz", "a_mask.npz"), ("series", "series_mask.nii.gz")),
    ],
)
def test_a_mask_is_named_like_its_image(image: str, mask: str) -> None:
    assert mask_name(Path(image)) == mask


def test_natural_order_takes_any_name() -> None:
    names = ["b", "10", "9a", "a9", "²", "a10"]
    assert sorted(names, key=natural) == ["9a", "10", "a9", "a10", "b", "²"]
