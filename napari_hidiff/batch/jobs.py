"""The jobs of a batch: which images, with which prior and fixed pixels, into which files.

:func:`plan` makes the jobs from file names and finds every fault in them before the first image is
read. :func:`read_list` reads images with their own prior and fixed pixels from a text file.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from napari_hidiff.errors import InputError
from napari_hidiff.io import nrrd
from napari_hidiff.io.dicom import is_dicom, is_series
from napari_hidiff.io.dicom.segmentation import check_installed
from napari_hidiff.io.images import IMAGES, TIFF
from napari_hidiff.io.nifti import is_nifti, stem
from napari_hidiff.io.registry import is_volume, kind_of
from napari_hidiff.io.write import tables
from napari_hidiff.masks import Box

if TYPE_CHECKING:
    pass

MAX_ATTEMPTS = 3
"""Attempts at an image whose worker dies; at most as many as dask makes by itself."""
MASKS: tuple[str, ...] = (
    *(".png", ".tif", ".tiff", ".gif", ".bmp", ".jpg", ".jpeg"),
    *(".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".npz", ".dcm"),
)
"""Suffixes of masks in a folder of --prior or --fixed, in order of preference."""


@dataclass(frozen=True)
class BatchSettings:
    """The settings that all images of a batch share.

    model : a bundled name or a file; digest : SHA-256 of its file; device, engine : as requested.
    settings : sampler, steps, samples, scale, seed; run : a unique id of the batch.
    """

    model: str
    digest: str
    device: str
    engine: str
    settings: Mapping[str, Any]
    run: str


@dataclass(frozen=True)
class Job:
    """One image: its input files (image, prior mask, fixed pixels) and its output files.

    box : around the object in the image, instead of a prior mask.
    """

    image: Path
    prior: Path | None
    fixed: Path | None
    mask: Path
    steps: Path
    box: Box | None = None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All output files: the mask, the tables beside a NIfTI mask, the record."""
        return (self.mask, *tables(self.mask), self.steps)


class JobResult(NamedTuple):
    """A job with its record, or with its error in one line; trace: of a bug."""

    job: Job
    record: dict[str, Any] | None = None
    error: str = ""
    trace: str = ""


class Progress(Protocol):
    """Progress on one image: ``index`` of ``total``."""

    @property
    def index(self) -> int: ...

    @property
    def total(self) -> int: ...


def absolute(job: Job) -> Job:
    """The job with absolute paths, valid in any working folder."""
    return replace(
        job,
        image=job.image.absolute(),
        prior=job.prior and job.prior.absolute(),
        fixed=job.fixed and job.fixed.absolute(),
        mask=job.mask.absolute(),
        steps=job.steps.absolute(),
    )


def find_images(arguments: Sequence[Path]) -> list[Path]:
    """The image files of the arguments, each once.

    A folder means its png, jpg, tif, NIfTI and NRRD files, without segmentations of 3D Slicer and
    masks of this program, or its DICOM series; a pattern such as ``*.png`` is expanded if the shell
    did not. Raises InputError for a folder without images and a pattern without matches; a missing
    file is an error of its reader.
    """
    files: dict[Path, None] = {}
    for path in arguments:
        if path.is_dir() and is_series(path):
            files[path] = None
        elif path.is_dir():
            inside = sorted(file for file in path.iterdir() if _is_image(file))
            if not inside:
                raise InputError(
                    f"{path}: no png, jpg or tif images in this folder, no NIfTI, NRRD or DICOM"
                )
            files.update(dict.fromkeys(inside))
        elif not path.exists() and glob.has_magic(str(path)):
            matches = sorted(Path(name) for name in glob.glob(str(path)))
            if not matches:
                raise InputError(f"{path}: no file matches this pattern")
            files.update(dict.fromkeys(matches))
        else:
            files[path] = None
    return list(files)


class Listed(NamedTuple):
    """A line of a list: an image, and its prior and its fixed pixels, if any."""

    image: Path
    prior: Path | None = None
    fixed: Path | None = None


def plan(
    images: Sequence[Path],
    output: Path,
    prior: Path | None = None,
    fixed: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    own: Mapping[Path, Listed] | None = None,
    box: Box | None = None,
    dicom_seg: bool = False,
) -> list[Job]:
    """Pair every image with its prior, its fixed pixels and its outputs in ``output``.

    prior, fixed: a file for a single image, or a folder with files of the images' stems.
    own: entries of a list for single images; they override ``prior`` and ``fixed``.
    box: around the object in a single picture without a prior.
    dicom_seg: masks of DICOM series are DICOM segmentations, not NIfTI.
    resume: outputs may exist; :func:`napari_hidiff.batch.records.split` decides which are valid.
    Raises InputError if two images would write the same file, an output exists already (unless
    ``overwrite`` or ``resume``), there is one mask or box for several images, both a prior and a
    box, or a box in a volume, if ``output`` is a file, or for ``dicom_seg`` without highdicom or a
    DICOM series.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: the output must be a folder")
    for option, path in (("--prior", prior), ("--fixed", fixed)):
        if path is not None and not path.exists():
            raise InputError(f"{path}: no such file or folder ({option})")
        if path is not None and not path.is_dir() and len(images) > 1:
            raise InputError(
                f"{path}: {option} is one file for {len(images)} images; give a folder"
            )
    if box is not None and len(images) > 1:
        raise InputError(f"--box is around an object in one image; there are {len(images)}")
    if dicom_seg:
        check_installed(output)
        if not any(kind_of(image) == "dicom" for image in images):
            raise InputError("--dicom-seg is for DICOM series; none of the images is one")
    jobs: dict[str, Job] = {}
    for image in images:
        name, suffix = image_name(image), mask_suffix(image, dicom_seg)
        mask, steps = output / f"{name}_mask{suffix}", output / f"{name}_steps.json"
        key = name.casefold()  # some file systems ignore case
        if key in jobs:
            raise InputError(
                f"{jobs[key].image} and {image} would both write {mask}; refine them into "
                "separate folders"
            )
        listed = (own or {}).get(image) or Listed(image)
        masks = listed.prior or _beside(prior, image), listed.fixed or _beside(fixed, image)
        job = Job(image, *masks, mask, steps, box)
        if box is not None and job.prior is not None:
            raise InputError(f"{image}: has a prior and a --box: give one")
        if box is not None and is_volume(image):
            raise InputError(f"{image}: is a volume; --box is for a picture")
        existing = next((file for file in job.outputs if file.exists()), None)
        if existing is not None and not (overwrite or resume):
            raise InputError(
                f"{existing}: exists already; --overwrite replaces it, --resume goes on after it"
            )
        jobs[key] = job
    return list(jobs.values())


def image_name(image: Path) -> str:
    """The stem of an image's results; a DICOM series has the name of its folder."""
    if image.is_dir():
        return image.resolve().name
    series = is_dicom(image) and image.resolve().parent.name
    return series or stem(image)


def mask_suffix(image: Path, dicom_seg: bool = False) -> str:
    """The suffix of an image's mask; ``dicom_seg`` as in :func:`plan`."""
    if dicom_seg and kind_of(image) == "dicom":
        return ".dcm"
    if image.suffix.lower() in TIFF:
        return ".tif"
    return ".nii.gz" if is_volume(image) else ".png"


def _is_image(file: Path) -> bool:
    known = file.suffix.lower() in (*IMAGES, *nrrd.SUFFIXES) or is_nifti(file)
    aside = file.name.startswith(".") or file.name.lower().endswith(".seg.nrrd")
    if aside or not known or not file.is_file():
        return False
    name = image_name(file)
    if not name.endswith("_mask"):
        return True
    record = f"{name.removesuffix('_mask')}_steps.json"
    waiting = file.parent.glob(f".{glob.escape(record)}.*.part")  # of a killed process
    return not (file.with_name(record).exists() or any(waiting))


def _beside(place: Path | None, image: Path) -> Path | None:
    """The mask for ``image``: the file itself, or its namesake in a folder.

    A missing namesake is an error of its reader, so that the other images are still refined.
    """
    if place is None or not place.is_dir():
        return place
    stems = (image_name(image), f"{image_name(image)}_mask")
    names = [place / f"{stem}{suffix}" for stem in stems for suffix in MASKS]
    return next((path for path in names if path.is_file()), names[0])


def read_list(file: Path) -> list[Listed]:
    """The images in a text file, one per line: image, tab, prior, tab, fixed pixels.

    The last two may be missing or empty. Relative names start at the list's folder; empty lines
    and lines that begin with # are ignored. Raises InputError for a list that cannot be read, is
    empty, names an image twice, or has more columns.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"{file}: the list cannot be read: {reason}") from error
    entries: dict[Path, Listed] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        names = [name.strip() for name in line.split("\t")]
        if len(names) > 3 or not names[0]:
            raise InputError(
                f"{file}, line {number}: wanted an image, and after tabs its prior and its fixed "
                "pixels"
            )
        paths = [file.parent / name if name else None for name in names] + [None, None]
        image = file.parent / names[0]
        if image in entries:
            raise InputError(f"{file}, line {number}: {image} is in the list already")
        entries[image] = Listed(image, *paths[1:3])
    if not entries:
        raise InputError(f"{file}: the list names no images")
    return list(entries.values())
