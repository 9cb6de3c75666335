"""The interface of a data set: cases, splits, and a way to load one case.

A module of this package describes one data set as its owner distributes it: one
:class:`DatasetFormat` that recognises the folder and opens it as a :class:`Dataset`. A
:class:`Case` is a picture or a whole volume, by its files; a :class:`Sample` is what they hold.
Cases of one patient or video are one group. :func:`shrunk` gives a smaller picture or slice.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from skimage.transform import resize

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.io.images import read_image, read_labels
from napari_hidiff.io.nifti import Volume, read_volume
from napari_hidiff.io.pictures import check_turn

SPLITS = ("train", "val", "test")

RGB = ("red", "green", "blue")

COLORS = ("#ff4040", "#40a0ff", "#ffe040", "#a060ff", "#20d0d0", "#ffb090", "#806050", "#c0c0c0")


def palette(labels: int) -> tuple[str, ...]:
    """A colour ``#rrggbb`` per label; black for the background."""
    return ("#000000", *(COLORS[i % len(COLORS)] for i in range(labels - 1)))


@dataclass(frozen=True)
class Case:
    """One image or volume with its truth, as files.

    ``group``: a split never divides it (the patient, the video sequence).
    ``images``: one file, or several (one per channel, one per slice) for the reader of the data
    set.  ``mask`` may be the same file.
    """

    id: str
    group: str
    images: tuple[Path, ...]
    mask: Path
    field_of_view: Path | None = None
    second: Path | None = None
    """The mask of a second human observer."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of image and truth, each once."""
        more = (self.mask, *(path for path in (self.field_of_view,) if path is not None))
        return tuple(dict.fromkeys((*self.images, *more)))


@dataclass(frozen=True)
class Sample:
    """A case in memory.

    image: ``[H, W, C]``, or ``[D, H, W, C]`` for a volume, in the file's dtype and range.
    mask: uint8 ``[H, W]`` or ``[D, H, W]``, values ``0..labels-1`` with 0 the background.
    field_of_view: bool like the mask, the pixels of a score; None = all.
    spacing: physical size of a pixel per axis of the mask (mm), None if unknown.
    """

    case: Case
    image: np.ndarray
    mask: np.ndarray
    field_of_view: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None

    @property
    def volume(self) -> bool:
        """Whether the case is a volume [D, H, W]."""
        return self.mask.ndim == 3


Reader = Callable[["Dataset", Case], Sample]
"""Files of a case -> sample, whose mask has the labels of the file."""


def read_picture(dataset: "Dataset", case: Case) -> Sample:
    """A 2-D image file with a mask file, and a field of view, if any."""
    image = read_image(case.images[0])
    image = image if image.ndim == 3 else image[..., None]
    labels = max(dataset.codes, default=len(dataset.classes) - 1) + 1
    mask = read_labels(case.mask, labels, cut=dataset.cut)
    check_turn(case.images[0], case.mask, image.shape[:2], mask.shape)
    inside = None
    if case.field_of_view is not None:
        inside = read_labels(case.field_of_view, labels=2).astype(bool)
        check_turn(case.images[0], case.field_of_view, image.shape[:2], inside.shape)
    return Sample(case, image, mask, inside)


def read_nifti(dataset: "Dataset", case: Case) -> Sample:
    """A NIfTI volume per channel, or one with all channels, and a NIfTI mask.

    InputError names a file whose size or place in space differs from the first.
    """
    del dataset  # the same for every data set
    volumes = [read_volume(path) for path in case.images]
    truth = read_volume(case.mask)
    first, size = case.images[0], volumes[0].array.shape[:3]
    for path, volume in zip(case.images, volumes, strict=True):
        _check_size(
            path, volume.array[..., 0] if volume.array.ndim == 4 else volume.array, first, size
        )
    _check_size(case.mask, truth.array, first, size)
    for path, volume in zip((*case.images, case.mask), (*volumes, truth), strict=True):
        _check_place(path, volume, first, volumes[0])
    parts = [v.array if v.array.ndim == 4 else v.array[..., None] for v in volumes]
    image = parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
    return Sample(case, image, whole(truth.array, case.mask), None, volumes[0].spacing)


def whole(mask: np.ndarray, path: Path) -> np.ndarray:
    """The class numbers of a mask as int32; InputError for values that are not whole numbers."""
    if mask.dtype.kind == "f" and not (np.isfinite(mask).all() and (mask % 1 == 0).all()):
        raise InputError(f"{path}: has values that are not whole numbers; a mask has class numbers")
    return mask.astype(np.int32)


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: its classes and terms, its cases by split, and how to load one.

    classes: a name per label, background first.  channels: a name per image channel.
    colors: ``"#rrggbb"`` per label.  splits: the keys are exactly train, val and test; a split
    may be empty.  notes: what is missing or odd about this copy, a line each.
    intensity: keyword arguments of :class:`napari_hidiff.inference.preprocessing.Intensity`.
    codes: label in the files -> label of the classes, if they differ (others are unknown).
    regions: named unions of labels (BraTS), scored beside the classes; their mean is then *the*
    score.  reader: files -> sample.
    cut: masks with two labels are grey pictures, foreground above 127.
    root: the folder that was found.
    at_scale_of: the card of a model to whose scale images are resampled as the model does.
    longest_side: largest side in pixels, to which pictures and slices are shrunk; 0 = no limit.
    slices: neighbouring slices that a network is to see together (:attr:`Card.slices`).
    slices_apart: every slice of a volume is normalised by itself, as prompted models read it.
    """

    name: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    colors: tuple[str, ...]
    licence: str
    attribution: str
    splits: Mapping[str, tuple[Case, ...]]
    notes: tuple[str, ...] = ()
    intensity: Mapping[str, Any] = field(default_factory=lambda: {"rule": "standardize"})
    codes: Mapping[int, int] = field(default_factory=dict)
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    reader: Reader = read_picture
    cut: bool = False
    root: Path | None = None
    longest_side: int = 0
    slices_apart: bool = False
    at_scale_of: Card | None = None
    slices: int = 1

    def split(self, name: str) -> tuple[Case, ...]:
        """The cases of one split; InputError if there is no such split or it is empty."""
        if name not in self.splits:
            raise InputError(f"unknown split {name!r}: choose one of {', '.join(self.splits)}")
        if not self.splits[name]:
            raise InputError("; ".join((f"{self.name} has no {name} cases here", *self.notes)))
        return self.splits[name]

    def load(self, case: Case) -> Sample:
        """Read a case and check it; InputError names the first faulty file."""
        for path in case.files:
            if not path.is_file():
                raise InputError(f"{path}: missing; case {case.id} of {self.name} needs it")
        sample = self.reader(self, case)
        first, channels = case.images[0], sample.image.shape[-1]
        if channels != len(self.channels):
            raise InputError(
                f"{first}: {channels} channels, but {self.name} images have "
                f"{len(self.channels)} ({', '.join(self.channels)})"
            )
        self._check_finite(sample)
        size = sample.image.shape[:-1]
        _check_size(case.mask, sample.mask, first, size)
        if sample.field_of_view is not None and case.field_of_view is not None:
            _check_size(case.field_of_view, sample.field_of_view, first, size)
        mask = self.decode(sample.mask, case.mask)
        loaded = Sample(case, sample.image, mask, sample.field_of_view, sample.spacing)
        if self.at_scale_of is not None:
            sides = None if loaded.spacing is None else loaded.spacing[-2:]
            loaded = resampled(loaded, self.at_scale_of.scale(loaded.mask.shape[-2:], sides))
        return shrunk(loaded, self.longest_side) if self.longest_side else loaded

    def load_second(self, sample: Sample) -> np.ndarray | None:
        """The second observer's mask of a loaded case, uint8 ``[H, W]``, or None without one."""
        if sample.case.second is None:
            return None
        mask = read_labels(sample.case.second, len(self.classes))
        size = sample.mask.shape[-2:]
        if not self.longest_side:
            check_turn(sample.case.images[0], sample.case.second, size, mask.shape)
        if self.longest_side:
            mask = nearest(mask, (size[0], size[1]))
        _check_size(sample.case.second, mask, sample.case.images[0], size)
        return mask

    def _check_finite(self, sample: Sample) -> None:
        if sample.image.dtype.kind != "f" or np.isfinite(sample.image).all():
            return
        files, last = sample.case.images, sample.image.shape[-1]
        bad = next(c for c in range(last) if not np.isfinite(sample.image[..., c]).all())
        path = files[bad] if len(files) == last else files[0]
        raise InputError(f"{path}: NaN or infinite values in the image")

    def decode(self, mask: np.ndarray, path: Path) -> np.ndarray:
        """Labels of the file as labels of the classes, uint8; InputError for an unknown one."""
        codes = self.codes or {label: label for label in range(len(self.classes))}
        unknown, beyond = 255, max(codes) + 1
        table = np.full(beyond + 1, unknown, np.uint8)
        table[list(codes)] = list(codes.values())
        decoded = table[np.where((mask >= 0) & (mask < beyond), mask, np.int32(beyond))]
        if (decoded == unknown).any():
            raise InputError(
                f"{path}: unknown label {mask[decoded == unknown][0]}; known are "
                f"{', '.join(map(str, sorted(codes)))}"
            )
        return decoded


def _check_size(path: Path, array: np.ndarray, image: Path, size: tuple[int, ...]) -> None:
    if array.shape != size:
        axes = "height x width" if len(size) == 2 else "depth x height x width"
        raise InputError(
            f"{path}: {_size(array.shape)} pixels, but {image.name} has {_size(size)} ({axes})"
        )


def _check_place(path: Path, volume: Volume, first: Path, reference: Volume) -> None:
    """InputError for a mask without its image's header: it would be flipped in canonical axes."""
    if np.allclose(volume.affine, reference.affine, atol=0.5 * max(reference.spacing)):
        return
    here, there = (_orientation(file) for file in (path, first))
    if here != there:
        raise InputError(
            f"{path}: its header says orientation {here} and another place than {first.name} "
            f"({there}); save it with the header of its image"
        )


def _orientation(path: Path) -> str:
    """The stored orientation, such as ``LPS``."""
    import nibabel
    from nibabel.spatialimages import SpatialImage

    return "".join(nibabel.aff2axcodes(cast(SpatialImage, nibabel.load(path)).affine))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


@dataclass(frozen=True)
class DatasetFormat:
    """The layout of one data set on disk, and its owner's address.

    folders: official names of its top folder.  recognise: is this folder the data set?
    open: read a recognised folder into a Dataset with the splits of a rule (the seed matters only
    without an official split).  It reads names only; faults of a case are errors of
    :meth:`Dataset.load`.  rules: the split rules by name, the default first.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    layout: str
    offered: str
    recognise: Callable[[Path], bool]
    open: Callable[[Path, int, str], Dataset]
    rules: tuple[str, ...] = ("official",)

    def root_in(self, data: Path) -> Path | None:
        """The folder of the data set: ``data`` or its sub-folder of an official name; else None."""
        for root in (data, *(data / folder for folder in self.folders)):
            if root.is_dir() and self.recognise(root):
                return root
        return None

    @property
    def wanted(self) -> str:
        """One line: the expected layout and the owner's address."""
        return f"wanted: {self.layout}; {self.offered}"


def common_spacing(spacings: Iterable[Sequence[float] | None]) -> tuple[float, ...] | None:
    """The median size of a pixel (y, x) of some samples; None where one does not state it.

    spacings : of each, the last two axes are y and x, in mm.
    """
    every = list(spacings)
    known = [spacing[-2:] for spacing in every if spacing is not None]
    if not every or len(known) < len(every):
        return None
    return tuple(np.median(known, 0).round(4).tolist())


def shrunk(sample: Sample, longest_side: int) -> Sample:
    """The sample with its pictures or slices at most ``longest_side`` pixels high and wide.

    Nothing is enlarged; else as :func:`resampled`.
    """
    return resampled(sample, min(1.0, longest_side / max(sample.mask.shape[-2:])))


def resampled(sample: Sample, factor: float) -> Sample:
    """The sample with pictures or slices of other sizes; itself for a factor of 1.

    The image becomes float32 in its own range, smoothed against aliasing; labels are those of the
    nearest pixel; the spacing follows; the number of slices stays.
    """
    if factor == 1:
        return sample
    height, width = sample.mask.shape[-2:]
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    slices = sample.image if sample.volume else sample.image[None]
    image = np.stack([_smooth(plane, size) for plane in slices])
    spacing = sample.spacing
    if spacing is not None:
        y, x = spacing[-2] * height / size[0], spacing[-1] * width / size[1]
        spacing = (*spacing[:-2], y, x)
    inside = sample.field_of_view
    return replace(
        sample,
        image=image if sample.volume else image[0],
        mask=nearest(sample.mask, size),
        field_of_view=None if inside is None else nearest(inside, size),
        spacing=spacing,
    )


def nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels [..., H, W] resized by nearest neighbour."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, labels.shape[-2:], strict=True)
    )
    return labels[..., rows[:, None], columns]


def _smooth(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    array: np.ndarray = resize(
        plane.astype(np.float32), size, order=1, anti_aliasing=True, preserve_range=True
    ).astype(np.float32)
    return array
