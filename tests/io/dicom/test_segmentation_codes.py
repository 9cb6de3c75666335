"""What a segment is called in DICOM's codes, by the name of its class, and who made it."""

import numpy as np
import pydicom
import pytest
from volume_files import write_series

from napari_hidiff.io import registry
from napari_hidiff.io.dicom import read_dicom
from napari_hidiff.io.dicom.segmentation import is_installed, property_of
from napari_hidiff.io.write import write_labels


@pytest.mark.parametrize(
    ("name", "category", "kind"),
    [
        ("Kidneys", "Anatomical Structure", "Kidney"),
        ("left_ventricle", "Anatomical Structure", "Left ventricle"),
        ("edema", "Morphologically Abnormal Structure", "Edema"),
        ("my own thing", "Tissue", "Tissue"),
        ("", "Tissue", "Tissue"),
        ("s", "Tissue", "Tissue"),
    ],
)
def test_names_that_dicom_knows_have_its_codes(name, category, kind):
    assert [code.meaning for code in property_of(name)] == [category, kind]


@pytest.mark.skipif(not is_installed(), reason="highdicom (extra dicom-seg) is not installed")
@pytest.mark.parametrize(
    ("rater", "kept"), [("", ""), ("Anna Groß", "Anna Groß"), ("A\\^=\nB" + 80 * "c", None)]
)
def test_who_annotated_it_is_its_creator(tmp_path, rater, kept):
    write_series(tmp_path / "chest", np.arange(3 * 7 * 9, dtype=np.uint16).reshape(3, 7, 9))
    volume = read_dicom(tmp_path / "chest")
    path = tmp_path / "mask.dcm"
    write_labels(path, np.uint8(volume.array > 50), source=volume.source, rater=rater)
    made = pydicom.dcmread(path)
    kept = "A B" + 61 * "c" if kept is None else kept
    assert str(made.get("ContentCreatorName") or "") == kept
    assert registry.read_labelled(path).rater == kept
    made.ContentCreatorName = "Groß^Anna"
    made.save_as(path)
    assert registry.read_labelled(path).rater == "Groß Anna"
