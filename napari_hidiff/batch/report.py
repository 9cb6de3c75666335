"""What became of a batch: one object for programs, one table for people."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_hidiff.batch.jobs import Job
from napari_hidiff.batch.order import Outcome
from napari_hidiff.errors import InputError
from napari_hidiff.io.storage import whole

FORMAT = "napari-hidiff-refine report 1"
NAMES = ("report.json", "report.csv")
COLUMNS = ("image", "status", "mask", "shape", "seconds", "changed")
"""Of the table; then the pixels of every class, and what was wrong."""


@dataclass
class Report:
    """A batch as it goes on.

    head : what all images have in common; jobs : all of them, in order.
    skipped : records of earlier runs, by image; done, failed : what this run adds.
    """

    head: Mapping[str, Any]
    jobs: Sequence[Job]
    skipped: Mapping[Path, dict[str, Any]]
    done: dict[Path, dict[str, Any]] = field(default_factory=dict)
    failed: dict[Path, Outcome] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Take in what became of an image."""
        if outcome.record is None:
            self.failed[outcome.job.image] = outcome
        else:
            self.done[outcome.job.image] = outcome.record

    @property
    def left(self) -> list[Path]:
        """Images that an interrupted run did not come to."""
        known = self.done.keys() | self.failed.keys() | self.skipped.keys()
        return [job.image for job in self.jobs if job.image not in known]

    def value(self, seconds: float) -> dict[str, Any]:
        """The report as one JSON object, the images in the order in which they were given."""
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
        """Write both files, whole or not at all; InputError if that is not possible."""
        classes = [f"pixels {name}" for name in self.head["classes"]]
        with whole(*(folder / name for name in NAMES)) as (whole_report, rows):
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
    """InputError where a report would replace a file that is none, unless ``overwrite``."""
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
