"""A simulated annotator in every arm on every subject, and what is reported of it.

A new arm is a :class:`~.policies.Policy`; a new data set needs nothing here: cases whose ids begin
with the name of a set (``kvasir/cju0``) are also averaged by set.
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

from ..output import Content, plain
from ..study import Cost, OnCase, Options, Record, Study, Task, files_of, fingerprint, silent
from .annotator import AnnotatorRun, annotate, by_set, summarise
from .policies import Policy, answer_of, arm_seeds, arm_settings, arms_named
from .report import PICTURES, draw
from .subjects import LazyCase, Subject, SubjectId, kind_of


class Job(NamedTuple):
    """One annotator: a subject, an arm, a seed."""

    subject: SubjectId
    policy: Policy
    seed: int


class Annotators:
    """The tasks of the experiment: every annotator on the subjects of a case.

    InputError: unknown arms or strokes, or a control model that does not fit.
    """

    def __init__(self, model: HiDiff, dataset: Dataset, options: Options, study: Study) -> None:
        self.model, self.dataset, self.options, self.study = model, dataset, options, study
        self.policies = arms_named(options, model.card.prompted)
        kind_of(options.stroke, np.zeros((1, 1), np.uint8))  # refuses an unknown kind at once
        needs_control = any(policy.control for policy in self.policies)
        self.control = _control(model, options) if needs_control else None
        self._prints = {id(m): fingerprint(m) for m in (model, self.control) if m is not None}
        self._data = [dataset.name, dataset.longest_side]

    def settings(self, policy: Policy) -> dict[str, Any]:
        """Sampler, steps and samples of an arm."""
        return arm_settings(policy, self._model(policy), self.options)

    def tasks(self, case: Case) -> list[Task[Job]]:
        """Every annotator on the subjects of a case."""
        loaded = LazyCase(case, self.dataset, self.model)

        def task(job: Job) -> Task[Job]:
            def compute() -> Record:
                return self._annotated(loaded.subject(job.subject), job, self.options.strokes)

            return Task(job, record_name(job), self._decides(case, job), compute)

        jobs = [
            Job(subject, policy, seed)
            for subject in self._subjects(case)
            for policy in self.policies
            for seed in arm_seeds(policy, self._model(policy), self.options)
        ]
        return [task(job) for job in jobs]

    def cost(self, missing: Sequence[tuple[Case, Task[Job]]]) -> Cost:
        """An upper bound: in each arm one annotator is timed with one stroke."""
        each: dict[Policy, float] = {}
        for case, task in missing:
            policy = task.job.policy
            if policy not in each:
                subject = LazyCase(case, self.dataset, self.model).subject(task.job.subject)
                _ = subject.prior  # the segmentor runs once for all arms
                start = time.perf_counter()
                self._annotated(subject, task.job, 1)
                strokes = 1 if policy.once else self.options.strokes
                each[policy] = strokes * (time.perf_counter() - start)
        return len(missing), "annotator", sum(each[task.job.policy] for _, task in missing)

    def _subjects(self, case: Case) -> list[SubjectId]:
        """The subjects of a case, stored so that a later call need not load it."""
        options = self.options
        decides = {
            "data": self._data,
            "files": files_of(case),
            "slices": options.slices,
            "stroke": options.stroke,
        }

        def compute() -> Record:
            loaded = LazyCase(case, self.dataset, self.model)
            return {"places": [asdict(s) for s in loaded.subjects(options.slices, options.stroke)]}

        record = self.study.records.get(f"case-{case.id}", decides, compute)
        return [SubjectId(**subject) for subject in record["places"]]

    def _model(self, policy: Policy) -> HiDiff:
        return self.control if policy.control and self.control is not None else self.model

    def _decides(self, case: Case, job: Job) -> dict[str, Any]:
        """Everything that the record of an annotator depends on."""
        model = self._model(job.policy)
        return {
            "data": self._data,
            "files": files_of(case),
            "place": asdict(job.subject),
            "policy": asdict(job.policy),
            "settings": self.settings(job.policy),
            "models": [self._prints[id(self.model)], self._prints[id(model)]],
            "seed": job.seed,
            "strokes": self.options.strokes,
            "wrong": self.options.wrong if job.policy.wrong else 0,
        }

    def _annotated(self, subject: Subject, job: Job, strokes: int) -> Record:
        policy, model = job.policy, self._model(job.policy)
        answer = answer_of(policy, subject, model, self.settings(policy), job.seed)
        record = annotate(subject, policy, answer, strokes, job.seed, self.options.wrong)
        if policy.control and not model.card.prompted:
            own = model.prior(subject.plane, normalised=True)
            record["prior_differs"] = float(np.abs(own - subject.prior.probability).max())
        return record


def record_name(job: Job) -> str:
    """The name of an annotator's record."""
    at = "" if job.subject.slice is None else f"-{job.subject.slice}"
    return f"{job.policy.name}-s{job.seed}-{job.subject.case}{at}"


def _control(model: HiDiff, options: Options) -> HiDiff:
    """The one-step control; InputError where it cannot stand in for the model.

    A prompted one, which knows objects of any kind, stands in for any model of one class.
    """
    control = load_model(
        str(options.control), device=str(model.device), engine=model.backend.wanted
    )
    if control.card.prompted and model.labels == 2:
        return control
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
    on_case: OnCase = silent,
) -> Content:
    """Every annotator on every case; plain data, and pictures in ``state``.

    docs/interactive.md describes the object. InputError: unknown arms or strokes, a control model
    that does not fit, no case with any foreground, a bad case, or ``state`` cannot be written.
    """
    study = Study(state, on_case)
    annotators = Annotators(model, dataset, options, study)
    runs = [
        AnnotatorRun(job.subject, job.policy.name, job.seed, record)
        for _, records in study.run(cases, annotators.tasks, annotators.cost)
        for job, record in records.items()
    ]
    if not runs:
        raise InputError(f"none of the {len(cases)} cases has any foreground")
    on_case(len(cases), "figures and pictures")
    content = plain(_content(annotators, runs))
    if study.records.computed or not all((state / name).is_file() for name in PICTURES):
        draw(content, runs, {case.id: case for case in cases}, dataset, state)
    return content


def _content(annotators: Annotators, runs: list[AnnotatorRun]) -> Content:
    options, policies = annotators.options, annotators.policies
    subjects = {run.subject for run in runs}
    kinds = [subject.kind for subject in subjects]
    content: Content = {
        "subjects": len(subjects),
        "strokes": options.strokes,
        "stroke": {
            "asked": options.stroke,
            **{kind: kinds.count(kind) for kind in sorted(set(kinds))},
        },
        "slices": options.slices,
        "wrong_strokes": options.wrong,
        "settings": {
            policy.name: settings
            for policy in policies
            if (settings := annotators.settings(policy))
        },
        "pictures": list(PICTURES),
        "notes": _notes(runs),
    }
    content |= summarise(runs, policies, options.strokes)
    if sets := by_set(runs, policies, options.strokes):
        content["by_set"] = sets
    return content


def _notes(runs: list[AnnotatorRun]) -> list[str]:
    apart = [run.record["prior_differs"] for run in runs if "prior_differs" in run.record]
    if not apart or max(apart) == 0:
        return []
    return [
        "the control's own segmentor differs: its prior is up to "
        f"{max(apart):.3g} away from the one that every arm starts from"
    ]
