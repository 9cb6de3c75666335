"""A mask as a DICOM segmentation over the series that it was drawn on, by highdicom (an extra)."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat

from napari_hidiff._version import __version__
from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io import record
from napari_hidiff.io.dicom import elements
from napari_hidiff.io.dicom.series import Slice, find_series, in_order
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.io.volume import LPS, Source
from napari_hidiff.masks import Label

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

INSTALL = "install it with: pip install 'napari-hidiff[dicom-seg]'"
NAME = "napari-hidiff"
KINDS = {
    "CID7192": "AnatomicalStructure",
    "CID7194": "MorphologicallyAbnormalStructure",
    "CID7191": "Tissue",
    "CID7193": "PhysicalObject",
    "CID7197": "BodySubstance",
}
"""DICOM's context groups of what a segment can be, each with SNOMED's category of its codes."""
EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Elements that a file must have, with a value or empty; many converters leave them out."""
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
LONGEST = 64
"""Characters of a segment's label."""
SERIES = 1000
"""Number of the series of a mask: behind those of the scanner."""
MOST = 2**32 - 2
"""Bytes of the pixels of a DICOM file."""


def is_installed() -> bool:
    """Whether highdicom is there; nothing is imported."""
    return find_spec("highdicom") is not None


def check_installed(path: Path) -> None:
    """InputError, with the command that installs it, if highdicom is missing."""
    if not is_installed():
        raise InputError(f"{path}: a DICOM segmentation is written by highdicom; {INSTALL}")


def write_segmentation(
    path: Path,
    mask: np.ndarray,
    classes: Sequence[Label],
    source: Source | None,
    rater: str = "",
) -> None:
    """Write a mask as one binary segmentation, a segment for each class but the background.

    mask : integers [Z, Y, X], or [Y, X] of a single image, as read from ``source``.
    classes : a name and a colour for every label of the mask, background first; names have at
        most 64 characters. Classes without a voxel are segments too.
    rater : who annotated it, its content creator.
    source : of the series, whose files must still be there: the segments refer to them.

    A segment has a frame for every slice, an empty one too, so that the file alone says where the
    whole mask lies. The file is written atomically.

    Raises
    ------
    InputError : one line; highdicom is missing, the mask belongs to no DICOM series or to one that
        has changed, or the series lacks what a segmentation needs.
    """
    check_installed(path)
    if source is None or source.format != "dicom":
        raise InputError(
            f"{path}: a DICOM segmentation needs the DICOM series of the mask, and its size; save "
            "it as .nii.gz"
        )
    classes = record.named(classes, 2)  # an empty mask has an empty segment
    view = source.stored(mask).transpose(2, 1, 0)
    many = (len(classes) - 1) * view.size / 8
    if many > MOST:
        raise InputError(f"{path}: {many / 1e9:.1f} GB of segments do not fit into a DICOM file")
    slices, step = _slices(source)
    frames = np.ascontiguousarray(view)
    if slices[0].header.frames > 1:  # highdicom wants the order of the file
        frames = frames[np.argsort([one.header.frame for one in slices])]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = _segmentation(frames, _described(path, classes), slices, step, rater)
            with atomic_write(path) as (part,):
                made.save_as(part, enforce_file_format=True)
    except InputError:
        raise
    except Exception as error:  # highdicom raises many kinds
        raise InputError(
            f"{source.path}: a segmentation cannot refer to this series: {first_line(error)}"
        ) from error


def property_of(name: str) -> "tuple[Code, Code]":
    """The category and the type of a segment: DICOM's codes of that name, else those of a tissue.

    A plural s, case, spaces and underscores do not matter: ``Kidneys`` is SNOMED's *Kidney*.
    """
    from pydicom.sr.codedict import codes

    key = _key(name)
    for group, category in KINDS.items():
        concepts = getattr(codes, group)
        for keyword in concepts.dir():
            if _key(keyword) == key:
                return getattr(codes.SCT, category), getattr(concepts, keyword)
    return codes.SCT.Tissue, codes.SCT.Tissue


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum()).removesuffix("s")


def _slices(source: Source) -> tuple[list[Slice], float]:
    """The images or frames of the mask's slices, in their order, and the distance of these in mm.

    InputError if they are not those that the mask was drawn on.
    """
    path = Path(source.path)
    if source.header.get("label"):
        raise InputError(f"{path}: is a segmentation, not the images that a new one refers to")
    if not path.exists():
        raise InputError(f"{path}: the DICOM series that the mask was drawn on is not there")
    _, found = find_series(
        path if path.is_dir() else path.parent, str(source.header.get("series", ""))
    )
    affine = LPS @ np.array(source.affine)
    if source.header.get("placed"):
        found = [one for one in found if _is_level(one, affine, source.shape[2])]
    if not found:
        raise InputError(f"{path}: no image of this series lies where the mask does")
    slices, _, there = in_order(path, found)
    header = slices[0].header
    shape = header.needed("Columns"), header.needed("Rows"), len(slices)
    if shape != source.shape or abs(LPS @ there - affine).max() > 1e-2:
        raise InputError(f"{path}: this series has changed since it was opened; open it again")
    files = {one.header.path for one in slices}
    if header.frames > 1 and (len(files) > 1 or header.frames != len(slices)):
        raise InputError(
            f"{path}: a segmentation refers to one multi-frame file as a whole, not to "
            f"{len(slices)} frames of {len(files)} files; save the mask as .nii.gz"
        )
    return slices, float(np.linalg.norm(affine[:3, 2]))


def _is_level(one: Slice, affine: np.ndarray, depth: int) -> bool:
    """Whether an image lies at one of the levels of a volume, within a third of their distance."""
    if one.position is None:
        return False
    step = affine[:3, 2]
    way = one.position - affine[:3, 3]
    level = round(float(way @ step / (step @ step)))
    near = np.linalg.norm(way - level * step) < np.linalg.norm(step) / 3
    return bool(0 <= level < depth and near)


def _described(path: Path, classes: Sequence[Label]) -> list[Any]:
    """highdicom's descriptions of the segments."""
    from pydicom.sr.codedict import codes

    hd = import_module("highdicom")
    who = hd.AlgorithmIdentificationSequence(NAME, codes.DCM.ArtificialIntelligence, __version__)
    found = []
    for number, kind in enumerate(classes[1:], 1):
        name = kind.name.strip() or f"label {number}"
        if len(name) > LONGEST or "\\" in name or not name.isprintable():
            raise InputError(
                f"{path}: a segment's name has at most {LONGEST} characters and no backslash: "
                f"{name[: LONGEST + 1]!r}"
            )
        category, what = property_of(name)
        found.append(
            hd.seg.SegmentDescription(
                number,
                name,
                category,
                what,
                hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
                who,
                display_color=hd.color.CIELabColor.from_string(kind.color),
            )
        )
    return found


def _segmentation(
    frames: np.ndarray,
    described: Sequence[Any],
    slices: Sequence[Slice],
    step: float,
    rater: str,
) -> Any:
    """highdicom's dataset of frames [k, rows, columns] on the slices."""
    hd = import_module("highdicom")
    paths = dict.fromkeys(one.header.path for one in slices)
    sources = [_source_image(path, one, step) for path, one in zip(paths, slices, strict=False)]
    made = hd.seg.Segmentation(
        sources,
        frames,
        hd.seg.SegmentationTypeValues.BINARY,
        described,
        series_instance_uid=generate_uid(),
        series_number=SERIES,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number="0",
        content_label="MASK",
        content_description=f"mask by {NAME}",
        series_description=f"mask by {NAME}",
        content_creator_name=_person(rater) or None,
        omit_empty_frames=False,
        specific_character_set="ISO_IR 192",  # classes have names in any script
    )
    measures = made.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
    if measures and slices[0].position is not None:  # scanners write a gap there, highdicom 1
        measures[0].SpacingBetweenSlices = DSfloat(step, auto_format=True)
    return made


def _person(rater: str) -> str:
    """A name as DICOM has it, without the signs that part names there."""
    return " ".join(re.sub(r"[\\^=\x00-\x1f]", " ", rater).split())[:LONGEST]


def _source_image(path: Path, one: Slice, step: float) -> Any:
    """The header of an image with what highdicom reads from it."""
    dataset = elements.load(path, stop_before_pixels=True)
    header = replace(one.header, parts=(dataset,), name=str(path))
    for keyword in NEEDED:
        if not header.text(keyword):
            raise InputError(f"{path}: has no {keyword}, by which a segmentation refers to it")
    for keyword in EMPTY:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    if one.position is not None and one.spacing is None:
        raise InputError(f"{path}: has no size of a pixel, which a segmentation needs")
    if "SharedFunctionalGroupsSequence" not in dataset and one.spacing is not None:
        dataset.PixelSpacing = [DSfloat(float(size), auto_format=True) for size in one.spacing]
        if not header.number("SliceThickness"):
            dataset.SliceThickness = DSfloat(step, auto_format=True)
    return dataset
