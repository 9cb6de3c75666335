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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_hidiff import __version__
from napari_hidiff.errors import InputError
from napari_hidiff.io import (
    IMAGES,
    TIFF,
    part_of,
    read_fixed,
    read_image,
    read_labels,
    write_mask,
)

if TYPE_CHECKING:
    from napari_hidiff.model import HiDiff
    from napari_hidiff.refine import Step

MASKS = (".png", ".tif", ".tiff", ".gif", ".bmp", ".jpg", ".jpeg")
"""Suffixes looked for where --prior or --fixed is a folder, in this order."""


@dataclass(frozen=True)
class Job:
    """One image: what is read (image, prior mask, fixed pixels) and what is written."""

    image: Path
    prior: Path | None
    fixed: Path | None
    mask: Path
    steps: Path


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


class Listed(NamedTuple):
    """A line of a list: an image, its prior and its fixed pixels, if the line names them."""

    image: Path
    prior: Path | None = None
    fixed: Path | None = None


def find_images(given: Sequence[Path]) -> list[Path]:
    """The image files that the arguments name, each once.

    A folder stands for the png, jpg and tif files in it, but for masks that this program wrote
    there; a pattern such as ``*.png`` is filled in where the shell did not.  Raises InputError for
    a folder without images and a pattern without matches; a missing file is left for its reader.
    """
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if _is_image(file))
            if not inside:
                raise InputError(f"{path}: no png, jpg or tif images in this folder")
            found.update(dict.fromkeys(inside))
        elif not path.exists() and glob.has_magic(str(path)):
            matches = sorted(Path(name) for name in glob.glob(str(path)))
            if not matches:
                raise InputError(f"{path}: no file matches this pattern")
            found.update(dict.fromkeys(matches))
        else:
            found[path] = None
    return list(found)


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


def plan(
    images: Sequence[Path],
    output: Path,
    prior: Path | None = None,
    fixed: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    own: Mapping[Path, "Listed"] | None = None,
) -> list[Job]:
    """Pair every image with its prior, its fixed pixels and its outputs in ``output``.

    prior, fixed: a file for a single image, or a folder with files of the images' stems.
    own: what a list says of single images; it goes before ``prior`` and ``fixed``.
    resume: outputs may exist; :func:`napari_hidiff.resume.split` says which of them count.
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
        suffix = ".tif" if image.suffix.lower() in TIFF else ".png"
        mask, steps = output / f"{image.stem}_mask{suffix}", output / f"{image.stem}_steps.json"
        key = image.stem.casefold()  # names that some file systems do not tell apart
        if key in jobs:
            raise InputError(
                f"{jobs[key].image} and {image} would both write {mask}; refine them into "
                "separate folders"
            )
        existing = next((file for file in (mask, steps) if file.exists()), None)
        if existing is not None and not (overwrite or resume):
            raise InputError(
                f"{existing}: exists already; --overwrite replaces it, --resume goes on after it"
            )
        listed = (own or {}).get(image) or Listed(image)
        masks = listed.prior or _beside(prior, image), listed.fixed or _beside(fixed, image)
        jobs[key] = Job(image, *masks, mask, steps)
    return list(jobs.values())


def refine_file(
    model: "HiDiff",
    job: Job,
    settings: dict[str, Any],
    on_step: Callable[["Step"], None] = lambda step: None,
    made: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Refine one image, write its mask and its steps, and return the record that was written.

    settings: sampler, steps, samples (None = the model's card) and seed.
    on_step: called after every step, for progress.  made: goes into the record as it is.
    Raises InputError naming the file.
    """
    start = time.perf_counter()
    try:
        image = read_image(job.image)
        model.check_image(image)
        prior = None if job.prior is None else read_labels(job.prior, model.labels)
        fixed = None if job.fixed is None else read_fixed(job.fixed)
        run = model.steps(image, prior=prior, fixed=fixed, **settings)
        mask = model.mask_of(model.prior(image)) if prior is None else prior
        if fixed is not None:
            mask = np.where(fixed >= 0, fixed, mask).astype(np.uint8)
        record = describe(model, settings) | {
            "image": str(job.image),
            "shape": list(image.shape),
            "mask": str(job.mask),
            "prior": {
                "source": "segmentor" if job.prior is None else str(job.prior),
                "pixels": _pixels(mask, model.labels),
            },
            "fixed": None
            if job.fixed is None or fixed is None
            else {"source": str(job.fixed), "pixels": int((fixed >= 0).sum())},
            "steps": [],
        }
        first, before = mask, time.perf_counter()
        for step in run:
            now, after = time.perf_counter(), step.mask
            record["steps"].append(
                {
                    "index": step.index,
                    "t": step.t,
                    "changed": int((after != mask).sum()),
                    "pixels": _pixels(after, model.labels),
                    "seconds": round(now - before, 3),
                }
            )
            mask, before = after, now
            on_step(step)
        record["changed"] = int((mask != first).sum())
        record |= made or {}
        record["seconds"] = round(time.perf_counter() - start, 3)
        with finished(job.steps, record):
            write_mask(job.mask, mask)
        return record
    except InputError as error:
        line = str(error)
        raise InputError(line if str(job.image) in line else f"{job.image}: {line}") from error


@contextmanager
def finished(path: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Write a record beside its place, and put it there when the body has written the outputs.

    A record is thus the mark of completion; a mask without one but with a record waiting beside it
    was left by a process that was killed in between.
    """
    part = part_of(path)
    try:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        yield
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


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


def _is_image(file: Path) -> bool:
    if file.name.startswith(".") or file.suffix.lower() not in IMAGES or not file.is_file():
        return False
    ours = file.stem.endswith("_mask") and file.with_name(
        f"{file.stem.removesuffix('_mask')}_steps.json"
    )
    return not (ours and ours.exists())


def _beside(given: Path | None, image: Path) -> Path | None:
    """The mask for ``image``: the file itself, or its namesake in a folder.

    A missing namesake stays a path that the reader will name: the other images are still done.
    """
    if given is None or not given.is_dir():
        return given
    stems = (image.stem, f"{image.stem}_mask")
    names = [given / f"{stem}{suffix}" for stem in stems for suffix in MASKS]
    return next((path for path in names if path.is_file()), names[0])


def _pixels(mask: np.ndarray, labels: int) -> list[int]:
    """How many pixels each label has."""
    return np.bincount(mask.ravel(), minlength=labels).tolist()
