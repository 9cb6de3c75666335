"""Volume files that tests write: NIfTI in any orientation, DICOM series."""

import nibabel
import numpy as np
import pydicom
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = ((1, 0, 0), (0, 1, 0))
OBLIQUE = ((0.8, 0.6, 0), (-0.36, 0.48, 0.8))

TURN = np.array([[0.9, -0.3, 0.1], [0.25, 0.85, 0.3], [-0.2, -0.2, 0.95]])


def affine_of(codes, shape, spacing=(0.8, 1.2, 3.0), oblique=False):
    """An affine of that orientation, with an origin; oblique ones are rotated too."""
    place = inv_ornt_aff(axcodes2ornt(codes), shape)
    sizes = np.diag([*spacing, 1.0])
    turn = np.eye(4)
    if oblique:
        turn[:3, :3] = np.linalg.qr(TURN)[0]
        turn[:3, :3] *= np.sign(np.diag(turn[:3, :3]))  # near the axes, so that codes stay
    turn[:3, 3] = (-31.5, 12.25, 7.75)
    return turn @ place @ sizes


def blob(shape, seed=0):
    """An int16 array whose voxels all differ from their mirror images."""
    rng = np.random.default_rng(seed)
    return rng.integers(-1000, 1000, shape).astype(np.int16)


def write_nifti(path, array, affine, codes=(1, 2), unit="mm", kind=nibabel.Nifti1Image):
    """Write an array [i, j, k(, C)]; codes : of qform and sform."""
    image = kind(array, affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine, codes[1])
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def write_series(
    folder,
    array,
    axes=AXIAL,
    spacing=(2.5, 0.7, 0.9),
    origin=(-40.0, 15.0, 100.0),
    rescale=(1, -1024),
    order=None,
    uid=None,
    name="im{:03}.dcm",
    change=lambda index, file: None,
):
    """Write an array uint16 [Z, rows, columns] as a series of CT slices; returns where they lie.

    order : which slice is written as which file; change(index, file) : a last change of a file.
    The affine [4, 4] goes from column, row, slice to mm in DICOM's axes (LPS).
    """
    folder.mkdir(parents=True, exist_ok=True)
    deep, down, across = spacing
    row, column = (np.array(axis, float) for axis in axes)
    normal = np.cross(row, column)
    uid = uid or generate_uid()
    for number, index in enumerate(order if order is not None else range(len(array))):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        file.SeriesInstanceUID, file.StudyInstanceUID = uid, "1.2.3"
        file.FrameOfReferenceUID, file.Modality = "1.2.4", "CT"
        file.PatientName, file.PatientID, file.InstanceNumber = "Test", "0", number + 1
        file.ImagePositionPatient = [float(v) for v in np.array(origin) + normal * deep * index]
        file.ImageOrientationPatient = [float(v) for v in (*row, *column)]
        file.PixelSpacing, file.SliceThickness = [down, across], deep
        file.RescaleSlope, file.RescaleIntercept = rescale
        file.Rows, file.Columns = array.shape[1:]
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated = file.BitsStored = 16
        file.HighBit, file.PixelRepresentation = 15, 0
        file.PixelData = array[index].astype("<u2").tobytes()
        change(index, file)
        pydicom.dcmwrite(folder / name.format(number), file, enforce_file_format=True)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * across, column * down, normal * deep
    affine[:3, 3] = origin
    return affine
