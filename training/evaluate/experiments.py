"""Studies that are more than a score per image: ``--experiment NAME`` is looked up here.

An experiment is two functions of a module that is imported when it is first needed: one computes a
JSON-able object, one prints it for people. What every object has in common is added here.

What has been done is kept, a small file each, so that an interrupted run can go on.

Which slices of a volume stand for it where each has to be worked on by itself.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.storage import whole
from napari_hidiff.training.datasets import Case, Dataset

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


@dataclass(frozen=True)
class Options:
    """What an experiment may be told; each takes what concerns it.

    split: of the data set, by name.  seeds: sampling seeds.  sampler, steps, samples: None = what
    the model's card recommends.  arms: names, None = those that the experiment runs by default.
    strokes: most strokes on an image.  stroke: their kind, ``auto``, ``disc`` or ``scribble``.
    wrong: share of wrong strokes in the arms that have any.  control: file of a second model.
    slices: of a volume, at most so many.
    """

    split: str = "test"
    seeds: tuple[int, ...] = (0, 1, 2)
    sampler: str | None = None
    steps: int | None = None
    samples: int | None = None
    arms: tuple[str, ...] | None = None
    strokes: int = 20
    stroke: str = "auto"
    wrong: float = 0.05
    control: Path | None = None
    slices: int = 3


OnCase = Callable[[float, Case | str], None]
"""Told how many cases are done, with the part of the one under way, and what is going on: the case
that is worked on, or a few words."""

Run = Callable[["HiDiff", Dataset, Sequence[Case], Options, Path, OnCase], dict[str, Any]]
"""(model, dataset, cases, options, state, on_case) -> a JSON-able object without NaN.

``state`` is a folder that exists, for what a later call can go on from. The object may have
``notes`` (lines), ``settings``, and ``pictures``: names of png files in ``state``.
"""


@dataclass(frozen=True)
class Experiment:
    """title: one line.  run: does it.  show: prints the object for people on a rich console.
    section: of the paper, one line; ``none`` and why for what the paper does not have.
    same_classes: whether model and data set must know equally many classes.
    write: puts a readable report of the object into a folder."""

    title: str
    run: Run
    show: Callable[[dict[str, Any], Console], None]
    section: str
    same_classes: bool = True
    write: Callable[[dict[str, Any], Path], None] | None = None


def later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module beside this one that is imported when it is called."""

    def call(*args: Any) -> Any:
        return getattr(import_module(f".{module}", __package__), name)(*args)

    return call


EXPERIMENTS: dict[str, Experiment] = {
    "interactive": Experiment(
        "a simulated annotator paints strokes and lets the model answer",
        later("interactive.study", "run"),
        later("interactive.report", "print_report"),
        "none: the paper has no simulated annotator",
    ),
    "alternatives": Experiment(
        "a few clearly different masks against one",
        later("generative.alternatives", "run"),
        later("generative.alternatives", "print_table"),
        "none: the paper scores the mean of its samples",
    ),
    "uncertainty": Experiment(
        "which map of uncertainty finds the errors of a mask",
        later("generative.uncertainty", "run"),
        later("generative.uncertainty", "print_table"),
        "none: the paper does not score uncertainty",
    ),
    "steps": Experiment(
        "how many steps and samples pay: every sampler against the prior and one pass",
        later("analyses.steps", "run"),
        later("analyses.steps", "print_table"),
        "IV, steps and samplers: the paper refines in T = 10 steps",
        write=later("analyses.markdown", "write_report"),
    ),
    "small-objects": Experiment(
        "what refinement adds by the size of the object, the smallest quarter first",
        later("analyses.small_objects", "run"),
        later("analyses.small_objects", "print_table"),
        "IV, segmenting small objects",
        write=later("analyses.markdown", "write_report"),
    ),
    "cross-dataset": Experiment(
        "a model on another data set than its own, classes matched by name",
        later("analyses.cross_dataset", "run"),
        later("analyses.cross_dataset", "print_table"),
        "IV, generalizing to new data sets: Synapse to MSD, Kvasir and CVC, CHASE and DRIVE",
        same_classes=False,
        write=later("analyses.markdown", "write_report"),
    ),
}
"""Every experiment that ``--experiment`` knows, by name."""


def find(name: str, also: Iterable[str] = ()) -> Experiment:
    """The experiment of a name; InputError names those there are, and what there is ``also``."""
    if name not in EXPERIMENTS:
        known = ", ".join((*EXPERIMENTS, *also))
        raise InputError(f"unknown experiment {name!r}: choose one of {known}")
    return EXPERIMENTS[name]


def default_state(name: str, model: str, dataset: Dataset, split: str) -> Path:
    """Where an experiment keeps what it has done, unless it is told."""
    return Path("runs") / name / f"{Path(model).stem}-{dataset.name}-{split}"


def conduct(
    name: str,
    model: "HiDiff",
    model_name: str,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    command: str,
    on_case: OnCase,
) -> dict[str, Any]:
    """Run an experiment; its object after what every object begins with.

    InputError: the experiment is unknown, the model and the data set do not fit, ``state`` cannot
    be a folder, or what the experiment itself refuses.
    """
    from napari_hidiff.inference.card import versions

    from .report import hardware, met_before
    from .scoring import Plan, check

    experiment = find(name)
    plan = Plan(options.seeds, options.sampler, options.steps, options.samples)
    check(model, dataset, cases, plan, experiment.same_classes)
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{state}: cannot be a folder: {error.strerror or error}") from error
    found = experiment.run(model, dataset, cases, options, state, on_case)
    content: dict[str, Any] = {
        "experiment": name,
        "title": experiment.title,
        "dataset": dataset.name,
        "split": options.split,
        "model": model_name,
        "seeds": list(options.seeds),
        "n": len(cases),
        "command": command,
        "versions": versions(),
        "hardware": hardware(model.device),
        "engine": [model.engine],
        "longest_side": dataset.longest_side,
    }
    notes = [
        *dataset.notes,
        *met_before({case.id for case in cases}, dataset, options.split, model),
    ]
    content |= found | {"notes": [*notes, *found.get("notes", ())]}
    if experiment.write is not None:
        experiment.write(content, state)
    return content


def copy_pictures(content: dict[str, Any], state: Path, output: Path) -> None:
    """Copy the object's pictures beside its file: ``name.json`` gets ``name-PICTURE.png``."""
    for name in content.get("pictures", ()):
        target = output.with_name(f"{output.stem}-{name}")
        with whole(target) as (part,):
            shutil.copyfile(state / name, part)


FORMAT = 1
"""Rises when strokes or figures change their meaning: kept files are then computed anew."""


class Store:
    """Records in a folder, each under the digest of everything that decides it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed = 0
        """How many records were not there."""

    def find(self, name: str, decides: Mapping[str, Any]) -> dict[str, Any] | None:
        """The record kept under a name for these circumstances, or None: there is none, it is
        torn, or it belongs to others."""
        path, key = self._path(name, decides)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return kept["record"] if kept["key"] == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def get(
        self, name: str, decides: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The kept record, or a new one that is kept from now on.

        InputError when it cannot be written. A new record comes back as it will be read later.
        """
        found = self.find(name, decides)
        if found is not None:
            return found
        path, key = self._path(name, decides)
        text = json.dumps({"key": key, "record": compute()}, allow_nan=False)
        with whole(path) as (part,):
            part.write_text(text, encoding="utf-8")
        self.computed += 1
        return json.loads(text)["record"]

    def _path(self, name: str, decides: Mapping[str, Any]) -> tuple[Path, str]:
        key = digest({"format": FORMAT, "name": name, **decides})
        readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        return self.folder / f"{readable}-{key[:12]}.json", key


def digest(value: Mapping[str, Any]) -> str:
    """Of JSON-able data, 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def fingerprint(model: HiDiff) -> str:
    """Of a model's weights and card, but for the scores on the card."""
    found = hashlib.blake2b(json.dumps(asdict(replace(model.card, scores={}))).encode())
    for module in (model.segmentor, model.refiner):
        for name, value in module.state_dict().items():
            found.update(name.encode())
            found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]


def files_of(case: Case) -> list[int]:
    """The sizes of a case's files in bytes, by which another copy of the data is noticed."""
    return [path.stat().st_size if path.is_file() else -1 for path in case.files]


def foreground_slices(truth: np.ndarray, most: int) -> list[int]:
    """At most ``most`` numbers of slices of a truth [D, H, W] with foreground, evenly spaced: the
    middles of as many equal parts of them."""
    filled = np.flatnonzero(truth.any((1, 2)))
    count = min(most, len(filled))
    return [int(filled[int((i + 0.5) * len(filled) / count)]) for i in range(count)]
