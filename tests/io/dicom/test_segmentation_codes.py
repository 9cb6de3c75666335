"""What a segment is called in DICOM's codes, by the name of its class."""

import pytest

from napari_hidiff.io.dicom.segmentation import property_of


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
