"""A resumable study: tasks on cases, each computed once and stored as a small record.

All experiments work through their cases here. A record is found by a digest of everything that it
depends on: a call that was stopped goes on where it was, and a second call computes nothing.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from napari_hidiff.cli.console import make_folder
from napari_hidiff.errors import InputError
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.surfaces import TOLERANCE
from napari_hidiff.training.datasets import Case

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

Record = dict[str, Any]
"""JSON-able data without NaN; each experiment says what its records hold."""

OnCase = Callable[[float, Case | str], None]
"""Progress: (number of cases done, with the share of the current one; the current case, or a few
words on what else goes on)."""

Job = TypeVar("Job", bound=Hashable)


@dataclass(frozen=True)
class Options:
    """What one call of ``napari-hidiff-evaluate`` asks for; every part reads what concerns it.

    seeds : of sampling, or of training in an ablation; a sampler without randomness runs with the
    first only.  sampler, steps, samples : None = what the model's card recommends.  split : of the
    data set, by name.  longest_side : pictures and slices are shrunk to so many pixels, 0 = never,
    None = as the model was trained.

    Scores : ``also``, further samplers to compare with; ``damage``, refine from damaged priors
    too; ``at_half``, score masks without the card's thresholds too; ``second_observer``, score the
    human too; ``tolerance`` of the surface Dice, in the unit of the spacing; ``skip_bad``, leave
    out and list the cases that cannot be used.

    Experiments on a model : ``arms``, by name, None = the default ones; ``strokes``, at most so
    many on an image; ``stroke``, ``auto``, ``disc`` or ``scribble``; ``wrong``, the share of wrong
    strokes in the arms that have any; ``control``, file of a second model; ``slices``, at most so
    many of a volume.

    Ablations : ``variants``, by name, None = all; ``size`` and ``settings`` (``NAME=VALUE``) of
    every training; ``first_stage``, a finished run whose segmentor and priors are taken; ``kept``,
    tabulate what was done, train and refine nothing.

    ``model``, ``command`` : as they were typed, for the result.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    sampler: str | None = None
    steps: int | None = None
    samples: int | None = None
    split: str = "test"
    longest_side: int | None = None
    also: tuple[str, ...] = ()
    damage: bool = False
    at_half: bool = False
    second_observer: bool = False
    tolerance: float = TOLERANCE
    skip_bad: bool = False
    arms: tuple[str, ...] | None = None
    strokes: int = 20
    stroke: str = "auto"
    wrong: float = 0.05
    control: Path | None = None
    slices: int = 3
    variants: tuple[str, ...] | None = None
    size: str = "quick"
    settings: tuple[str, ...] = ()
    first_stage: Path | None = None
    kept: bool = False
    model: str = ""
    command: str = ""


@dataclass(frozen=True)
class Task(Generic[Job]):
    """One record of a case.

    job : what is done, by which the experiment finds the record.  name : of the file.  decides :
    everything that the record depends on, JSON-able.  compute : makes the record.
    """

    job: Job
    name: str
    decides: Mapping[str, Any]
    compute: Callable[[], Record]


Cost = tuple[int, str, float]
"""How many, of what (in the singular), and seconds in all."""


def silent(done: float, case: Case | str) -> None:
    """An :data:`OnCase` that shows no progress."""


class Study:
    """The tasks of many cases, with their records in a folder.

    folder : made where it is missing; InputError where that fails.  compute : False collects
    the stored records and computes nothing.
    """

    def __init__(self, folder: Path, on_case: OnCase = silent, compute: bool = True) -> None:
        make_folder(folder)
        self.records = Records(folder)
        self.on_case, self.compute = on_case, compute

    def run(
        self,
        cases: Sequence[Case],
        tasks: Callable[[Case], Sequence[Task[Job]]],
        cost: Callable[[Sequence[tuple[Case, Task[Job]]]], Cost] | None = None,
        before: int = 0,
    ) -> Iterator[tuple[Case, dict[Job, Record]]]:
        """Every case with its records by job, in the order of its tasks.

        tasks : the tasks of a case; with ``cost`` it is called twice, so that no case stays in
        memory.  cost : of the tasks without a record, announced before the first of them.
        before : cases done already, for progress.
        InputError: there is no case, or a record cannot be written.
        """
        if not cases:
            raise InputError("there is no case to study")
        if cost is not None:
            missing = [(case, task) for case in cases for task in tasks(case) if self.missing(task)]
            if missing:
                self.announce(*cost(missing))
        for done, case in enumerate(cases):
            planned, found = tasks(case), {}
            for number, task in enumerate(planned):
                record = self.records.find(task.name, task.decides)
                if record is None and self.compute:
                    self.on_case(before + done + number / len(planned), case)
                    record = self.records.add(task.name, task.decides, task.compute())
                if record is not None:
                    found[task.job] = record
            yield case, found

    def missing(self, task: Task[Job]) -> bool:
        """Whether a task has no record yet."""
        return self.records.find(task.name, task.decides) is None

    def announce(self, count: int, what: str, seconds: float, more: str = "") -> None:
        """Say how much there is to do and how long it will take; nothing for no work."""
        if count:
            named = what if count == 1 else f"{what}s"
            time = span(seconds)
            self.on_case(0.0, f"{count} {named} to do: about {time} on this machine{more}")


def span(seconds: float) -> str:
    """A time for people: seconds, from two minutes on minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


FORMAT = 1
"""Raise it when strokes or figures change their meaning: records are then computed anew."""


class Records:
    """Records in a folder, each under the digest of everything that decides it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed = 0
        """How many records were added."""

    def find(self, name: str, decides: Mapping[str, Any]) -> Record | None:
        """The record of this name and these circumstances; None where there is none, where the
        file is torn, or where it belongs to other circumstances."""
        path, key = self._path(name, decides)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            record: Record | None = stored["record"] if stored["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record

    def get(self, name: str, decides: Mapping[str, Any], compute: Callable[[], Record]) -> Record:
        """The stored record, or a new one, which is stored."""
        stored = self.find(name, decides)
        return self.add(name, decides, compute()) if stored is None else stored

    def add(self, name: str, decides: Mapping[str, Any], record: Record) -> Record:
        """Store a record; it comes back as it will be read. InputError: it cannot be written."""
        path, key = self._path(name, decides)
        text = json.dumps({"key": key, "record": record}, allow_nan=False)
        with atomic_write(path) as (part,):
            part.write_text(text, encoding="utf-8")
        self.computed += 1
        stored: Record = json.loads(text)["record"]
        return stored

    def _path(self, name: str, decides: Mapping[str, Any]) -> tuple[Path, str]:
        key = digest({"format": FORMAT, "name": name, **decides})
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        return self.folder / f"{readable}-{key[:12]}.json", key


def digest(value: Mapping[str, Any]) -> str:
    """Of JSON-able data, 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def fingerprint(model: "HiDiff") -> str:
    """Of a model's weights and card without the scores on the card, 32 hexadecimal digits."""
    state = hashlib.blake2b(json.dumps(asdict(replace(model.card, scores={}))).encode())
    for module in (model.segmentor, model.refiner):
        for name, value in module.state_dict().items():
            state.update(name.encode())
            state.update(value.cpu().contiguous().numpy().tobytes())
    return state.hexdigest()[:32]


def files_of(case: Case) -> list[int]:
    """The sizes of a case's files in bytes, by which another copy of the data is noticed."""
    return [path.stat().st_size if path.is_file() else -1 for path in case.files]


def pack_array(array: np.ndarray) -> str:
    """Values 0..255 as a short text for a record, which also needs the shape."""
    raw = np.ascontiguousarray(array, np.uint8).tobytes()
    return base64.b64encode(zlib.compress(raw, 9)).decode()


def unpack_array(text: str, shape: Sequence[int]) -> np.ndarray:
    """The inverse of :func:`pack_array`, uint8 of that shape."""
    raw = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(raw, np.uint8).reshape(tuple(shape))
