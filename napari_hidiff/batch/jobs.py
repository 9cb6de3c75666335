"""Refine image files: which images, which outputs, one record per image.

Everything that can be wrong with the file names is found before the first image is read.

A list of images in a text file, each with its own prior and fixed pixels.
"""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from napari_hidiff.errors import InputError
from napari_hidiff.io import nrrd
from napari_hidiff.io.dicom import is_dicom, is_series
from napari_hidiff.io.images import IMAGES, TIFF
from napari_hidiff.io.nifti import is_nifti, stem
from napari_hidiff.io.registry import is_volume
from napari_hidiff.io.write import tables
from napari_hidiff.masks import Box

if TYPE_CHECKING:
    pass

MAX_ATTEMPTS = 3
"""Attempts at an image whose worker dies; no more than dask makes by itself."""


@dataclass(frozen=True)
class BatchSettings:
    """What all images of a batch have in common.

    model : a bundled name or a file; digest : SHA-256 of its file; device, engine : as asked for.
    settings : sampler, steps, samples, seed; run : a word that no other batch has.
    """

    model: str
    digest: str
    device: str
    engine: str
    settings: Mapping[str, Any]
    run: str


@dataclass(frozen=True)
class Job:
    """One image: what is read (image, prior mask, fixed pixels) and what is written.

    box : around the object in the image, in place of a prior mask.
    """

    image: Path
    prior: Path | None
    fixed: Path | None
    mask: Path
    steps: Path
    box: Box | None = None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files that are written: the mask, the tables beside a NIfTI mask, the record."""
        return (self.mask, *tables(self.mask), self.steps)


class JobResult(NamedTuple):
    """A job with its record, or with one line that says why there is none; trace: of a bug."""

    job: Job
    record: dict[str, Any] | None = None
    error: str = ""
    trace: str = ""


MASKS: tuple[str, ...] = (
    *(".png", ".tif", ".tiff", ".gif", ".bmp", ".jpg", ".jpeg"),
    *(".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".npz"),
)
"""Suffixes looked for where --prior or --fixed is a folder, in this order."""


class Progress(Protocol):
    """How far the work on an image is: ``index`` of ``total``."""

    @property
    def index(self) -> int: ...

    @property
    def total(self) -> int: ...


def absolute(job: Job) -> Job:
    """A job whose names mean the same in another process's working folder."""
    return replace(
        job,
        image=job.image.absolute(),
        prior=job.prior and job.prior.absolute(),
        fixed=job.fixed and job.fixed.absolute(),
        mask=job.mask.absolute(),
        steps=job.steps.absolute(),
    )


def find_images(given: Sequence[Path]) -> list[Path]:
    """The image files that the arguments name, each once.

    A folder stands for the png, jpg, tif, NIfTI and NRRD files in it, but for segmentations of 3D
    Slicer and masks that this program wrote there, or for the DICOM series that it holds; a pattern
    such as ``*.png`` is filled in where the shell did not.  Raises InputError for a folder without
    images and a pattern without matches; a missing file is left for its reader.
    """
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir() and is_series(path):
            found[path] = None
        elif path.is_dir():
            inside = sorted(file for file in path.iterdir() if _is_image(file))
            if not inside:
                raise InputError(
                    f"{path}: no png, jpg or tif images in this folder, no NIfTI, NRRD or DICOM"
                )
            found.update(dict.fromkeys(inside))
        elif not path.exists() and glob.has_magic(str(path)):
            matches = sorted(Path(name) for name in glob.glob(str(path)))
            if not matches:
                raise InputError(f"{path}: no file matches this pattern")
            found.update(dict.fromkeys(matches))
        else:
            found[path] = None
    return list(found)


class Listed(NamedTuple):
    """A line of a list: an image, its prior and its fixed pixels, if the line names them."""

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
) -> list[Job]:
    """Pair every image with its prior, its fixed pixels and its outputs in ``output``.

    prior, fixed: a file for a single image, or a folder with files of the images' stems.
    own: what a list says of single images; it goes before ``prior`` and ``fixed``.
    box: around the object in a single picture that has no prior.
    resume: outputs may exist; :func:`napari_hidiff.batch.records.split` says which of them count.
    Raises InputError where two images would write the same file, where an output exists already
    (unless ``overwrite`` or ``resume``), where one mask or box is given for several images, where
    there are both or the image of a box is a volume, and where ``output`` is a file.
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
    jobs: dict[str, Job] = {}
    for image in images:
        name = image_name(image)
        mask, steps = output / f"{name}_mask{mask_suffix(image)}", output / f"{name}_steps.json"
        key = name.casefold()  # names that some file systems do not tell apart
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
    """What the results of an image are called by; a DICOM series by its folder."""
    if image.is_dir():
        return image.resolve().name
    series = is_dicom(image) and image.resolve().parent.name
    return series or stem(image)


def mask_suffix(image: Path) -> str:
    """How the name of an image's mask ends."""
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
    waiting = file.parent.glob(f".{glob.escape(record)}.*.part")  # killed before it was put there
    return not (file.with_name(record).exists() or any(waiting))


def _beside(given: Path | None, image: Path) -> Path | None:
    """The mask for ``image``: the file itself, or its namesake in a folder.

    A missing namesake stays a path that the reader will name: the other images are still done.
    """
    if given is None or not given.is_dir():
        return given
    stems = (image_name(image), f"{image_name(image)}_mask")
    names = [given / f"{stem}{suffix}" for stem in stems for suffix in MASKS]
    return next((path for path in names if path.is_file()), names[0])


def read_list(file: Path) -> list[Listed]:
    """The images that a text file names, one a line: image, tab, prior, tab, fixed pixels.

    The last two may be missing or empty. Relative names start at the list's folder; empty lines
    and lines that begin with # are left out. Raises InputError for a list that cannot be read, is
    empty, names an image twice, or has more columns.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise InputError(f"{file}: the list cannot be read: {reason}") from error
    found: dict[Path, Listed] = {}
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
        if image in found:
            raise InputError(f"{file}, line {number}: {image} is in the list already")
        found[image] = Listed(image, *paths[1:3])
    if not found:
        raise InputError(f"{file}: the list names no images")
    return list(found.values())
