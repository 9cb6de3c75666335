"""What every data set is to the rest of the package: cases, splits and a way to load one case.

A module of this package describes one data set as its owner distributes it: one
:class:`DatasetFormat` that recognises the folder and opens it as a :class:`Dataset`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.io import read_image, read_labels

SPLITS = ("train", "val", "test")

RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Case:
    """One image with its truth, as files.

    ``group`` names what a split must never divide (the patient, the video sequence).
    """

    id: str
    group: str
    image: Path
    mask: Path
    field_of_view: Path | None = None
    second: Path | None = None
    """The same image as a second human observer segmented it."""


@dataclass(frozen=True)
class Sample:
    """A case in memory.

    image: ``[H, W]`` or ``[H, W, C]`` in the file's dtype and range.
    mask: uint8 ``[H, W]``, values ``0..labels-1`` with 0 the background.
    field_of_view: bool ``[H, W]``, the pixels that count in a score; None where all do.
    spacing: physical size of a pixel per axis (mm), or None where the data set does not say.
    """

    case: Case
    image: np.ndarray
    mask: np.ndarray
    field_of_view: np.ndarray | None
    spacing: tuple[float, float] | None


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: its classes and terms, its cases by split, and how to load one.

    classes: a name per label, background first.  channels: a name per image channel.
    colors: ``"#rrggbb"`` per label.  splits: the keys are exactly train, val and test; a split
    may be empty.  notes: what is missing or odd about this copy, a line each.
    """

    name: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    colors: tuple[str, ...]
    licence: str
    attribution: str
    splits: Mapping[str, tuple[Case, ...]]
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[Case, ...]:
        """The cases of one split; InputError if there is no such split or it is empty."""
        if name not in self.splits:
            raise InputError(f"unknown split {name!r}: choose one of {', '.join(self.splits)}")
        if not self.splits[name]:
            raise InputError("; ".join((f"{self.name} has no {name} cases here", *self.notes)))
        return self.splits[name]

    def load(self, case: Case) -> Sample:
        """Read a case and check it; InputError names the first file that is not as it should be."""
        image = read_image(case.image)
        channels = image.shape[2] if image.ndim == 3 else 1
        if channels != len(self.channels):
            raise InputError(
                f"{case.image}: {channels} channels, but {self.name} images have "
                f"{len(self.channels)} ({', '.join(self.channels)})"
            )
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise InputError(f"{case.image}: NaN or infinite values in the image")
        inside = None
        if case.field_of_view is not None:
            inside = self._labels(case.field_of_view, case, image, labels=2).astype(bool)
        mask = self._labels(case.mask, case, image, len(self.classes))
        return Sample(case, image, mask, inside, spacing=None)

    def load_second(self, sample: Sample) -> np.ndarray | None:
        """The second observer's mask of a loaded case, uint8 ``[H, W]``, or None without one."""
        if sample.case.second is None:
            return None
        return self._labels(sample.case.second, sample.case, sample.image, len(self.classes))

    def _labels(self, path: Path, case: Case, image: np.ndarray, labels: int) -> np.ndarray:
        """Read a label file that belongs to ``image``: same size, values below ``labels``."""
        mask = read_labels(path, labels)
        if mask.shape != image.shape[:2]:
            raise InputError(
                f"{path}: {_size(mask)} pixels, but {case.image.name} has {_size(image)} "
                "(height x width)"
            )
        return mask


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"


@dataclass(frozen=True)
class DatasetFormat:
    """How one data set looks on disk and where its owner offers it.

    folders: official names of its top folder.  recognise: does this folder hold the data set?
    open: read a recognised folder into a Dataset with its default splits (the seed matters only
    where the owner defines no split).
    """

    name: str
    title: str
    folders: tuple[str, ...]
    layout: str
    offered: str
    recognise: Callable[[Path], bool]
    open: Callable[[Path, int], Dataset]

    def root_in(self, data: Path) -> Path | None:
        """``data`` itself or its sub-folder of an official name, whichever holds the data set."""
        for root in (data, *(data / folder for folder in self.folders)):
            if root.is_dir() and self.recognise(root):
                return root
        return None

    @property
    def wanted(self) -> str:
        """One line: the layout that is looked for and where to get it."""
        return f"wanted: {self.layout}; {self.offered}"
