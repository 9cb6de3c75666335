"""Who annotates what, and where the records of it are kept."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.loading import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import Options
from ..store import Store, files_of, fingerprint
from .annotator import annotate
from .answers import answer_of
from .policies import Policy, chosen, seeds_of, settings_of
from .subjects import Opened, Place, Subject, kind_of
from .summary import Done


class Job(NamedTuple):
    """One annotator: an arm with a seed."""

    policy: Policy
    seed: int


class Study:
    """What stays the same through an experiment.

    InputError: unknown arms or strokes, or a control model that does not fit.
    """

    def __init__(self, model: HiDiff, dataset: Dataset, options: Options, state: Path) -> None:
        self.model, self.dataset, self.options = model, dataset, options
        self.policies = chosen(options)
        kind_of(options.stroke, np.zeros((1, 1), np.uint8))  # refuses an unknown kind at once
        self.control = _control(model, options) if self._needs_control else None
        self.store = Store(state)
        self.jobs = [
            Job(policy, seed)
            for policy in self.policies
            for seed in seeds_of(policy, self._model(policy), options)
        ]
        self._prints = {id(m): fingerprint(m) for m in (model, self.control) if m is not None}
        self._data = [dataset.name, dataset.longest_side]

    @property
    def _needs_control(self) -> bool:
        return any(policy.control for policy in self.policies)

    def _model(self, policy: Policy) -> HiDiff:
        return self.control if policy.control and self.control is not None else self.model

    def settings(self, policy: Policy) -> dict[str, Any]:
        """Sampler, steps and samples of an arm."""
        return settings_of(policy, self._model(policy), self.options)

    def places(self, case: Case, opened: Opened) -> list[Place]:
        """The subjects of a case, kept so that a later call need not open it."""
        options = self.options
        decides = {
            "data": self._data,
            "files": files_of(case),
            "slices": options.slices,
            "stroke": options.stroke,
        }

        def compute() -> dict[str, Any]:
            return {"places": [asdict(p) for p in opened.places(options.slices, options.stroke)]}

        kept = self.store.get(f"case-{case.id}", decides, compute)
        return [Place(**place) for place in kept["places"]]

    def decides(self, case: Case, place: Place, job: Job) -> dict[str, Any]:
        """Everything that the record of an annotator depends on."""
        model = self._model(job.policy)
        return {
            "data": self._data,
            "files": files_of(case),
            "place": asdict(place),
            "policy": asdict(job.policy),
            "settings": self.settings(job.policy),
            "models": [self._prints[id(self.model)], self._prints[id(model)]],
            "seed": job.seed,
            "strokes": self.options.strokes,
            "wrong": self.options.wrong if job.policy.wrong else 0,
        }

    def annotated(self, subject: Subject, job: Job, strokes: int) -> dict[str, Any]:
        """The record of an annotator, computed now."""
        policy, model = job.policy, self._model(job.policy)
        answer = answer_of(policy, subject, model, self.settings(policy), job.seed)
        record = annotate(subject, policy, answer, strokes, job.seed, self.options.wrong)
        if policy.control:
            own = model.prior(subject.plane, normalised=True)
            record["prior_differs"] = float(np.abs(own - subject.prior.probability).max())
        return record

    def done(self, case: Case, opened: Opened, place: Place, job: Job) -> Done:
        """The record of an annotator, kept or computed."""

        def compute() -> dict[str, Any]:
            return self.annotated(opened.subject(place), job, self.options.strokes)

        decides = self.decides(case, place, job)
        record = self.store.get(named(place, job), decides, compute)
        return Done(place, job.policy.name, job.seed, record)

    def missing(self, case: Case, place: Place) -> list[Job]:
        """The annotators on a subject that have no record yet."""
        return [
            job
            for job in self.jobs
            if self.store.find(named(place, job), self.decides(case, place, job)) is None
        ]


def named(place: Place, job: Job) -> str:
    """The name under which an annotator's record is kept."""
    slice_ = "" if place.slice is None else f"-{place.slice}"
    return f"{job.policy.name}-s{job.seed}-{place.case}{slice_}"


def _control(model: HiDiff, options: Options) -> HiDiff:
    """The one-step control; InputError where it cannot stand in for the model."""
    control = load_model(str(options.control), device=str(model.device), engine=model.runs.wanted)
    for what in ("classes", "channels"):
        own, wanted = _names(control, what), _names(model, what)
        if own != wanted:
            raise InputError(
                f"{options.control}: the control has the {what} {', '.join(own)}; "
                f"{model.card.name} has {', '.join(wanted)}"
            )
    if control.intensity != model.intensity:
        raise InputError(f"{options.control}: the control normalises grey values in another way")
    return control


def _names(model: HiDiff, what: str) -> list[str]:
    values = getattr(model.card, what)
    return [value if isinstance(value, str) else value.name for value in values]
