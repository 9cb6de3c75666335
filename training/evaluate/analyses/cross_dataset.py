"""A model on a data set that it was not trained on: does refinement still help?"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset

from ..arms import PRIOR, REFINED
from ..experiments import OnCase, Options
from ..report import plain
from ..tables import interval as as_text
from ..tables import new_table
from .classes import Match, match, narrowed
from .figures import CASES, FIGURES, apart, dices_of, draw_cases, means, row_of, surface
from .study import Scored, Study, chosen_way, named_ways


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = lambda done, case: None,
) -> dict[str, Any]:
    """Score prior and refined mask in the classes that model and data set share; plain data.

    Arms are the prior, ``refined`` (the options' sampler, or the card's) and the ways of
    ``options.arms``.  ``classes``: the name in the data set -> the name in the model; ``left_out``
    those that only one of them has.  ``mean`` by arm (dice, hd95, nsd), ``minus_prior`` with paired
    intervals, ``per_class`` the mean Dice by class and arm where there are several, ``images``.
    ``own``: what the model's card says of its own test images, None where it says nothing.

    state : a folder for a small file per case, way and seed; a second call computes nothing.

    InputError: no class in common, an unknown way, or a case is bad.
    """
    names = [label.name for label in model.card.classes]
    matched = match(dataset.classes, names)
    ways = {REFINED: chosen_way(model, options)} | named_ways(options.arms or (), model)
    common = narrowed(dataset, matched)
    labels = matched.labels(model.labels)
    study = Study(model, common, ways, options.seeds, state, labels)
    scored = study.scored(cases, on_case)
    own = _own(model)
    content = {
        "pictures": [CASES],
        "trained_on": model.card.dataset,
        "classes": {dataset.classes[old]: names[label] for old, label in matched.pairs},
        "left_out": {"dataset": matched.only_dataset, "model": matched.only_model},
        "surface": surface(scored),
        "ways": {name: asdict(way) for name, way in ways.items()},
        "mean": {arm: means(scored, arm) for arm in (PRIOR, *ways)},
        "minus_prior": {arm: apart(scored, arm, PRIOR) for arm in ways},
        "own": own,
        "images": [row_of(case) for case in scored],
        "notes": _notes(model, dataset, matched, own),
    }
    if len(matched.pairs) > 1:
        content["per_class"] = {
            name: {arm: _mean_dice(scored, name, arm) for arm in (PRIOR, *ways)}
            for name in scored[0].arms[PRIOR].per_class
        }
    draw_cases(state / CASES, scored, REFINED, common, dices_of(scored, REFINED))
    return plain(content)


def print_table(content: dict[str, Any], console: Console) -> None:
    """Scores here and on the model's own test images, and the differences, for people."""
    console.print(
        f"{content['model']}, trained on {content['trained_on'] or 'an unnamed data set'}, on "
        f"{content['dataset']} ({content['split']}, n = {content['n']})",
        soft_wrap=True,
    )
    table = new_table("mean over cases", ("data set", "mask"), FIGURES)
    own = content["own"]
    groups = [(content["dataset"], content["mean"])]
    if own:
        groups.append((f"own: {own['dataset']} ({own['split']}, n = {own['n']})", own["mean"]))
    for title, arms in groups:
        for index, (arm, scores) in enumerate(arms.items()):
            cells = ["-" if scores.get(f) is None else f"{scores[f]:.4f}" for f in FIGURES]
            table.add_row(title * (index == 0), arm, *cells, end_section=index == len(arms) - 1)
    console.print(table)
    unit = content["surface"]["unit"]
    console.print(f"here hd95 in {unit}; nsd at {content['surface']['tolerance']:g} {unit}")
    pairs = content["minus_prior"]
    heads = [f"{arm} - prior" for arm in pairs]
    apart_ = new_table("difference, 95 % interval over cases", ("score",), heads)
    for figure in FIGURES:
        apart_.add_row(figure, *(as_text(pair[figure]) for pair in pairs.values()))
    console.print(apart_)
    if "per_class" in content:
        table = new_table("Dice by class", ("class",), content["mean"])
        for name, arms in content["per_class"].items():
            table.add_row(name, *(f"{value:.4f}" for value in arms.values()))
        console.print(table)
    for note in content["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, markup=False)


def _own(model: HiDiff) -> dict[str, Any] | None:
    """The card's scores of prior and refined mask, with what they were measured on."""
    scores = model.card.scores
    if scores.get("split") != "test" or "mean" not in scores:
        return None
    kept = {key: scores.get(key) for key in ("dataset", "split", "n", "surface", "settings")}
    arms = {arm: scores["mean"][arm] for arm in (PRIOR, REFINED) if arm in scores["mean"]}
    return kept | {"mean": {arm: {f: row.get(f) for f in FIGURES} for arm, row in arms.items()}}


def _mean_dice(scored: Sequence[Scored], name: str, arm: str) -> float:
    return float(np.mean([case.arms[arm].per_class[name]["dice"] for case in scored]))


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
