"""Malformed elements of DICOM headers: each ends in one line that names the file and the tag."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from volume_files import write_series

from napari_hidiff.errors import InputError
from napari_hidiff.io.dicom import read_dicom

STORED = np.arange(120, dtype=np.uint16).reshape(1, 10, 12)


def replace(path, keyword, vr, value):
    """Write other bytes, under another type, in place of an element."""
    content = path.read_bytes()
    tag = Tag(keyword)
    start = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    assert content.count(start) == 1
    at = content.index(start)
    old = int.from_bytes(content[at + 6 : at + 8], "little")
    long = vr in (b"OB", b"OW", b"UN", b"SQ")
    length = (b"\0\0" if long else b"") + len(value).to_bytes(4 if long else 2, "little")
    path.write_bytes(content[:at] + start + vr + length + value + content[at + 8 + old :])


MALFORMED = {
    "a decimal comma": ("RescaleSlope", b"DS", b"1,25"),
    "a text": ("RescaleIntercept", b"DS", b"none"),
    "several values": ("RescaleSlope", b"DS", b"1\\2 "),
    "no number": ("RescaleSlope", b"DS", b"nan "),
    "no end": ("RescaleIntercept", b"DS", b"-inf"),
    "nothing": ("RescaleSlope", b"DS", b""),
    "spaces": ("RescaleIntercept", b"DS", b"    "),
    "another type": ("RescaleSlope", b"LO", b"1.25"),
    "an unknown type": ("RescaleSlope", b"Q!", b"1.25"),
    "bytes": ("Rows", b"OB", b"12"),
    "a type of other length": ("Columns", b"FL", b"\0\0"),
    "a fraction": ("BitsStored", b"DS", b"12.5"),
    "too many bits": ("BitsStored", b"US", b"\x63\0"),
    "no rows": ("Rows", b"US", b"\0\0"),
    "empty rows": ("Rows", b"US", b""),
    "two rows": ("Rows", b"US", b"\x0a\0\x0a\0"),
    "a sign of 7": ("PixelRepresentation", b"US", b"\7\0"),
    "one spacing": ("PixelSpacing", b"DS", b"0.7 "),
    "three spacings": ("PixelSpacing", b"DS", b"0.7\\0.9\\1"),
    "commas": ("PixelSpacing", b"DS", b"0,7\\0,9"),
    "a thickness in words": ("SliceThickness", b"DS", b"2.5mm"),
    "two thicknesses": ("SliceThickness", b"DS", b"2.5\\2.5"),
    "a place of two": ("ImagePositionPatient", b"DS", b"1\\2"),
    "a place in words": ("ImagePositionPatient", b"DS", b"left\\top\\front"),
    "a direction of five": ("ImageOrientationPatient", b"DS", b"1\\0\\0\\0\\1 "),
    "a direction that is none": ("ImageOrientationPatient", b"DS", b"1\\0\\0\\0\\nan\\0"),
    "two series": ("SeriesInstanceUID", b"UI", b"1.2\\1.3"),
    "a series of bytes": ("SeriesInstanceUID", b"OW", b"1.23"),
    "two kinds": ("Modality", b"CS", b"CT\\MR"),
    "long": ("RescaleSlope", b"DS", b"9," * 500),
    "beyond floats": ("RescaleSlope", b"DS", b"1e999 "),
    "a colour of bytes": ("PhotometricInterpretation", b"US", b"AB"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_the_line_names_the_file_and_the_tag(tmp_path, case, recwarn):
    keyword, vr, value = MALFORMED[case]
    write_series(tmp_path, STORED)
    path = tmp_path / "im000.dcm"
    replace(path, keyword, vr, value)
    for given in (tmp_path, path):
        with pytest.raises(InputError) as caught:
            read_dicom(given)
        assert not recwarn.list  # the line is all that is said
        line = str(caught.value)
        assert str(path) in line
        assert f"{keyword} {Tag(keyword)} is " in line
        assert line.isprintable()
        assert len(line.removeprefix(str(path))) < 200


@pytest.mark.parametrize(
    ("keyword", "value", "line"),
    [
        ("PixelSpacing", b"0\\0.9 ", "a pixel spacing of 0 x 0.9 mm"),
        ("PixelSpacing", b"-1\\1", "a pixel spacing of -1 x 1 mm"),
        ("PixelSpacing", b"1\\1e30", "a pixel spacing of 1 x 1e+30 mm"),
        ("SliceThickness", b"1e30", "a thickness of 1e+30 mm"),
        ("ImageOrientationPatient", b"0\\0\\0\\0\\1\\0 ", "not at right angles: 0, 0, 0, 0, 1, 0"),
        ("ImageOrientationPatient", b"1\\0\\0\\1\\0\\0 ", "not at right angles: 1, 0, 0, 1, 0, 0"),
        ("ImagePositionPatient", b"0\\0\\1e30", "lies 1e+30 mm away"),
        ("RescaleSlope", b"0 ", "is rescaled by 0"),
        ("RescaleSlope", b"1e300 ", "is rescaled to values of"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(tmp_path, keyword, value, line):
    write_series(tmp_path, STORED)
    replace(tmp_path / "im000.dcm", keyword, b"DS", value)
    with pytest.raises(InputError) as caught:
        read_dicom(tmp_path)
    assert line in str(caught.value)
    assert "im000.dcm" in str(caught.value)


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("RescaleSlope", b"IS", b"2 "),
        ("RescaleSlope", b"DS", b" 2  "),
        ("RescaleSlope", b"FD", np.array(2.0).tobytes()),
        ("RescaleSlope", b"UN", b"2 "),
        ("SliceThickness", b"DS", b""),
        ("Modality", b"CS", b""),
    ],
)
def test_what_can_be_read_all_the_same_is_read(tmp_path, keyword, vr, value):
    write_series(tmp_path, STORED, rescale=(2, 0))
    path = tmp_path / "im000.dcm"
    replace(path, keyword, vr, value)
    np.testing.assert_array_equal(read_dicom(tmp_path).array[:, ::-1, ::-1], STORED * 2)


def test_a_malformed_element_of_one_frame_names_the_frame(tmp_path):
    def frames(index, file):
        file.NumberOfFrames, file.PixelData = 2, file.PixelData * 2
        groups = []
        for height in ("0.0", "5.0"):
            place, group = Dataset(), Dataset()
            place.ImagePositionPatient = ["0.0", "0.0", height]
            group.PlanePositionSequence = Sequence([place])
            groups.append(group)
        file.PerFrameFunctionalGroupsSequence = Sequence(groups)

    write_series(tmp_path, STORED, change=frames)
    path = tmp_path / "im000.dcm"
    path.write_bytes(path.read_bytes().replace(b"0.0\\0.0\\5.0", b"0.0\\0.0\\5,0"))
    with pytest.raises(InputError, match=r"im000.dcm: frame 2: ImagePositionPatient \(0020,0032\)"):
        read_dicom(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\x00\x52\x30\x92SQ", b"\x00\x52\x30\x92LO"))
    with pytest.raises(InputError, match=r"im000.dcm"):
        read_dicom(tmp_path)
