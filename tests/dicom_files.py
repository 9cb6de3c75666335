"""DICOM files of many kinds, written for tests."""

import numpy as np
import pytest
from nibabel.affines import apply_affine
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from volume_files import write_series

from napari_hidiff.errors import InputError
from napari_hidiff.io.dicom import read_dicom

STORED = np.random.default_rng(0).integers(0, 4000, (1, 10, 12)).astype(np.uint16)

PLACE = ("ImagePositionPatient", "ImageOrientationPatient")
RESCALE = ("RescaleSlope", "RescaleIntercept")


def upright(array):
    """The array of a volume as its axial files have it: RAS turns their rows and columns."""
    return array[:, ::-1, ::-1]


def write(folder, change, stored=STORED, **options):
    write_series(folder, stored, change=lambda index, file: change(file), **options)
    return folder


def refused(path):
    with pytest.raises(InputError) as caught:
        read_dicom(path)
    line = str(caught.value)
    assert str(path) in line
    assert line.isprintable()
    return line


def items(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


def pixels(file, array):
    """Pixels of another dtype or of colours."""
    bits = 8 * array.dtype.itemsize
    file.BitsAllocated = file.BitsStored = bits
    file.HighBit, file.PixelRepresentation = bits - 1, int(array.dtype.kind == "i")
    file.SamplesPerPixel = 3 if array.ndim == 3 else 1
    if array.ndim == 3:
        file.PlanarConfiguration, file.PhotometricInterpretation = 0, "RGB"
    file.PixelData = array.tobytes()
    file["PixelData"].VR = "OB" if bits == 8 else "OW"


def enhanced(file, frames=1, shared=None, each=None):
    """The place and the rescaling of a file move into its functional groups."""
    for keyword in (*PLACE, *RESCALE, "PixelSpacing", "SliceThickness"):
        del file[keyword]
    groups = {
        "PixelMeasuresSequence": items(PixelSpacing=[0.8, 0.6], SliceThickness=2.5),
        "PlaneOrientationSequence": items(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        "PixelValueTransformationSequence": items(RescaleSlope=2, RescaleIntercept=-1024),
    }
    file.SharedFunctionalGroupsSequence = items(**(groups | (shared or {})))
    file.NumberOfFrames = frames
    each = each or [
        {"PlanePositionSequence": items(ImagePositionPatient=[-10, -20, 100 + 2 * i])}
        for i in range(frames)
    ]
    file.PerFrameFunctionalGroupsSequence = Sequence([items(**group)[0] for group in each])


def segmented(mask, numbers, heights=None, described=(), placed=True):
    """A file of one bit a pixel, a frame for each segment, at heights in mm."""

    def change(file):
        each = []
        for i, number in enumerate(numbers):
            height = 100 + 2 * i if heights is None else heights[i]
            group = {"SegmentIdentificationSequence": items(ReferencedSegmentNumber=number)}
            if placed:
                group["PlanePositionSequence"] = items(ImagePositionPatient=[-10, -20, height])
            each.append(group)
        enhanced(file, len(mask), {"PixelValueTransformationSequence": items()}, each)
        file.SOPClassUID, file.SegmentationType = "1.2.840.10008.5.1.4.1.1.66.4", "BINARY"
        if described:
            file.SegmentSequence = Sequence([items(**one)[0] for one in described])
        file.BitsAllocated = file.BitsStored = 1
        file.HighBit = file.PixelRepresentation = 0
        file.Rows, file.Columns = mask.shape[1:]
        file.PixelData = np.packbits(mask.ravel(), bitorder="little").tobytes()
        if len(file.PixelData) % 2:
            file.PixelData += b"\0"
        file["PixelData"].VR = "OB"

    return change


def corner(volume):
    """Where the first pixel of an axial file lies, in mm of DICOM's axes."""
    _, y, x = (size - 1 for size in volume.array.shape[:3])
    return apply_affine(volume.affine, [x, y, 0]) * (-1, -1, 1)
