"""Refine image files: which images, which outputs, one record per image.

Everything that can be wrong with the file names is found before the first image is read.
"""

import glob
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_hidiff import __version__
from napari_hidiff.batch.listed import Listed
from napari_hidiff.errors import InputError
from napari_hidiff.io import nrrd
from napari_hidiff.io.dicom import is_dicom, is_series
from napari_hidiff.io.images import IMAGES, TIFF, read_fixed, read_image, read_labels
from napari_hidiff.io.nifti import is_nifti, stem
from napari_hidiff.io.pictures import check_turn, orientation
from napari_hidiff.io.registry import is_volume
from napari_hidiff.io.storage import whole
from napari_hidiff.io.write import tables, write_labels

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

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


@dataclass(frozen=True)
class Job:
    """One image: what is read (image, prior mask, fixed pixels) and what is written."""

    image: Path
    prior: Path | None
    fixed: Path | None
    mask: Path
    steps: Path

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All files that are written: the mask, the tables beside a NIfTI mask, the record."""
        return (self.mask, *tables(self.mask), self.steps)


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


def plan(
    images: Sequence[Path],
    output: Path,
    prior: Path | None = None,
    fixed: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    own: Mapping[Path, Listed] | None = None,
) -> list[Job]:
    """Pair every image with its prior, its fixed pixels and its outputs in ``output``.

    prior, fixed: a file for a single image, or a folder with files of the images' stems.
    own: what a list says of single images; it goes before ``prior`` and ``fixed``.
    resume: outputs may exist; :func:`napari_hidiff.batch.records.split` says which of them count.
    Raises InputError where two images would write the same file, where an output exists already
    (unless ``overwrite`` or ``resume``), where one mask is given for several images, and where
    ``output`` is a file.
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
        job = Job(image, *masks, mask, steps)
        existing = next((file for file in job.outputs if file.exists()), None)
        if existing is not None and not (overwrite or resume):
            raise InputError(
                f"{existing}: exists already; --overwrite replaces it, --resume goes on after it"
            )
        jobs[key] = job
    return list(jobs.values())


def refine_file(
    model: "HiDiff",
    job: Job,
    settings: dict[str, Any],
    on_step: Callable[[Progress], None] = lambda step: None,
    made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Refine one image, write its mask and its steps, and return the record that was written.

    A volume is refined slice by slice; see :mod:`napari_hidiff.batch.refine`.

    settings: sampler, steps, samples (None = the model's card) and seed.
    on_step: called after every step, of a volume before some slices, for progress.
    made: goes into the record as it is.
    Raises InputError naming the file.
    """
    start = time.perf_counter()
    try:
        if is_volume(job.image):
            from napari_hidiff.batch.refine import refine_volume

            return refine_volume(model, job, settings, on_step, made)
        image = read_image(job.image)
        model.check_image(image)
        prior = None if job.prior is None else read_labels(job.prior, model.labels)
        fixed = None if job.fixed is None else read_fixed(job.fixed)
        for path, given in ((job.prior, prior), (job.fixed, fixed)):
            if path is not None and given is not None:
                check_turn(job.image, path, image.shape[:2], given.shape)
        run = model.steps(image, prior=prior, fixed=fixed, **settings)
        mask = model.mask_of(model.prior(image)) if prior is None else prior
        if fixed is not None:
            mask = np.where(fixed >= 0, fixed, mask).astype(np.uint8)
        record = head(model, job, settings, image.shape, mask, fixed) | {"steps": []}
        first, before = mask, time.perf_counter()
        for step in run:
            now, after = time.perf_counter(), step.mask
            record["steps"].append(
                {
                    "index": step.index,
                    "t": step.t,
                    "changed": int((after != mask).sum()),
                    "pixels": count(after, model.labels),
                    "seconds": round(now - before, 3),
                }
            )
            mask, before = after, now
            on_step(step)
        record["changed"] = int((mask != first).sum())
        if (turn := orientation(job.image)) != 1:
            record["orientation"] = turn
        record |= made or {}
        record["seconds"] = round(time.perf_counter() - start, 3)
        with finished(job.steps, record):
            write_labels(job.mask, mask, model.card.classes)
        return record
    except InputError as error:
        line = str(error)
        raise InputError(line if str(job.image) in line else f"{job.image}: {line}") from error


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


@contextmanager
def finished(path: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Write a record beside its place, and put it there when the body has written the outputs.

    A record is thus the mark of completion; a mask without one but with a record waiting beside it
    was left by a process that was killed in between.
    """
    with whole(path) as (part,):
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        yield


def describe(model: "HiDiff", settings: dict[str, Any]) -> dict[str, Any]:
    """What made a mask: model, classes, resolved settings, engine, device, versions."""
    import torch

    chosen = {key: value for key, value in settings.items() if value is not None}
    return {
        "model": model.card.name,
        "classes": [label.name for label in model.card.classes],
        "settings": dict(model.card.defaults) | chosen,
        "engine": model.engine,
        "device": str(model.device),
        "versions": {"napari-hidiff": __version__, "torch": torch.__version__},
    }


def head(
    model: "HiDiff",
    job: Job,
    settings: dict[str, Any],
    shape: Sequence[int],
    mask: np.ndarray,
    fixed: np.ndarray | None,
) -> dict[str, Any]:
    """What a record begins with.

    shape : of the image. mask, fixed : what refinement starts from, int of any shape, with fixed
    pixels in it; -1 where a pixel is free.
    """
    known = None if fixed is None else int((fixed >= 0).sum())
    return describe(model, settings) | {
        "image": str(job.image),
        "shape": list(shape),
        "mask": str(job.mask),
        "prior": {"source": str(job.prior or "segmentor"), "pixels": count(mask, model.labels)},
        "fixed": None if fixed is None else {"source": str(job.fixed), "pixels": known},
    }


def count(mask: np.ndarray, labels: int) -> list[int]:
    """How many pixels each label has."""
    return np.bincount(mask.ravel(), minlength=labels).tolist()


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
