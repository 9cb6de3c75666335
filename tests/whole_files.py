"""A whole file of every format that is read, small, made in memory: what :mod:`damaged` damages."""

import gzip
import io
import tempfile
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pydicom
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

VOLUME = np.random.default_rng(0).integers(0, 900, (5, 12, 14)).astype(np.int16)
AFFINE = np.diag([0.8, 0.9, 2.5, 1.0])
PICTURE = (VOLUME[0] % 2).astype(np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 255, (12, 14, 3)).astype(np.uint8)


def nifti(packed=False, kind=nibabel.Nifti1Image):
    content = kind(VOLUME, AFFINE).to_bytes()
    return gzip.compress(content, 6, mtime=0) if packed else content


def dicom(syntax=ExplicitVRLittleEndian, change=lambda file: None, pixels=None):
    pixels = VOLUME[0].astype(np.uint16) if pixels is None else pixels
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    plain = syntax in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
    meta.TransferSyntaxUID = syntax if plain else ExplicitVRLittleEndian
    file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, "1.2.3"
    file.SeriesInstanceUID, file.Modality, file.InstanceNumber = "1.2.4", "CT", 1
    file.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    file.ImagePositionPatient, file.ImageOrientationPatient = [-9, 8, 30], [1, 0, 0, 0, 1, 0]
    file.PixelSpacing, file.SliceThickness = [0.7, 0.9], 2.5
    file.RescaleSlope, file.RescaleIntercept, file.NumberOfFrames = 1, -1024, 1
    file.Rows, file.Columns = pixels.shape[:2]
    file.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    file.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        file.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = bits, bits, 15, 0
    file.PixelData = (pixels.byteswap() if syntax == ExplicitVRBigEndian else pixels).tobytes()
    file["PixelData"].VR = "OW"
    change(file)
    if syntax == RLELossless:
        file.compress(RLELossless)
    elif syntax == JPEGBaseline8Bit:
        packed = io.BytesIO()
        Image.fromarray(COLOURS).save(packed, "JPEG")
        file.PixelData = pydicom.encaps.encapsulate([packed.getvalue()])
        file["PixelData"].VR = "OB"
        meta.TransferSyntaxUID, file.PhotometricInterpretation = syntax, "YBR_FULL_422"
    out = io.BytesIO()
    pydicom.dcmwrite(out, file, enforce_file_format=True)
    return out.getvalue()


def item(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced(file):
    """Two frames, each with a place of its own."""
    file.SOPClassUID = EnhancedCTImageStorage
    shared = item(
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.7, 0.9], SliceThickness=2.5)]),
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelValueTransformationSequence=Sequence([item(RescaleSlope=2, RescaleIntercept=-1024)]),
    )
    frames = [
        item(PlanePositionSequence=Sequence([item(ImagePositionPatient=[0, 0, 2.5 * i])]))
        for i in range(2)
    ]
    file.SharedFunctionalGroupsSequence = Sequence([shared])
    file.PerFrameFunctionalGroupsSequence = Sequence(frames)
    file.NumberOfFrames, file.PixelData = 2, file.PixelData * 2
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del file[keyword]


def palette(file):
    file.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        file.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        table = (np.arange(256) << 8).astype("<u2").tobytes()
        file.add_new(f"{colour}PaletteColorLookupTableData", "OW", table)


def modality_table(file):
    del file.RescaleSlope, file.RescaleIntercept
    table = item()
    table.add_new("LUTDescriptor", "US", [1024, 0, 16])
    table.add_new("LUTData", "US", list(range(1024)))
    file.ModalityLUTSequence = Sequence([table])


def tiff(pixels, **options):
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


def pillow(pixels, kind, **options):
    out = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(out, kind, **options)
    return out.getvalue()


def npz(packed=True):
    out = io.BytesIO()
    save = np.savez_compressed if packed else np.savez
    save(out, image=VOLUME, spacing=np.array([2.5, 0.9, 0.8]), affine=AFFINE)
    return out.getvalue()


def nrrd_file(packed, segments=False):
    header = {
        "space": "left-posterior-superior",
        "space directions": np.diag([0.8, 0.9, 2.5]),
        "space origin": [1.0, 2.0, 3.0],
        "kinds": ["domain"] * 3,
        "encoding": "gzip" if packed else "raw",
    }
    if segments:
        header |= {"Segment0_LabelValue": "1", "Segment0_Color": "1 0 0", "Segment0_Name": "a"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nrrd"
        nrrd.write(str(path), VOLUME.T % 2 if segments else VOLUME.T, header)
        return path.read_bytes()


def npy():
    out = io.BytesIO()
    np.save(out, VOLUME)
    return out.getvalue()


ImageJ = {"imagej": True, "metadata": {"axes": "ZYX", "unit": "mm", "spacing": 2.5}}
MaskImage = Image.fromarray(PICTURE * 200).quantize(4)

FORMATS = {
    "nifti": (".nii", lambda: [nifti(), nifti(kind=nibabel.Nifti2Image)]),
    "nifti packed": (".nii.gz", lambda: [nifti(packed=True)]),
    "dicom": (
        ".dcm",
        lambda: [
            *(dicom(), dicom(change=enhanced), dicom(change=modality_table), dicom()[132:]),
            *(dicom(pixels=PICTURE, change=palette), dicom(pixels=COLOURS)),
        ],
    ),
    "dicom series": (".dcm", lambda: [dicom()]),
    "dicom implicit": (".dcm", lambda: [dicom(ImplicitVRLittleEndian)]),
    "dicom big": (".dcm", lambda: [dicom(ExplicitVRBigEndian)]),
    "dicom deflated": (".dcm", lambda: [dicom(DeflatedExplicitVRLittleEndian)]),
    "dicom rle": (".dcm", lambda: [dicom(RLELossless)]),
    "dicom jpeg": (".dcm", lambda: [dicom(JPEGBaseline8Bit, pixels=COLOURS)]),
    "tiff": (
        ".tif",
        lambda: [
            *(tiff(PICTURE), tiff(COLOURS), tiff(VOLUME[0].astype(float))),
            *(tiff(PICTURE > 0), tiff(PICTURE, photometric="miniswhite")),
            pillow(MaskImage, "TIFF"),
        ],
    ),
    "tiff stack": (
        ".tif",
        lambda: [tiff(VOLUME), tiff(VOLUME, **ImageJ), tiff(VOLUME, ome=True)],
    ),
    "tiff packed": (
        ".tif",
        lambda: [
            *(tiff(PICTURE, compression="zlib"), tiff(VOLUME, compression="zlib")),
            *(pillow(COLOURS, "TIFF", compression="tiff_lzw"), pillow(PICTURE, "TIFF")),
            pillow(PICTURE > 0, "TIFF", compression="group4"),
        ],
    ),
    "png": (
        ".png",
        lambda: [
            *(pillow(PICTURE, "PNG"), pillow(COLOURS, "PNG"), pillow(MaskImage, "PNG")),
            *(pillow(VOLUME[0].astype(np.uint16), "PNG"), pillow(PICTURE > 0, "PNG")),
            pillow(np.dstack([COLOURS, PICTURE]), "PNG"),
        ],
    ),
    "jpeg": (".jpg", lambda: [pillow(COLOURS, "JPEG"), pillow(PICTURE * 255, "JPEG")]),
    "npz": (".npz", lambda: [npz(), npz(packed=False)]),
    "nrrd": (".nrrd", lambda: [nrrd_file(False), nrrd_file(True), nrrd_file(True, True)]),
    "npy": (".npy", lambda: [npy()]),
    "gif": (".gif", lambda: [pillow(MaskImage, "GIF")]),
    "bmp": (".bmp", lambda: [pillow(PICTURE, "BMP"), pillow(COLOURS, "BMP")]),
}
"""The suffix of each format, and the whole files that are damaged."""


def next_slice(file):
    file.ImagePositionPatient = [-9, 8, 32.5]


BESIDE = {"dicom series": ("next.dcm", lambda: dicom(change=next_slice))}
"""A whole file that lies beside the damaged one and is read with it."""
