"""Fine-tuning on accepted masks: the training set, and the process that trains.

A :class:`TrainingSet` is a folder in the layout ``folder`` of :mod:`napari_hidiff.training`. It
belongs to a model and to all models fine-tuned from it. A file is named after its image and the
image's content, so adding the same image again replaces the earlier pair.

:class:`Tuning` is a training process with low priority and one thread: started, watched and stopped
from a window or a script. It stops with a checkpoint when its standard input ends: when
:meth:`Tuning.stop` closes it, and when the parent process ends.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.preprocessing import check_image
from napari_hidiff.io.storage import atomic_write, user_folder
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import Index

VARIABLE = "NAPARI_HIDIFF_TRAINING_SETS"
"""Environment variable: the folder of all training sets."""
HELD_OUT = 4
"""Every n-th image validates (is held out) when a model is fine-tuned."""
KEY = 12
"""Digits of an image's key in the names of its files."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
LOG, ARGUMENTS, PROGRESS = "log.txt", "arguments.json", "progress.jsonl"
MODEL = "model.safetensors"
SHARES = {"reading": 0.03, "priors": 0.05, "segmentor": 0.37, "refiner": 0.55}
"""The stages in order, each with its approximate share of the time."""


def folder() -> Path:
    """The folder of training sets: ``$NAPARI_HIDIFF_TRAINING_SETS``, else beside the sessions."""
    return user_folder(VARIABLE, "training-sets")


class TrainingSet:
    """The training set of a model and of all models fine-tuned from it.

    name : of the root model (:func:`catalog.root_name`).
    """

    def __init__(self, name: str) -> None:
        self.root = folder() / re.sub(r"[^A-Za-z0-9._ -]", "_", name)

    @property
    def stems(self) -> list[str]:
        """The images, by name."""
        return sorted(path.stem for path in (self.root / "masks").glob("*.png"))

    @property
    def images(self) -> int:
        """Number of images; all slices of a volume count as one."""
        return len(self.slices)

    @property
    def slices(self) -> Mapping[str, int]:
        """How many slices of every image there are; 1 of a picture."""
        groups = self._groups()
        return Counter(groups.get(stem, stem) for stem in self.stems)

    def add(
        self, image: np.ndarray, mask: np.ndarray, name: str, key: str, index: Index, card: Card
    ) -> str:
        """Store an image [H, W] or [H, W, C] and its mask [H, W]; an earlier pair is replaced.

        name : of the image; key : :func:`sidecar.image_key` of the whole image; index : the slice.
        Returns the stem of the files; it contains the index of the slice.

        Raises
        ------
        InputError : labels or channels that are not the model's, a set of other classes, or a
            folder that cannot be written to.
        """
        check_image(image, card.channels)
        if mask.max(initial=0) >= len(card.classes):
            raise InputError(
                f"The mask has label {mask.max()}; {card.name} knows 0 to {len(card.classes) - 1}."
            )
        place = "".join(f"-{at:03}" for at in index if at >= 0)
        end = f"-{key[:KEY]}{f'-slice{place}' if place else ''}"
        stem = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:60] + end
        images, masks = self.root / "images", self.root / "masks"
        try:
            for made in (images, masks):
                made.mkdir(parents=True, exist_ok=True)
            self._check_classes([label.name for label in card.classes])
            for old in (*images.glob(f"*{end}.*"), *masks.glob(f"*{end}.*")):
                old.unlink()
            _write_image(
                images / stem, image[..., : len(card.channels)] if _alpha(image) else image
            )
            write_labels(masks / f"{stem}.png", mask, card.classes)
            _write_text(
                self.root / "groups.json",
                json.dumps(self._groups() | {stem: key[:KEY]}, indent=1, sort_keys=True),
            )
        except OSError as error:
            raise InputError(f"{self.root} cannot be written to ({first_line(error)}).") from error
        return stem

    def keep_only(self, key: str, stems: Collection[str]) -> None:
        """Take away what there is of an image but for these stems; key : as for :meth:`add`.

        Raises
        ------
        InputError : a folder that cannot be written to.
        """
        groups = self._groups()
        left = [stem for stem, own in groups.items() if own == key[:KEY] and stem not in stems]
        try:
            for stem in left:
                for part in ("masks", "images"):
                    for old in (self.root / part).glob(f"{stem}.*"):
                        old.unlink()
        except OSError as error:
            raise InputError(f"{self.root} cannot be written to ({first_line(error)}).") from error

    def _check_classes(self, classes: Sequence[str]) -> None:
        path, text = self.root / "classes.txt", "\n".join(classes) + "\n"
        if not path.exists():
            _write_text(path, text)
        elif path.read_text(encoding="utf-8") != text:
            raise InputError(f"{self.root} holds masks of other classes: see {path.name} in it.")

    def _groups(self) -> dict[str, str]:
        try:
            groups: dict[str, str] = json.loads((self.root / "groups.json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        complete = set(self.stems)
        return {stem: group for stem, group in groups.items() if stem in complete}


def _alpha(image: np.ndarray) -> bool:
    return image.ndim == 3 and image.shape[2] == 4


def _write_image(path: Path, image: np.ndarray) -> None:
    """Write unchanged pixels: as png where the format allows, else as tif."""
    image = np.ascontiguousarray(image.astype(np.uint8) if image.dtype == bool else image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] == 3):
        with atomic_write(path.with_name(f"{path.name}.png")) as (part,):
            Image.fromarray(image).save(part, format="PNG")
        return
    planar = "contig" if image.ndim > 2 else None
    with atomic_write(path.with_name(f"{path.name}.tif")) as (part,):
        tifffile.imwrite(part, image, photometric="minisblack", planarconfig=planar)


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as (part,):
        part.write_text(text, encoding="utf-8")


@dataclass
class Progress:
    """The progress of a run.

    stage, done, total : the current position. losses, dice : curves of (share of the run 0..1,
    value); dice is that of refined held-out images. stopped, finished : whether it ended so.
    shares : the stages in order, each with its share of the time.
    """

    stage: str = "starting"
    done: int = 0
    total: int | None = None
    losses: list[tuple[float, float]] = field(default_factory=list)
    dice: list[tuple[float, float]] = field(default_factory=list)
    stopped: bool = False
    finished: bool = False
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)

    @property
    def share(self) -> float:
        """The part of the whole run that is done, 0..1."""
        if self.finished or self.stage == "scoring":
            return 1.0
        names = list(self.shares)
        if self.stage not in names:
            return 0.0
        before = sum(self.shares[name] for name in names[: names.index(self.stage)])
        return before + self.shares[self.stage] * (self.done / self.total if self.total else 0)

    def take(self, line: dict[str, Any]) -> None:
        """Add one line of ``progress.jsonl``."""
        stage = str(line.get("stage", "")).split(" ")[0]
        self.stopped = stage == "stopped"
        if stage == "finished":
            self.finished = True
        elif stage == "validation":
            self.dice.append((self.share, float(line["refined"])))
        elif stage == "scoring" or stage in SHARES:
            self.stage, self.done = stage, int(line.get("done", 0))
            self.total = line.get("total")
            if line.get("loss") is not None:
                self.losses.append((self.share, float(line["loss"])))


class Tuning:
    """One run of ``napari-hidiff-train --from`` in a folder of its own.

    Raises
    ------
    InputError : the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.progress = folder, Progress()
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._stopping = False

    @classmethod
    def begin(
        cls, folder: Path, data: Path, model: str, name: str, options: Sequence[str] = ()
    ) -> "Tuning":
        """Start a new run: fine-tune ``model`` on ``data``; the result gets the name ``name``."""
        arguments = ["--dataset", "folder", "--data", str(data), "--from", model, "--name", name]
        arguments += ["--output", str(folder), "--cache", str(data / "cache"), *options]
        run = cls(folder)
        try:
            folder.mkdir(parents=True)
            (folder / ARGUMENTS).write_text(json.dumps({"name": name, "arguments": arguments}))
        except OSError as error:
            raise InputError(f"{folder} cannot be made ({error.strerror or error}).") from error
        run._start(arguments)
        return run

    def go_on(self) -> None:
        """Resume the run from its checkpoint; without one it starts again."""
        arguments = json.loads((self.folder / ARGUMENTS).read_text())["arguments"]
        resume = ["--resume"] if (self.folder / "recipe.json").exists() else []
        self.poll()
        self.progress.stopped = self._stopping = False
        self._start([*arguments, *resume])

    @property
    def name(self) -> str:
        """The name of the fine-tuned model."""
        return str(json.loads((self.folder / ARGUMENTS).read_text())["name"])

    @property
    def model(self) -> Path:
        """The file of the fine-tuned model, which a finished run has."""
        return self.folder / MODEL

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called on a process that is still alive."""
        return self._stopping and self.running

    def poll(self) -> Progress:
        """Read new progress; never waits."""
        try:
            with (self.folder / PROGRESS).open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except OSError:
            return self.progress
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self.progress.take(json.loads(line))
        return self.progress

    def stop(self) -> None:
        """Ask the process to stop after the current iteration; never waits."""
        self._stopping = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def problem(self) -> str | None:
        """The error of a failed run, one line; None if it runs, finished or was stopped."""
        if self.running or self.model.exists() or self.poll().stopped:
            return None
        try:
            said = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            said = []
        lines = [line for line in said if line.strip()]
        return (lines[-1] if lines else "it ended without a word").removeprefix(
            "napari-hidiff-train: "
        )

    def report(self) -> dict[str, Any]:
        """``held_out`` of the run's report: scores before and after (:mod:`training.tune`)."""
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())["held_out"]
        return report

    def _start(self, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "napari_hidiff.training", *arguments, "--background"]
        low = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
        with (self.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **dict.fromkeys(THREADS, "1")},
                creationflags=low,
            )


def stopped_run(runs: Path, stems: Sequence[str]) -> Tuning | None:
    """The newest run in a folder, if it was stopped and its images are still ``stems``."""
    newest = max((path for path in runs.glob("*") if path.is_dir()), default=None)
    if newest is None or (newest / MODEL).exists() or not (newest / ARGUMENTS).exists():
        return None
    run = Tuning(newest)
    try:
        cases = json.loads((newest / "cases.json").read_text())
    except (OSError, ValueError):
        return None
    rows = (*cases["train"], *cases["val"])  # earlier versions stored names alone
    same = sorted(row if isinstance(row, str) else row["id"] for row in rows) == sorted(stems)
    return run if same and run.poll().stopped else None
