"""Cases scored with several sampler settings, and what is reported of them.

Each record is a case with one setting and one seed; means over seeds, paired intervals over cases
and pictures come from the records.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.surfaces import TOLERANCE
from napari_hidiff.training.datasets import Case, Dataset

from ..gallery import Row, best_median_worst, draw, richest
from ..metrics import REPORTED, paired_bootstrap
from ..output import Content, numbers
from ..samplers import SamplerSetting
from ..scoring import MM, PIXELS, PRIOR, PreparedSample, score_case, seeds_of
from ..study import (
    Cost,
    OnCase,
    Record,
    Study,
    Task,
    files_of,
    fingerprint,
    pack_array,
    unpack_array,
)

FORMAT = 1
"""Raise it when the figures of a record change their meaning: records are then computed anew."""
CASES = "cases.png"
"""Best, median and worst case."""
TRUTH = "truth"

Settings = Mapping[str, SamplerSetting]
"""Sampler settings by the name of their arm."""
Intervals = dict[str, dict[str, float]]
"""``mean``, ``low`` and ``high`` of each metric; the bounds are NaN for a single case."""


@dataclass(frozen=True)
class ArmScores:
    """One arm on one case, means over its seeds: scores in the mean and by class (or region),
    seconds per mask.  shown : the mask [H, W] that pictures show, of the first seed."""

    mean: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    seconds: float
    shown: np.ndarray


@dataclass(frozen=True)
class ScoredCase:
    """A case with its arms by name, the prior first.

    areas : pixels of the truth by class (or region), of those that count.  spacing : size of a
    pixel per axis, or None.  slice : the one that pictures show, None for a picture.
    """

    case: Case
    areas: Mapping[str, int]
    spacing: tuple[float, ...] | None
    slice: int | None
    arms: Mapping[str, ArmScores]

    @property
    def unit(self) -> str:
        """Of distances: mm or pixels."""
        return PIXELS if self.spacing is None else MM


class Job(NamedTuple):
    """A record of a case: the arm's name, its setting (None for truth and prior), its seed."""

    arm: str
    setting: SamplerSetting | None = None
    seed: int = 0


class ModelOnCases:
    """The tasks of a model on a data set: the truth, the prior, and every setting with its seeds.

    labels : the label of the data set for each label of the model; None where they are the same.
    """

    def __init__(
        self,
        model: HiDiff,
        dataset: Dataset,
        settings: Settings,
        seeds: tuple[int, ...],
        labels: Sequence[int] | None = None,
    ) -> None:
        self.model, self.dataset = model, dataset
        self.labels = np.array(range(model.labels) if labels is None else labels, np.uint8)
        self.jobs = [
            Job(arm, setting, seed)
            for arm, setting in settings.items()
            for seed in seeds_of(setting.sampler, seeds)
        ]
        self._decides = {
            "measured": FORMAT,
            "data": [dataset.name, dataset.longest_side, list(dataset.classes)],
            "labels": self.labels.tolist(),
            "model": fingerprint(model),
        }

    def scored(self, cases: Sequence[Case], state: Path, on_case: OnCase) -> list[ScoredCase]:
        """Every case, from the records in ``state`` or computed now.

        InputError: there is no case, or a case is bad.
        """
        study = Study(state, on_case)
        return [_scored(*found) for found in study.run(cases, self.tasks, self.cost)]

    def tasks(self, case: Case) -> list[Task[Job]]:
        """The truth, the prior and every refinement of a case."""
        loaded = _LoadedCase(case, self)
        shared = {**self._decides, "files": files_of(case)}

        def refinement(job: Job) -> Task[Job]:
            assert job.setting is not None
            decides = {"way": asdict(job.setting), "seed": job.seed, "engine": self.model.engine}
            name = f"{job.arm}-s{job.seed}-{case.id}"
            return Task(job, name, shared | decides, lambda: loaded.scores(job))

        return [
            Task(Job(TRUTH), f"{TRUTH}-{case.id}", shared, loaded.truth),
            Task(Job(PRIOR), f"{PRIOR}-{case.id}", shared, lambda: loaded.scores(Job(PRIOR))),
            *map(refinement, self.jobs),
        ]

    def cost(self, missing: Sequence[tuple[Case, Task[Job]]]) -> Cost:
        """Of the refinements among the tasks, all timed as if of the first case's size."""
        settings = [task.job.setting for _, task in missing if task.job.setting is not None]
        sample = self.dataset.load(missing[0][0])
        slices, size = len(sample.image) if sample.volume else 1, sample.mask.shape[-2:]
        each = {
            one: self.model.estimate(size, one.sampler, one.steps, one.samples).seconds
            for one in set(settings)
        }
        return len(settings), "refinement", slices * sum(each[one] for one in settings)


class _LoadedCase:
    """A case that is loaded, and segmented, when that is first needed."""

    def __init__(self, case: Case, on: ModelOnCases) -> None:
        self._case, self._on = case, on

    @cached_property
    def _prepared(self) -> PreparedSample:
        return PreparedSample.of(self._on.dataset.load(self._case), self._on.model)

    @property
    def _slice(self) -> int | None:
        sample = self._prepared.sample
        return richest(sample.mask) if sample.volume else None

    def truth(self) -> Record:
        """What does not depend on the model."""
        sample = self._prepared.sample
        seen = sample.mask if sample.field_of_view is None else sample.mask[sample.field_of_view]
        named = unions(self._on.dataset)
        return {
            "areas": {name: int(np.isin(seen, union).sum()) for name, union in named.items()},
            "spacing": None if sample.spacing is None else [float(side) for side in sample.spacing],
            "slice": self._slice,
            "shown": list(sample.mask.shape[-2:]),
        }

    def scores(self, job: Job) -> Record:
        """The scores of a setting with one seed, or of the prior."""
        on, masks = self._on, []

        def arm(prepared: PreparedSample) -> Iterator[np.ndarray]:
            probability = prepared.prior
            if job.setting is not None:
                probability = job.setting.probability(on.model, prepared, job.seed)
            masks.append(on.labels[prepared.mask(on.model, probability)])
            return iter(masks)

        scores = score_case(self._prepared, on.dataset, {job.arm: arm}).arms[job.arm]
        return {
            "mean": scores.mean,
            "per_class": scores.per_class,
            "seconds": scores.seconds,
            "shown": pack_array(masks[0] if self._slice is None else masks[0][self._slice]),
        }


def _scored(case: Case, records: Mapping[Job, Record]) -> ScoredCase:
    """A case from its records."""
    truth = records[Job(TRUTH)]
    arms: dict[str, list[Record]] = {}
    for job, record in records.items():
        if job.arm != TRUTH:
            arms.setdefault(job.arm, []).append(record)
    scores = {arm: _mean_over_seeds(own, truth["shown"]) for arm, own in arms.items()}
    spacing = None if truth["spacing"] is None else tuple(truth["spacing"])
    return ScoredCase(case, truth["areas"], spacing, truth["slice"], scores)


def _mean_over_seeds(records: Sequence[Record], shape: Sequence[int]) -> ArmScores:
    return ArmScores(
        _mean([record["mean"] for record in records]),
        {
            name: _mean([record["per_class"][name] for record in records])
            for name in records[0]["per_class"]
        },
        float(np.mean([record["seconds"] for record in records])),
        unpack_array(records[0]["shown"], shape),
    )


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def unions(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """The labels of every foreground class and of every region, by name."""
    classes = {name: (label,) for label, name in enumerate(dataset.classes) if label}
    return classes | dict(dataset.regions)


def values(scored: Sequence[ScoredCase], arm: str, metric: str) -> np.ndarray:
    """A score of an arm, float64 [N], a value per case."""
    return np.array([case.arms[arm].mean[metric] for case in scored])


def means(scored: Sequence[ScoredCase], arm: str) -> dict[str, float]:
    """Every reported score of an arm, mean over cases."""
    return {metric: float(values(scored, arm, metric).mean()) for metric in REPORTED}


def mean_interval(each: Sequence[float] | np.ndarray) -> dict[str, float]:
    """The mean over cases with its 95 % interval, whose bounds are NaN for a single case."""
    return paired_bootstrap(each)._asdict()


def difference(scored: Sequence[ScoredCase], arm: str, other: str) -> Intervals:
    """The paired differences of two arms over cases."""
    return {m: mean_interval(values(scored, arm, m) - values(scored, other, m)) for m in REPORTED}


def surface(scored: Sequence[ScoredCase]) -> dict[str, str | float]:
    """Unit and tolerance of distances."""
    return {"unit": " or ".join(sorted({case.unit for case in scored})), "tolerance": TOLERANCE}


def dices_of(scored: Sequence[ScoredCase], arm: str) -> dict[str, tuple[float, float]]:
    """Dice of the prior and of an arm by id."""
    pairs = zip(values(scored, PRIOR, "dice"), values(scored, arm, "dice"), strict=True)
    return {case.case.id: pair for case, pair in zip(scored, pairs, strict=True)}


def row_of(case: ScoredCase) -> dict[str, str | dict[str, float]]:
    """The id of a case, and its scores by arm."""
    arms = {name: {m: arm.mean[m] for m in REPORTED} for name, arm in case.arms.items()}
    return {"id": case.case.id, **arms}


def settings_line(content: Content) -> str:
    """Seeds and engine of an analysis."""
    engines = ", ".join(content["engine"])
    return f"sampling seeds {numbers(content['seeds'])}; {engines} engine"


def draw_cases(
    path: Path,
    scored: Sequence[ScoredCase],
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
    for id_, kinds in chosen.items():
        case = by_id[id_]
        sample, at = dataset.load(case.case), case.slice
        image, truth = (a if at is None else a[at] for a in (sample.image, sample.mask))
        title = f"{', '.join(kinds)}: {gains[id_]:+.4f}\n{id_ if at is None else f'{id_} [{at}]'}"
        masks = case.arms[PRIOR].shown, case.arms[arm].shown
        rows.append(Row(title, image, truth, *masks, dices[id_], dataset.colors))
    draw(path, rows)
