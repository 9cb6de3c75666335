"""The cases of a study that refinement helped most, in the middle and least, as one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_hidiff.training.datasets import Case

from .. import gallery
from ..arms import PRIOR, Subject
from .rows import Row
from .scored import Record, arms
from .trainings import Shelf


def draw_cases(
    shelf: Shelf,
    row: Row,
    seed: int,
    scores: Mapping[str, Record],
    cases: Sequence[Case],
    path: Path,
) -> None:
    """Best, median and worst case of a row by Dice minus the prior's, with its first way."""
    way, model = row.ways[0], shelf.model(row, seed)
    gain = {case: of[way]["dice"] - of[PRIOR]["dice"] for case, of in scores.items()}
    known = {case.id: case for case in cases}
    drawn = []
    for place, case in gallery.best_median_worst(gain).items():
        subject = Subject.of(shelf.dataset.load(known[case]), model)
        masks = {name: next(iter(arm(subject))) for name, arm in arms(model, (way,), seed).items()}
        drawn.append(
            gallery.Row(
                f"{place}: {case}",
                subject.sample.image,
                subject.sample.mask,
                masks[PRIOR],
                masks[way],
                (scores[case][PRIOR]["dice"], scores[case][way]["dice"]),
                shelf.dataset.colors,
            )
        )
    gallery.draw(path, drawn)
