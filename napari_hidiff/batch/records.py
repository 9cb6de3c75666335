"""Records of a batch: one JSON file per image, and the report on all images.

A record has the digests of everything that its mask depends on (:class:`ResumeKey`). By them
:func:`split` finds the images of an interrupted batch that are still to do. :class:`Report` makes
one object for programs and one table for people.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_hidiff._version import __version__
from napari_hidiff.batch.jobs import Job, JobResult
from napari_hidiff.errors import InputError
from napari_hidiff.io.dicom import in_folder, is_dicom
from napari_hidiff.io.storage import atomic_write, sha256

if TYPE_CHECKING:
    from napari_hidiff.batch.jobs import Job
    from napari_hidiff.inference.model import HiDiff

LEFT = re.compile(r"\.(?P<name>.+)\.[\w-]+\.(part|started)")
"""Names of files that a killed process leaves: partial outputs, marks of its attempts."""
FORMAT = "napari-hidiff-refine report 1"
NAMES = ("report.json", "report.csv")
COLUMNS = ("image", "status", "mask", "shape", "seconds", "changed")
"""Columns of the table; then the pixels of every class, and the error."""


class ResumeKey(NamedTuple):
    """The origin of a mask: name and digest of the model, resolved settings."""

    model: str
    digest: str
    settings: Mapping[str, Any]


class Split(NamedTuple):
    """The jobs to do, and the records of finished ones by image."""

    left: list["Job"]
    done: dict[Path, dict[str, Any]]


def digest(path: Path | None) -> str | None:
    """SHA-256 of a file, or of the names and contents in a folder; None if there is neither.

    In a folder with DICOM files only these count, since masks may be beside them; a single file of
    a series includes its whole series, which is read with it.
    """
    if path is None or not path.exists():
        return None
    try:
        if path.is_file() and not is_dicom(path):
            return sha256(path)
        folder = path if path.is_dir() else path.parent
        files = in_folder(folder) or sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{sha256(file)} {file.relative_to(folder)}" for file in files]
        named = [] if path == folder else [path.name]  # which of several series
        return hashlib.sha256("\n".join(named + lines).encode()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def sources(job: "Job", model: str) -> dict[str, Any]:
    """What a record was made of: digests of ``model`` (its file), image, prior and fixed pixels,
    and the box."""
    return {
        "model": model,
        "image": digest(job.image),
        "prior": digest(job.prior),
        "fixed": digest(job.fixed),
        "box": job.box and list(job.box),
    }


def split(jobs: Sequence["Job"], wanted: ResumeKey, overwrite: bool = False) -> Split:
    """The jobs to do: without a record, or with a changed image, prior or fixed pixels.

    Raises InputError, unless ``overwrite``, for a record of another model, other settings, another
    version or another image, and for a mask of another program.
    """
    parts = _left_over(jobs)
    left, done = [], {}
    for job in jobs:
        try:
            record = read_record(job.steps)
            if record is not None:
                _same(record, job, wanted)
            elif job.mask.exists() and not _ours(parts.get(job.steps, ())):
                raise InputError(f"{job.mask}: exists without {job.steps.name}")
        except InputError as error:
            if not overwrite:
                raise InputError(f"{error}; --overwrite replaces it") from error
            record = None
        if record is None or not job.mask.exists() or changed(record, job):
            left.append(job)
        else:
            done[job.image] = record
    return Split(left, done)


def changed(record: Mapping[str, Any], job: "Job") -> bool:
    """Whether image, prior or fixed pixels changed since the record was made."""
    made = record["made_from"]
    now = sources(job, made["model"])
    return any(now[name] != made.get(name) for name in now)


def sweep(jobs: Sequence["Job"]) -> None:
    """Remove partial files and marks of killed processes beside the outputs of the jobs.

    A mask whose record was not finished is removed, too: without a record it would count as
    foreign.
    """
    parts = _left_over(jobs)
    for job in jobs:
        if _ours(parts.get(job.steps, ())) and not job.steps.exists():
            job.mask.unlink(missing_ok=True)
    for paths in parts.values():
        for path in paths:
            path.unlink(missing_ok=True)


def _same(record: Mapping[str, Any], job: "Job", wanted: ResumeKey) -> None:
    """InputError with the difference, if this batch would make another record."""
    made = record.get("made_from")
    if not (isinstance(made, dict) and isinstance(record.get("settings"), dict)):
        raise InputError(f"{job.steps}: does not say what it was made from")
    was, now = record["settings"], wanted.settings
    pairs: list[tuple[str, Any, Any]] = [("model", record.get("model"), wanted.model)]
    pairs += [(name, was.get(name), now.get(name)) for name in {**now, **was}]
    version = record.get("versions", {}).get("napari-hidiff")
    pairs.append(("napari-hidiff", version, __version__))
    differs = [f"{name} {old}, now {new}" for name, old, new in pairs if old != new]
    if not differs and made.get("model") != wanted.digest:
        differs = [f"another file of the model {wanted.model}"]
    if differs:
        raise InputError(f"{job.steps}: made with {'; '.join(differs)}")
    elsewhere = os.path.abspath(record.get("image", "")) != os.path.abspath(job.image)
    if elsewhere and made.get("image") != digest(job.image):
        raise InputError(f"{job.steps}: is of {record.get('image')}, not of {job.image}")


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None without a file; InputError for a file that is no record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is no record of a refinement") from error
    if not isinstance(record, dict):
        raise InputError(f"{path}: is no record of a refinement")
    return record


def _ours(parts: Iterable[Path]) -> bool:
    """Whether a complete record waits: the process was killed between mask and record."""
    for part in parts:
        try:
            if part.suffix == ".part" and read_record(part):
                return True
        except InputError:
            continue  # a partial record: its mask was not written yet
    return False


def _left_over(jobs: Sequence["Job"]) -> dict[Path, list[Path]]:
    """Left-over files by their output; each folder is listed once."""
    outputs = {path for job in jobs for path in job.outputs}
    leftovers: dict[Path, list[Path]] = {}
    for folder in {path.parent for path in outputs}:
        for path in folder.iterdir() if folder.is_dir() else ():
            match = LEFT.fullmatch(path.name)
            if match and folder / match["name"] in outputs:
                leftovers.setdefault(folder / match["name"], []).append(path)
    return leftovers


def count(mask: np.ndarray, labels: int) -> list[int]:
    """Number of pixels of each label."""
    counts: list[int] = np.bincount(mask.ravel(), minlength=labels).tolist()
    return counts


def describe(model: "HiDiff", settings: dict[str, Any]) -> dict[str, Any]:
    """The origin of a mask for its record: model, classes, settings, engine, device, versions."""
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


@contextmanager
def finished(path: Path, record: Mapping[str, Any]) -> Iterator[None]:
    """Write a record under a temporary name, and rename it after the body wrote the outputs.

    So a record marks completion; a mask with a temporary record beside it is of a process that was
    killed in between.
    """
    with atomic_write(path) as (part,):
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        yield


def head(
    model: "HiDiff",
    job: Job,
    settings: dict[str, Any],
    shape: Sequence[int],
    mask: np.ndarray,
    fixed: np.ndarray | None,
) -> dict[str, Any]:
    """The first fields of a record.

    shape : of the image. mask, fixed : the mask before refinement with fixed pixels in it, and the
    fixed map, int of any shape; -1 where a pixel is free.
    """
    known = None if fixed is None else int((fixed >= 0).sum())
    return describe(model, settings) | {
        "image": str(job.image),
        "shape": list(shape),
        "mask": str(job.mask),
        "prior": {"source": str(job.prior or "segmentor"), "pixels": count(mask, model.labels)},
        "fixed": None if fixed is None else {"source": str(job.fixed), "pixels": known},
    }


@dataclass
class Report:
    """The report of a batch in progress.

    head : facts common to all images; jobs : all, in order.
    skipped : records of earlier runs, by image; done, failed : results of this run.
    """

    head: Mapping[str, Any]
    jobs: Sequence[Job]
    skipped: Mapping[Path, dict[str, Any]]
    done: dict[Path, dict[str, Any]] = field(default_factory=dict)
    failed: dict[Path, JobResult] = field(default_factory=dict)

    def add(self, outcome: JobResult) -> None:
        """Add the result of an image."""
        if outcome.record is None:
            self.failed[outcome.job.image] = outcome
        else:
            self.done[outcome.job.image] = outcome.record

    @property
    def left(self) -> list[Path]:
        """Images that an interrupted run did not reach."""
        known = self.done.keys() | self.failed.keys() | self.skipped.keys()
        return [job.image for job in self.jobs if job.image not in known]

    def value(self, seconds: float) -> dict[str, Any]:
        """The report as one JSON object, the images in input order."""
        order = [job.image for job in self.jobs]
        failures = [self.failed[image] for image in order if image in self.failed]
        return {
            "format": FORMAT,
            **self.head,
            "seconds": round(seconds, 3),
            "images": [self.done[image] for image in order if image in self.done],
            "skipped": [self.skipped[image] for image in order if image in self.skipped],
            "failed": [
                {"image": str(failure.job.image), "error": failure.error}
                | ({"trace": failure.trace} if failure.trace else {})
                for failure in failures
            ],
            "left": list(map(str, self.left)),
        }

    def rows(self) -> list[dict[str, Any]]:
        """The table, one row per image."""
        return [self._row(job) for job in self.jobs]

    def write(self, folder: Path, seconds: float) -> None:
        """Write both files atomically; InputError if that fails."""
        classes = [f"pixels {name}" for name in self.head["classes"]]
        with atomic_write(*(folder / name for name in NAMES)) as (whole_report, rows):
            text = json.dumps(self.value(seconds), indent=1) + "\n"
            whole_report.write_text(text, encoding="utf-8")
            with rows.open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, [*COLUMNS, *classes, "error"], restval="")
                table.writeheader()
                table.writerows(self.rows())

    def _row(self, job: Job) -> dict[str, Any]:
        row: dict[str, Any] = {"image": str(job.image)}
        if job.image in self.failed:
            return row | {"status": "failed", "error": self.failed[job.image].error}
        record = self.done.get(job.image) or self.skipped.get(job.image)
        if record is None:
            return row | {"status": "left"}
        steps = record["steps"]
        pixels = steps[-1]["pixels"] if steps else record["prior"]["pixels"]
        return row | {
            "status": "done" if job.image in self.done else "skipped",
            "mask": record["mask"],
            "shape": " x ".join(map(str, record["shape"])),
            "seconds": record["seconds"],
            "changed": record.get("changed", ""),
            **dict(zip((f"pixels {name}" for name in record["classes"]), pixels, strict=True)),
        }


def check_place(folder: Path, overwrite: bool = False) -> None:
    """InputError if a report would replace another kind of file, unless ``overwrite``."""
    found = [folder / name for name in NAMES if (folder / name).exists()]
    if not found or overwrite:
        return
    try:
        value = json.loads((folder / NAMES[0]).read_text(encoding="utf-8"))
        ours = isinstance(value, dict) and value.get("format") == FORMAT
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise InputError(f"{found[0]}: is no report of this program; --overwrite replaces it")
