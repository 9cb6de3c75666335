"""The experiment: every annotator on every subject in every arm, kept as it goes."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import OnCase, Options
from ..output import span
from ..report import plain
from .pictures import PICTURES, draw
from .study import Job, Study
from .subjects import Opened, Subject
from .summary import Done, summarise


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
