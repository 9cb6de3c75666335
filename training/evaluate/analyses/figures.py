"""From scored cases to what is reported: means, paired intervals, rows, pictures of cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.training.datasets import Dataset

from ..arms import PRIOR
from ..bootstrap import paired_bootstrap
from ..gallery import Row, best_median_worst, draw
from ..metrics import TOLERANCE
from .study import Scored

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
