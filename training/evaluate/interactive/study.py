"""Who annotates what, and where the records of it are kept.

The experiment: every annotator on every subject in every arm, kept as it goes.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import OnCase, Options, Store, files_of, fingerprint
from ..output import span
from ..report import plain
from .annotator import Done, annotate, summarise
from .policies import Policy, answer_of, chosen, seeds_of, settings_of
from .report import PICTURES, draw
from .subjects import Opened, Place, Subject, kind_of


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


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = lambda done, what: None,
) -> dict[str, Any]:
    """Every annotator on every case; plain data, and pictures in ``state``.

    docs/interactive.md describes the object. InputError: unknown arms or strokes, a control model
    that does not fit, no case with any foreground, a bad case, or ``state`` cannot be written.
    """
    study = Study(model, dataset, options, state)
    runs: list[Done] = []
    told = False
    for index, case in enumerate(cases):
        opened = Opened(case, dataset, model)
        places = study.places(case, opened)
        on_case(index, case)
        for number, place in enumerate(places):
            missing = [] if told else study.missing(case, place)
            if missing:
                seconds = _expected(study, opened.subject(place), missing)
                several = (len(cases) - index - 1) * len(places) + len(places) - number
                on_case(index, f"at most about {span(seconds * several)} to go")
                told = True
            for at, job in enumerate(study.jobs):
                runs.append(study.done(case, opened, place, job))
                share = (number + (at + 1) / len(study.jobs)) / len(places)
                on_case(index + share * 0.999, case)  # the next case begins at a whole number
    if not runs:
        raise InputError(f"none of the {len(cases)} cases has any foreground")
    on_case(len(cases), "figures and pictures")
    content = plain(_content(study, runs))
    if study.store.computed or not all((state / name).is_file() for name in PICTURES):
        draw(content, runs, {case.id: case for case in cases}, dataset, state)
    return content


def _content(study: Study, runs: list[Done]) -> dict[str, Any]:
    options = study.options
    kinds = [run.place.kind for run in runs]
    content: dict[str, Any] = {
        "subjects": len({run.place for run in runs}),
        "strokes": options.strokes,
        "stroke": {
            "asked": options.stroke,
            **{kind: len({r.place for r in runs if r.place.kind == kind}) for kind in set(kinds)},
        },
        "slices": options.slices,
        "wrong_strokes": options.wrong,
        "settings": {p.name: study.settings(p) for p in study.policies if study.settings(p)},
        "pictures": list(PICTURES),
        "notes": _notes(runs),
    }
    return content | summarise(runs, study.policies, options.strokes)


def _notes(runs: list[Done]) -> list[str]:
    apart = [run.record["prior_differs"] for run in runs if "prior_differs" in run.record]
    if not apart or max(apart) == 0:
        return []
    return [
        "the control's own segmentor differs: its prior is up to "
        f"{max(apart):.3g} away from the one that every arm starts from"
    ]


def _expected(study: Study, subject: Subject, jobs: list[Job]) -> float:
    """Seconds that these annotators will need on a subject, from one stroke of each arm."""
    _ = subject.prior  # the segmentor runs once and is then remembered
    cost: dict[str, float] = {}
    for job in jobs:
        if job.policy.name not in cost:
            start = time.perf_counter()
            study.annotated(subject, job, 1)
            cost[job.policy.name] = time.perf_counter() - start
    strokes = study.options.strokes
    return sum(cost[job.policy.name] * (1 if job.policy.once else strokes) for job in jobs)
