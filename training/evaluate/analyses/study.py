"""Every way of refining on every case, kept record by record so that a killed run can go on.

From scored cases to what is reported: means, paired intervals, rows, pictures of cases.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..experiments import OnCase, Options, Store, files_of, fingerprint
from ..gallery import Row, best_median_worst, draw, packed, richest, unpacked
from ..metrics import TOLERANCE, paired_bootstrap
from ..output import span
from ..samplers import WAYS, Way, way_of
from ..scoring import MM, ONE_STEP, PIXELS, PRIOR, Plan, Subject, score_case, settings_of

FORMAT = 1
"""Rises when the figures of a record change their meaning: kept files are then computed anew."""


@dataclass(frozen=True)
class Arm:
    """One way on one case, means over its seeds: scores in the mean and by class (or region),
    seconds per mask.  shown : the mask [H, W] that pictures show, of the first seed."""

    mean: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    seconds: float
    shown: np.ndarray


@dataclass(frozen=True)
class Scored:
    """A case with its arms by name, the prior first.

    areas : pixels of the truth by class (or region), of those that count.  spacing : size of a
    pixel per axis, or None.  slice : the one that pictures show, None for a picture.
    """

    case: Case
    areas: Mapping[str, int]
    spacing: tuple[float, ...] | None
    slice: int | None
    arms: Mapping[str, Arm]

    @property
    def unit(self) -> str:
        """That of distances."""
        return PIXELS if self.spacing is None else MM


class _Job(NamedTuple):
    """A refinement of a case: a way by the name of its arm, with a seed."""

    name: str
    way: Way
    seed: int

    @property
    def record(self) -> str:
        return f"{self.name}-s{self.seed}"


class Study:
    """A model on the cases of a data set, with the prior and in every way that is asked for.

    ways : by the name of their arm; a way without randomness runs with the first seed only.
    labels : the label of the data set for each label of the model; None where they are the same.

    ``store.computed`` says how many records were not there.
    """

    def __init__(
        self,
        model: HiDiff,
        dataset: Dataset,
        ways: Mapping[str, Way],
        seeds: Sequence[int],
        state: Path,
        labels: Sequence[int] | None = None,
    ) -> None:
        if not seeds:
            raise InputError("an experiment needs at least one seed")
        self.model, self.dataset, self.ways = model, dataset, dict(ways)
        self.seeds = tuple(seeds)
        self.labels = np.array(range(model.labels) if labels is None else labels, np.uint8)
        self.store = Store(state)
        self._decides = {
            "measured": FORMAT,
            "data": [dataset.name, dataset.longest_side, list(dataset.classes)],
            "labels": self.labels.tolist(),
            "model": fingerprint(model),
        }

    def scored(self, cases: Sequence[Case], on_case: OnCase) -> list[Scored]:
        """Every case, kept or computed now; InputError without a case or when one is bad."""
        if not cases:
            raise InputError(f"{self.dataset.name}: there is no case to study")
        self._say_how_long(cases, on_case)
        return [self._scored(case, done, on_case) for done, case in enumerate(cases)]

    def _scored(self, case: Case, done: int, on_case: OnCase) -> Scored:
        opened = _Opened(case, self)
        on_case(done, case)
        truth = self._kept("truth", case, {}, opened.truth)
        records = {PRIOR: [self._kept(PRIOR, case, {}, opened.record)]}
        jobs = self._jobs()
        for number, job in enumerate(jobs):
            on_case(done + number / len(jobs), case)

            def compute(job: _Job = job) -> dict[str, Any]:
                return opened.record(job.way, job.seed)

            record = self._kept(job.record, case, self._decide(job), compute)
            records.setdefault(job.name, []).append(record)
        arms = {name: _arm(own, truth["shown"]) for name, own in records.items()}
        spacing = None if truth["spacing"] is None else tuple(truth["spacing"])
        return Scored(case, truth["areas"], spacing, truth["slice"], arms)

    def seeds_of(self, way: Way) -> tuple[int, ...]:
        """The seeds that make a difference to a way."""
        return self.seeds[:1] if way.sampler == ONE_STEP else self.seeds

    def _jobs(self) -> list[_Job]:
        """Every refinement of a case."""
        return [
            _Job(name, way, seed) for name, way in self.ways.items() for seed in self.seeds_of(way)
        ]

    def _decide(self, job: _Job) -> dict[str, Any]:
        return {"way": asdict(job.way), "seed": job.seed, "engine": self.model.engine}

    def _say_how_long(self, cases: Sequence[Case], on_case: OnCase) -> None:
        """Tell how many refinements are not kept yet, and how long they will take."""
        todo = [
            (case, job.way)
            for case in cases
            for job in self._jobs()
            if self.store.find(*self._place(job.record, case, self._decide(job))) is None
        ]
        if not todo:
            return
        sample = self.dataset.load(todo[0][0])  # stands for all
        slices = len(sample.image) if sample.volume else 1
        size = sample.mask.shape[-2:]
        each = {
            way: self.model.estimate(size, way.sampler, way.steps, way.samples).seconds
            for way in {way for _, way in todo}
        }
        time = span(slices * sum(each[way] for _, way in todo))
        count = "1 refinement" if len(todo) == 1 else f"{len(todo)} refinements"
        on_case(0.0, f"{count} to do: about {time} on this machine")

    def _place(
        self, name: str, case: Case, decides: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        """Name and circumstances of a record."""
        return f"{name}-{case.id}", {**self._decides, "files": files_of(case), **decides}

    def _kept(
        self,
        name: str,
        case: Case,
        decides: Mapping[str, Any],
        compute: Callable[[], dict[str, Any]],
    ) -> dict[str, Any]:
        return self.store.get(*self._place(name, case, decides), compute)


class _Opened:
    """A case that is loaded, and segmented, when that is first needed."""

    def __init__(self, case: Case, study: Study) -> None:
        self.case, self.study = case, study

    @cached_property
    def subject(self) -> Subject:
        return Subject.of(self.study.dataset.load(self.case), self.study.model)

    @property
    def slice(self) -> int | None:
        sample = self.subject.sample
        return richest(sample.mask) if sample.volume else None

    def truth(self) -> dict[str, Any]:
        """What does not depend on the model."""
        sample = self.subject.sample
        seen = sample.mask if sample.field_of_view is None else sample.mask[sample.field_of_view]
        named = unions(self.study.dataset)
        return {
            "areas": {name: int(np.isin(seen, union).sum()) for name, union in named.items()},
            "spacing": None if sample.spacing is None else [float(side) for side in sample.spacing],
            "slice": self.slice,
            "shown": list(sample.mask.shape[-2:]),
        }

    def record(self, way: Way | None = None, seed: int = 0) -> dict[str, Any]:
        """The scores of a way with one seed, or of the prior."""
        study, masks = self.study, []

        def arm(subject: Subject) -> Iterator[np.ndarray]:
            found = subject.prior if way is None else way.probability(study.model, subject, seed)
            mask = study.labels[study.model.mask_of(found, axis=0)]
            masks.append(mask.reshape(subject.sample.mask.shape))
            return iter(masks)

        scores = score_case(self.subject, study.dataset, {PRIOR: arm}).arms[PRIOR]
        mask = masks[0] if self.slice is None else masks[0][self.slice]
        return {
            "mean": scores.mean,
            "per_class": scores.per_class,
            "seconds": scores.seconds,
            "shown": packed(mask),
        }


def unions(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """The labels of every foreground class and of every region, by name."""
    classes = {name: (label,) for label, name in enumerate(dataset.classes) if label}
    return classes | dict(dataset.regions)


def chosen_way(model: HiDiff, options: Options) -> Way:
    """The way that the options ask for, or else the model's card."""
    plan = Plan(options.seeds, options.sampler, options.steps, options.samples)
    settings = settings_of(model, plan)
    if settings["sampler"] == ONE_STEP:
        return Way(ONE_STEP)
    return Way(str(settings["sampler"]), int(settings["steps"]), int(settings["samples"]))


def named_ways(names: Iterable[str], model: HiDiff) -> dict[str, Way]:
    """Ways by name; InputError for an unknown one, or one with more steps than the model has."""
    ways = {}
    for name in names:
        try:
            ways[name] = way_of(name)
        except KeyError:
            raise InputError(f"unknown arm {name!r}: choose among {', '.join(WAYS)}") from None
        if ways[name].steps > model.process.steps:
            raise InputError(f"{name}: {model.card.name} has {model.process.steps} steps")
    return ways


def _arm(records: Sequence[Mapping[str, Any]], shape: Sequence[int]) -> Arm:
    """The mean over seeds."""
    return Arm(
        _mean([record["mean"] for record in records]),
        {
            name: _mean([record["per_class"][name] for record in records])
            for name in records[0]["per_class"]
        },
        float(np.mean([record["seconds"] for record in records])),
        unpacked(records[0]["shown"], shape),
    )


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


FIGURES = ("dice", "hd95", "nsd")
"""The scores that are reported."""
CASES = "cases.png"
"""Best, median and worst case."""


def values(scored: Sequence[Scored], arm: str, figure: str) -> np.ndarray:
    """A figure of an arm, float64 [N], a value per case."""
    return np.array([case.arms[arm].mean[figure] for case in scored])


def means(scored: Sequence[Scored], arm: str) -> dict[str, float]:
    """Every figure of an arm, mean over cases."""
    return {figure: float(values(scored, arm, figure).mean()) for figure in FIGURES}


def interval(each: Sequence[float] | np.ndarray) -> dict[str, float]:
    """The mean over cases with its 95 % interval, whose bounds are NaN for a single case."""
    return paired_bootstrap(each)._asdict()


def apart(scored: Sequence[Scored], arm: str, other: str) -> dict[str, dict[str, float]]:
    """The paired differences of two arms with intervals, by figure."""
    return {f: interval(values(scored, arm, f) - values(scored, other, f)) for f in FIGURES}


def surface(scored: Sequence[Scored]) -> dict[str, Any]:
    """Unit and tolerance of distances."""
    return {"unit": " or ".join(sorted({case.unit for case in scored})), "tolerance": TOLERANCE}


def dices_of(scored: Sequence[Scored], arm: str) -> dict[str, tuple[float, float]]:
    """Dice of the prior and of an arm by id."""
    pairs = zip(values(scored, PRIOR, "dice"), values(scored, arm, "dice"), strict=True)
    return {case.case.id: pair for case, pair in zip(scored, pairs, strict=True)}


def row_of(case: Scored) -> dict[str, Any]:
    """The figures of a case by arm."""
    arms = {name: {f: arm.mean[f] for f in FIGURES} for name, arm in case.arms.items()}
    return {"id": case.case.id, **arms}


def draw_cases(
    path: Path,
    scored: Sequence[Scored],
    arm: str,
    dataset: Dataset,
    dices: Mapping[str, tuple[float, float]],
) -> None:
    """A picture of the best, the median and the worst case by gain, each once.

    dices : by id those of the prior and of the arm, whose difference is the gain.
    """
    by_id = {case.case.id: case for case in scored}
    gains = {id_: after - before for id_, (before, after) in dices.items()}
    chosen: dict[str, list[str]] = {}
    for kind, id_ in best_median_worst(gains).items():
        chosen.setdefault(id_, []).append(kind)
    rows = []
    for id_, what in chosen.items():
        title = f"{', '.join(what)}: {gains[id_]:+.4f}"
        rows.append(_row(by_id[id_], title, arm, dataset, dices[id_]))
    draw(path, rows)


def _row(found: Scored, title: str, arm: str, dataset: Dataset, dice: tuple[float, float]) -> Row:
    sample, at = dataset.load(found.case), found.slice
    image, truth = (a if at is None else a[at] for a in (sample.image, sample.mask))
    place = found.case.id if at is None else f"{found.case.id} [{at}]"
    masks = found.arms[PRIOR].shown, found.arms[arm].shown
    return Row(f"{title}\n{place}", image, truth, *masks, dice, dataset.colors)
