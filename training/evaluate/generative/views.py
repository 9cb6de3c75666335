"""The images [H, W] that the generative experiments look at, their records, tables and dots."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from rich.console import Console

from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset, Sample

from ..output import Content, Difference, Table, figure, interval, numbers, plain
from ..scoring import check, foreground_slices
from ..study import OnCase, Options, Record, Study, Task, files_of, fingerprint
from .figures import Figures

FORMAT = 3
"""Raise it when the figures of a case change their meaning: records are then computed anew."""
SAMPLES = 16
"""S, how many samples are drawn."""
DOT, MEAN = "#8a8a8a", "#d55e00"


@dataclass(frozen=True)
class View:
    """A picture, or a slice of a volume, as the model sees it.

    image : float32 [H, W, C], normalised. observers : uint8 masks [H, W], the truth first.
    inside : bool [H, W], the pixels that count.
    """

    image: np.ndarray
    observers: tuple[np.ndarray, ...]
    inside: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """The mask of the first observer, uint8 [H, W]."""
        return self.observers[0]

    def cut(self, mask: np.ndarray) -> np.ndarray:
        """The mask with background where no pixel counts."""
        return np.where(self.inside, mask, 0).astype(mask.dtype)


def views_of(model: HiDiff, dataset: Dataset, case: Case, slices: int) -> list[View]:
    """The views of a case: a picture is one, a volume has up to ``slices`` with foreground.

    A volume without any foreground has none. InputError when the case cannot be loaded or read.
    """
    sample = dataset.load(case)
    second = dataset.load_second(sample)
    planes = volumes.normalise(model, sample.image if sample.volume else sample.image[None])
    drawn = [_planes(sample, mask) for mask in (sample.mask, second) if mask is not None]
    inside = sample.field_of_view
    counted = np.ones(drawn[0].shape, bool) if inside is None else _planes(sample, inside)
    chosen = foreground_slices(drawn[0], slices) if sample.volume else [0]
    return [
        View(planes[i], tuple(np.where(counted[i], mask[i], 0) for mask in drawn), counted[i])
        for i in chosen
    ]


def last_step(model: HiDiff, view: View, sampler: str, seed: int = 0) -> Step:
    """The last step of a refinement from the model's own prior.

    ``one-step`` is one pass; ``ddim`` takes the steps that the card recommends and ``ancestral``
    all T, both with ``SAMPLES`` samples.
    """
    steps = model.process.steps if sampler == "ancestral" else model.card.defaults["steps"]
    *_, last = model.steps(
        view.image, sampler=sampler, steps=steps, samples=SAMPLES, seed=seed, normalised=True
    )
    return last


def _planes(sample: Sample, mask: np.ndarray) -> np.ndarray:
    return mask if sample.volume else mask[None]


def figures_of_cases(
    name: str,
    measure: Callable[[Sequence[View]], Figures],
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase,
) -> dict[str, Figures]:
    """The figures of every case by its id, from the records in ``state`` or computed now.

    name : of the experiment.  A case without any foreground slice has no figures and is left out.

    InputError: model and data do not fit, no case, seed or slice, or a case is bad.
    """
    if options.slices < 1:
        raise InputError(f"the number of slices must be at least 1, not {options.slices}")
    check(model, dataset, cases, Options(options.seeds))
    weights = fingerprint(model)

    def tasks(case: Case) -> list[Task[str]]:
        def compute() -> Record:
            views = views_of(model, dataset, case, options.slices)
            return plain({"figures": measure(views) if views else None})

        decides = {
            "study": [FORMAT, SAMPLES, list(options.seeds), options.slices],
            "data": [dataset.name, dataset.longest_side, files_of(case)],
            "model": weights,
        }
        return [Task(name, f"{name}-{case.id}", decides, compute)]

    records = {
        case.id: found[name]["figures"] for case, found in Study(state, on_case).run(cases, tasks)
    }
    figures = {id_: own for id_, own in records.items() if own is not None}
    if not figures:
        raise InputError(f"{dataset.name}: no case has any foreground")
    return figures


def headline(content: Content, how: str) -> str:
    """What was run, for people."""
    samples, seeds = content["samples"], numbers(content["seeds"])
    return f"{content['experiment']}: {how}{samples} samples, seeds {seeds}, n = {content['n']}"


def print_means(title: str, values: Mapping[str, float | None], out: Console) -> None:
    """One row per arm or map."""
    rows = [[name, figure(value)] for name, value in values.items()]
    out.print(Table(["", "mean"], rows).rich(title))


def print_differences(title: str, pairs: Mapping[str, Difference | None], out: Console) -> None:
    """One row per pair, with its interval."""
    rows = [[name, interval(difference, "-")] for name, difference in pairs.items()]
    out.print(Table(["", "difference"], rows).rich(title))


def title_of(content: Content) -> str:
    """What the dots of a picture are."""
    seeds = len(content["seeds"])
    return (
        f"{content['experiment']}: n = {content['n']}, {content['samples']} samples, {seeds} seed"
        f"{'s' * (seeds > 1)}; dots are cases, lines their mean"
    )


def draw_dots(axes: Axes, rows: list[dict[str, float | None]]) -> None:
    """A column of dots per arm, a dot per case; a line at the mean."""
    names = list(rows[0])
    for place, name in enumerate(names):
        values = [value for row in rows if (value := row[name]) is not None]
        spread = np.linspace(-0.15, 0.15, len(values)) if len(values) > 1 else np.zeros(len(values))
        axes.plot(place + spread, values, ".", color=DOT, ms=5)
        if values:
            mean = float(np.mean(values))
            axes.hlines(mean, place - 0.3, place + 0.3, color=MEAN, lw=2)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
    axes.grid(alpha=0.3, axis="y")
