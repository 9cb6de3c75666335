"""Files of every format, damaged in every way, through the readers that users' files go through.

``python tests/damaged.py --seed 7 --files 50000`` prints what came out as JSON: how many files
gave a result and how many one line, and every file that did anything else. A file comes back from
its format, seed and number: ``--only dicom --first 812 --files 1 --keep FOLDER``.
"""

import argparse
import gzip
import io
import json
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
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

from napari_hidiff.errors import InputError
from napari_hidiff.files import read
from napari_hidiff.files.readings import readings
from napari_hidiff.io import read_fixed, read_image, read_labels, read_mask

SECONDS = 10
"""Within which every file has to be dealt with, however slow the machine is."""

MEMORY = 4 << 30
"""Bytes of address space: a file that asks for more is found out, and does no harm."""

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

FIELDS = (
    *(b"\0", b"\xff", b"\0\0", b"\xff\xff", b"\xff\x7f", b"\0\x80", b"\0\0\0\0", b"\xff" * 4),
    *(b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\xff" * 8, b"\0" * 8),
    *(b"nan ", b"inf ", b"1,25", b"-1", b"0", b"1e99", b"1\\2\\", b"text", b"\\", b"\n\n", b"'"),
    *(b"SQ", b"OB", b"UN", b"LO", b"FD", b"US", b"DS", b"\x1b[31m", b"{", b"(", b"[]"),
)
"""What is written over parts of a header: ends of ranges, numbers that are none, other types."""


def damaged(content, dice):
    """The bytes of a file after one to four changes of one kind each, and the kinds."""
    data, kinds = bytearray(content), []
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        kind = dice.choice(("bits", "run", "cut", "insert", "field", "field", "swap", "double"))
        kinds.append(kind)
        near = min(len(data), dice.choice((64, 400, 1200, len(data))))  # headers matter most
        at = dice.randrange(near) if near else 0
        length = min(dice.choice((1, 2, 4, 16, 100)), len(data) - at)
        if kind == "bits":
            for _ in range(dice.choice((1, 1, 3, 20))):
                place = dice.randrange(near) if near else 0
                byte = data[place : place + 1]
                data[place : place + 1] = bytes(value ^ 1 << dice.randrange(8) for value in byte)
        elif kind == "run":
            data[at : at + length] = dice.choice((b"\0", b"\xff", dice.randbytes(1))) * length
        elif kind == "cut":
            if dice.random() < 0.5:
                del data[at:]
            else:
                del data[at : at + length]
        elif kind == "insert":
            data[at:at] = dice.choice((dice.randbytes(length), b"\0" * length))
        elif kind == "field":
            value = dice.choice(FIELDS)
            data[at : at + len(value)] = value
        elif kind == "swap":
            other = dice.randrange(len(data)) if data else 0
            one, two = data[at : at + length], data[other : other + length]
            data[at : at + len(two)], data[other : other + len(one)] = two, one
        else:
            data[at:at] = data[at : at + length]
    return bytes(data), kinds


def whole_volume(path):
    volume = read.read(path)
    assert volume.array.ndim in (3, 4)
    assert volume.array.size > 0
    assert volume.array.dtype.kind in "buif"
    assert volume.array.dtype.isnative
    assert len(volume.spacing) == 3
    assert all(size > 0 for size in volume.spacing), volume.spacing
    assert np.isfinite(volume.affine).all(), volume.affine
    assert np.isfinite(volume.spacing).all(), volume.spacing
    read.as_layer(volume)
    json.dumps(volume.source.to_dict())
    if read.is_mask(volume):
        read.labels(volume)


READERS = {
    "read": whole_volume,
    "readings": lambda path: [reading.array.shape for reading in readings(path)],
    "image": read_image,
    "mask": read_mask,
    "labels": lambda path: read_labels(path, 2),
    "fixed": read_fixed,
    "png mask": read.read_png_mask,
}


def readers_of(suffix):
    """The readers that a file of this suffix may come to."""
    few = (".nii", ".nii.gz", ".dcm", ".npz", ".nrrd", ".npy")
    return list(READERS.items())[: 2 if suffix in few else 7 if suffix == ".png" else 6]


class Hangs(BaseException):
    """A reader takes too long; nothing that handles exceptions may take it for one."""


def outcome(reader, path):
    """``result`` or ``line``; else what went wrong."""

    def stop(*_):
        raise Hangs

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        reader(path)
        return "result"
    except InputError as error:
        line = str(error)
        if isinstance(error.__cause__, MemoryError):
            return f"asks for memory that no such file needs: {line[:300]}"
        if not line.isprintable() or len(line) > 1000:
            return f"no line to print: {line[:300]!r}"
        named = str(path) in line or str(path.parent) in line
        return "line" if named else f"does not name the file: {line[:300]}"
    except Hangs:
        return f"takes more than {SECONDS} s: {traceback.format_exc()[-500:]}"
    except BaseException as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-2:])
        return f"{type(error).__name__}: {str(error)[:200]} {where}"
    finally:
        signal.alarm(0)


def campaign(seed, files, only=(), first=0, folder=None):
    """Damage ``files`` files, each format its part, and read them; the figures."""
    formats = {name: FORMATS[name] for name in only or FORMATS}
    counts, wrong, slowest = Counter(), [], (0.0, "")
    wholes = {name: make() for name, (_, make) in formats.items()}
    share = -(-files // len(formats))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as own:
        base = Path(folder or own)
        for name, (suffix, _) in formats.items():
            place = base / name.replace(" ", "_")
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"case{suffix}"
            for number in range(first, first + share):
                dice = random.Random(f"{seed} {name} {number}")
                content, kinds = damaged(dice.choice(wholes[name]), dice)
                path.write_bytes(content)
                counts[name] += 1
                for reader, call in readers_of(suffix):
                    start = time.perf_counter()
                    found = outcome(call, path)
                    slowest = max(slowest, (time.perf_counter() - start, f"{name} {number}"))
                    counts[found if found in ("result", "line") else "wrong"] += 1
                    if found not in ("result", "line"):
                        wrong.append([name, number, reader, kinds, found])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "seed": seed,
        "files": sum(counts[name] for name in formats),
        "counts": dict(counts),
        "slowest": slowest,
        "grown_mb": grown / 1024,
        "wrong": wrong,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(FORMATS))
    parser.add_argument("--keep", help="a folder for the files, which stay there")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    start = time.process_time()
    found = campaign(given.seed, given.files, given.only or (), given.first, given.keep)
    found["cpu_seconds"] = time.process_time() - start
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
