"""The experiments on a trained model: ``--experiment NAME`` is looked up here.

An experiment is two functions of a module that is imported when it is first needed: one computes a
JSON-able object, one prints it for people. What every object has in common is added here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from napari_hidiff.cli.console import make_folder
from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import Case, Dataset

from .output import Content, Report, page, print_report, write_page
from .study import OnCase, Options

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

Run = Callable[["HiDiff", Dataset, Sequence[Case], Options, Path, OnCase], Content]
"""(model, dataset, cases, options, state, on_case) -> a JSON-able object without NaN.

``state`` is the folder of what a later call can go on from. The object may have ``notes`` (lines),
``settings``, and ``pictures``: names of png files in ``state``.
"""


@dataclass(frozen=True)
class Experiment:
    """title : one line.  run : computes the object.  section : of the paper, one line; ``none``
    and why for what the paper does not have.  report : the object for people, as a page and on the
    console; an experiment without a page has ``show``, which prints the object.
    same_classes : whether model and data set must have equally many classes."""

    title: str
    run: Run
    section: str
    report: Callable[[Content], Report] | None = None
    show: Callable[[Content, Console], None] | None = None
    same_classes: bool = True

    def print(self, content: Content, out: Console) -> None:
        """The object for people."""
        if self.report is not None:
            print_report(content, self.report(content), out)
        elif self.show is not None:
            self.show(content, out)


def imported_later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module below this folder that is imported when it is called."""

    def call(*args: Any) -> Any:
        return getattr(import_module(f".{module}", __package__), name)(*args)

    return call


EXPERIMENTS: dict[str, Experiment] = {
    "interactive": Experiment(
        "a simulated annotator paints strokes and lets the model answer",
        imported_later("interactive.experiment", "run"),
        "none: the paper has no simulated annotator",
        show=imported_later("interactive.report", "print_report"),
    ),
    "first-images": Experiment(
        "strokes for the first images of a kind, with a segmentor of one's own after every eight",
        imported_later("interactive.first_images", "run"),
        "III, any segmentor may give the prior: here one that was trained in minutes",
        show=imported_later("interactive.first_images_report", "print_table"),
    ),
    "alternatives": Experiment(
        "a few clearly different masks against one",
        imported_later("generative.alternatives", "run"),
        "none: the paper scores the mean of its samples",
        show=imported_later("generative.alternatives", "print_tables"),
    ),
    "uncertainty": Experiment(
        "which map of uncertainty finds the errors of a mask",
        imported_later("generative.uncertainty", "run"),
        "none: the paper does not score uncertainty",
        show=imported_later("generative.uncertainty", "print_tables"),
    ),
    "steps": Experiment(
        "how many steps and samples pay: every sampler against the prior and one pass",
        imported_later("analyses.steps", "run"),
        "IV, steps and samplers: the paper refines in T = 10 steps",
        imported_later("analyses.steps", "report"),
    ),
    "small-objects": Experiment(
        "what refinement adds by the size of the object, the smallest quarter first",
        imported_later("analyses.small_objects", "run"),
        "IV, segmenting small objects",
        imported_later("analyses.small_objects", "report"),
    ),
    "cross-dataset": Experiment(
        "a model on another data set than its own, classes matched by name",
        imported_later("analyses.cross_dataset", "run"),
        "IV, generalizing to new data sets: Synapse to MSD, Kvasir and CVC, CHASE and DRIVE",
        imported_later("analyses.cross_dataset", "report"),
        same_classes=False,
    ),
    "domain-shift": Experiment(
        "a model on its own test images, blurred, noisy, of other colours, light and size",
        imported_later("analyses.domain_shift", "run"),
        "IV, generalizing to new data sets: here one that is made of the same images",
        imported_later("analyses.domain_shift", "report"),
    ),
    "foreign-priors": Experiment(
        "masks from elsewhere, refined once without a stroke: help and harm",
        imported_later("analyses.foreign_priors", "run"),
        "III, any segmentor may give the prior: the paper refines those of six networks",
        imported_later("analyses.foreign_priors", "report"),
        same_classes=False,
    ),
}
"""Every experiment that ``--experiment`` runs on a trained model, by name."""


def experiment_named(name: str, also: Iterable[str] = ()) -> Experiment:
    """The experiment of a name; InputError lists the known names, and those of ``also``."""
    if name not in EXPERIMENTS:
        known = ", ".join((*EXPERIMENTS, *also))
        raise InputError(f"unknown experiment {name!r}: choose one of {known}")
    return EXPERIMENTS[name]


def default_state(name: str, model: str, dataset: Dataset, split: str) -> Path:
    """The folder of an experiment's records where ``--state`` does not name one."""
    return Path("runs") / name / f"{Path(model).stem}-{dataset.name}-{split}"


def run_experiment(
    name: str,
    model: "HiDiff",
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase,
) -> Content:
    """Run an experiment; its object after what every object begins with.

    InputError: the experiment is unknown, the model and the data set do not fit, ``state`` cannot
    be a folder, or what the experiment itself refuses.
    """
    from napari_hidiff.inference.card import versions

    from .report import hardware, met_before
    from .scoring import check

    experiment = experiment_named(name)
    check(model, dataset, cases, options, experiment.same_classes)
    make_folder(state)
    outcome = experiment.run(model, dataset, cases, options, state, on_case)
    content: Content = {
        "experiment": name,
        "title": experiment.title,
        "dataset": dataset.name,
        "split": options.split,
        "model": options.model,
        "seeds": list(options.seeds),
        "n": len(cases),
        "command": options.command,
        "versions": versions(),
        "hardware": hardware(model.device),
        "engine": [model.engine],
        "longest_side": dataset.longest_side,
    }
    notes = [
        *dataset.notes,
        *met_before({case.id for case in cases}, dataset, options.split, model),
    ]
    content |= outcome | {"notes": [*notes, *outcome.get("notes", ())]}
    if experiment.report is not None:
        write_page(content, page(content, experiment.report(content)), state)
    return content
