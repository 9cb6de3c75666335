"""A model on a data set that it was not trained on: does refinement still help?

Classes of the model and of the data set are matched by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..metrics import REPORTED
from ..output import Content, Report, Table, figure, interval, plain, score_cells, verdict
from ..samplers import plain_settings, recommended, settings_named
from ..scoring import PRIOR, REFINED
from ..study import OnCase, Options, silent
from .scored import (
    CASES,
    ModelOnCases,
    ScoredCase,
    dices_of,
    difference,
    draw_cases,
    means,
    row_of,
    settings_line,
    surface,
)


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = silent,
) -> Content:
    """Score prior and refined mask in the classes that model and data set share; plain data.

    Arms are the prior, ``refined`` (the options' sampler, or the card's) and the settings of
    ``options.arms``.  ``classes``: the name in the data set -> the name in the model; ``left_out``
    those that only one of them has.  ``mean`` by arm (dice, hd95, nsd), ``minus_prior`` with paired
    intervals, ``per_class`` the mean Dice by class and arm where there are several, ``images``.
    ``own``: what the model's card says of its own test images, None where it says nothing.

    InputError: no class in common, an unknown setting, or a case is bad.
    """
    names = [label.name for label in model.card.classes]
    matched = match(dataset.classes, names)
    settings = {REFINED: recommended(model, options)} | settings_named(options.arms or (), model)
    common = narrowed(dataset, matched)
    on = ModelOnCases(model, common, settings, options.seeds, matched.labels(model.labels))
    scored = on.scored(cases, state, on_case)
    own = _own(model)
    arms = (PRIOR, *settings)
    content: Content = {
        "pictures": [CASES],
        "trained_on": model.card.dataset,
        "classes": {dataset.classes[old]: names[label] for old, label in matched.pairs},
        "left_out": {"dataset": matched.only_dataset, "model": matched.only_model},
        "surface": surface(scored),
        "ways": plain_settings(settings),
        "mean": {arm: means(scored, arm) for arm in arms},
        "minus_prior": {arm: difference(scored, arm, PRIOR) for arm in settings},
        "own": own,
        "images": [row_of(case) for case in scored],
        "notes": _notes(model, dataset, matched, own),
    }
    if len(matched.pairs) > 1:
        content["per_class"] = {
            name: {arm: _mean_dice(scored, name, arm) for arm in arms}
            for name in scored[0].arms[PRIOR].per_class
        }
    draw_cases(state / CASES, scored, REFINED, common, dices_of(scored, REFINED))
    return plain(content)


def report(content: Content) -> Report:
    """What holds on the other data set; scores there and on the model's own test images."""
    pairs = ", ".join(f"{a} as {b}" for a, b in content["classes"].items())
    summary = [f"- trained on {content['trained_on'] or 'an unnamed data set'}; classes: {pairs}."]
    for name in content["ways"]:
        apart = content["minus_prior"][name]["dice"]
        summary.append(f"- **{name}**: {verdict(apart, 'the prior')}.")
    here = f"{content['dataset']} ({content['split']}, n = {content['n']})"
    rows = []
    for arm, mean in content["mean"].items():
        apart = interval(content["minus_prior"][arm]["dice"]) if arm != PRIOR else ""
        rows.append([here, arm, *score_cells(mean), apart])
    if own := content["own"]:
        where = f"its own: {own['dataset']} ({own['split']}, n = {own['n']})"
        rows += [[where, arm, *score_cells(mean), ""] for arm, mean in own["mean"].items()]
    table = Table(["data", "mask", "Dice", "HD95", "NSD", "Dice - prior"], rows, words=2)
    about = f"`{content['model']}`"
    return Report(about, summary, table, settings_line(content), _by_metric_and_class(content))


def _by_metric_and_class(content: Content) -> dict[str, Table]:
    """Every difference, and Dice by class where there are several."""
    apart = content["minus_prior"]
    rows = [[metric, *(interval(one[metric]) for one in apart.values())] for metric in REPORTED]
    heads = ["score", *(f"{arm} - prior" for arm in apart)]
    unit, tolerance = content["surface"]["unit"], content["surface"]["tolerance"]
    title = f"difference, 95 % interval over cases; hd95 in {unit}, nsd at {tolerance:g} {unit}"
    tables = {title: Table(heads, rows)}
    if "per_class" in content:
        heads = ["class", *content["mean"]]
        rows = [[name, *map(figure, arms.values())] for name, arms in content["per_class"].items()]
        tables["Dice by class"] = Table(heads, rows)
    return tables


def _own(model: HiDiff) -> dict[str, Any] | None:
    """The card's scores of prior and refined mask, with what they were measured on."""
    scores = model.card.scores
    if scores.get("split") != "test" or "mean" not in scores:
        return None
    about = {key: scores.get(key) for key in ("dataset", "split", "n", "surface", "settings")}
    arms = {arm: scores["mean"][arm] for arm in (PRIOR, REFINED) if arm in scores["mean"]}
    return about | {"mean": {arm: {m: row.get(m) for m in REPORTED} for arm, row in arms.items()}}


def _mean_dice(scored: Sequence[ScoredCase], name: str, arm: str) -> float:
    return float(np.mean([case.arms[arm].per_class[name]["dice"] for case in scored]))


@dataclass(frozen=True)
class Match:
    """pairs : label of the data set and of the model for every class that both know, in the order
    of the data set.  only_dataset, only_model : names of the others, which are not scored."""

    pairs: tuple[tuple[int, int], ...]
    only_dataset: tuple[str, ...]
    only_model: tuple[str, ...]

    def labels(self, of_model: int) -> list[int]:
        """The label within :func:`narrowed` for each of so many labels of the model."""
        found = [0] * of_model
        for new, (_, own) in enumerate(self.pairs, 1):
            found[own] = new
        return found


def _notes(
    model: HiDiff, dataset: Dataset, matched: Match, own: dict[str, Any] | None
) -> list[str]:
    card, notes = model.card, []
    if card.dataset == dataset.name:
        notes.append(f"{card.name} was trained on a data set of this name: {dataset.name}")
    for whose, rest in ((dataset.name, matched.only_dataset), (card.name, matched.only_model)):
        if rest:
            notes.append(f"only {whose} has {', '.join(rest)}: not scored")
    if own and matched.only_model:
        notes.append(f"the scores on the card are means over all classes of {card.name}")
    if tuple(map(str.casefold, card.channels)) != tuple(map(str.casefold, dataset.channels)):
        notes.append(
            f"channels are matched by place: {', '.join(dataset.channels)} as "
            f"{', '.join(card.channels)}"
        )
    return notes


def match(dataset: Sequence[str], model: Sequence[str]) -> Match:
    """Match class names, background first in both, whatever their case.

    Where both have one foreground class these are the same, whatever they are called: Kvasir-SEG's
    polyp and a ``folder`` of adenomas.  InputError where no class is known to both.
    """
    if len(dataset) == len(model) == 2:
        return Match(((1, 1),), (), ())
    own = {name.casefold().strip(): label for label, name in enumerate(model) if label}
    pairs = tuple(
        (label, own[name.casefold().strip()])
        for label, name in enumerate(dataset)
        if label and name.casefold().strip() in own
    )
    if not pairs:
        raise InputError(
            f"no class is known to both: the model has {', '.join(model[1:])}; the data set "
            f"{', '.join(dataset[1:])}"
        )
    known = [{pair[side] for pair in pairs} for side in (0, 1)]
    rest = [
        tuple(name for label, name in enumerate(names) if label and label not in met)
        for names, met in zip((dataset, model), known, strict=True)
    ]
    return Match(pairs, *rest)


def narrowed(dataset: Dataset, matched: Match) -> Dataset:
    """The data set with the matched classes only, numbered 1, 2, ...; all else is background.

    A region stays where each of its classes is matched.
    """
    new = {old: label for label, (old, _) in enumerate(matched.pairs, 1)}
    labels = (0, *new)
    codes = dataset.codes or {label: label for label in range(len(dataset.classes))}
    return replace(
        dataset,
        classes=tuple(dataset.classes[label] for label in labels),
        colors=tuple(dataset.colors[label] for label in labels),
        codes={file: new.get(label, 0) for file, label in codes.items()},
        regions={
            name: tuple(new[label] for label in union)
            for name, union in dataset.regions.items()
            if set(union) <= set(new)
        },
    )
