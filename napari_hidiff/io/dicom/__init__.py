"""DICOM: a series as a volume, and masks as DICOM segmentations."""

from napari_hidiff.io.dicom.series import SUFFIXES, in_folder, is_dicom, is_series, read_dicom

__all__ = ["SUFFIXES", "in_folder", "is_dicom", "is_series", "read_dicom"]
