"""The scores of a model as one JSON object, and the same as tables for people."""

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from rich.console import Console

from napari_hidiff.inference.card import versions
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Dataset

from .metrics import LESS_IS_BETTER, METRICS, paired_bootstrap
from .output import (
    Content,
    Table,
    figure,
    interval,
    numbers,
    plain,
    print_line,
    print_notes,
)
from .scoring import DAMAGED, MM, PRIOR, REFINED, REPAIRED, CaseScores, Evaluation, set_of


def report(
    result: Evaluation, dataset: Dataset, split: str, model: HiDiff, name: str, command: str
) -> Content:
    """The whole evaluation as plain data that :func:`json.dumps` takes; no NaN in it.

    ``difference`` is refined minus prior per metric, with the 95 % interval of a paired bootstrap
    over images (seed 0); ``difference_to`` the same against every other arm that was asked for.
    ``empty_masks``: how many class masks were empty, by arm (mean over seeds) and in the truth.
    ``per_class``, in each image and in the mean, is there for several classes or any region;
    ``by_set`` for cases whose ids begin with the name of a set and a slash.
    """
    arms = result.arms
    others = [arm for arm in arms if arm not in (PRIOR, REFINED, DAMAGED, REPAIRED)]
    several = len(dataset.classes) > 2 or bool(dataset.regions)
    content: Content = {
        "dataset": dataset.name,
        "split": split,
        "model": name,
        "seeds": list(result.seeds),
        "n": len(result.images),
        "command": command,
        "versions": versions(),
        "hardware": hardware(model.device),
        "engine": sorted(result.engines),
        "settings": result.settings,
        "surface": {"unit": _unit(result), "tolerance": result.tolerance},
        "images": [_row(image, several) for image in result.images],
        "mean": _means(result.images),
        "difference": _differences(result, REFINED, PRIOR),
        "empty_masks": {"truth": sum(image.empty_truth for image in result.images)}
        | {arm: sum(image.arms[arm].empty for image in result.images) for arm in arms},
        "seconds": {
            arm: _mean(image.arms[arm].seconds for image in result.images)
            for arm in arms
            if arm in (REFINED, REPAIRED, *others)
        },
    }
    if others:
        content["difference_to"] = {arm: _differences(result, REFINED, arm) for arm in others}
    if DAMAGED in arms:
        content["damage"] = _repair(result)
    if several:
        names = result.images[0].arms[PRIOR].per_class
        content["per_class"] = {name: _means(result.images, name) for name in names}
    if sets := _by_set(result.images):
        content["by_set"] = sets
    if result.skipped:
        content["skipped"] = [case._asdict() for case in result.skipped]
    content["notes"] = [*dataset.notes, *_notes(result, dataset, split, model)]
    return plain(content)


def hardware(device: torch.device) -> Content:
    """What it ran on: the torch device and its name, and the processor."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": str(device),
        "gpu": name,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _row(image: CaseScores, several: bool) -> Content:
    """One case: its scores by arm and, where there are several classes, by class and arm."""
    row: Content = {"id": image.id}
    row |= {arm: scores.mean for arm, scores in image.arms.items()}
    if several:
        names = next(iter(image.arms.values())).per_class
        row["per_class"] = {
            name: {arm: scores.per_class[name] for arm, scores in image.arms.items()}
            for name in names
        }
    return row


def _means(images: Sequence[CaseScores], part: str | None = None) -> dict[str, dict[str, float]]:
    """Mean scores over cases by arm, of one class or region if it is named."""

    def scores(image: CaseScores, arm: str) -> dict[str, float]:
        return image.arms[arm].mean if part is None else image.arms[arm].per_class[part]

    return {
        arm: {m: _mean(scores(image, arm)[m] for image in images) for m in METRICS}
        for arm in images[0].arms
    }


def _by_set(images: Sequence[CaseScores]) -> Content:
    """Number and mean of each set; nothing where ids name no set."""
    sets: dict[str, list[CaseScores]] = {}
    for image in images:
        if name := set_of(image.id):
            sets.setdefault(name, []).append(image)
    return {name: {"n": len(rows), "mean": _means(rows)} for name, rows in sets.items()}


def _unit(result: Evaluation) -> str:
    """Of distances and tolerance: mm or pixels, or both where only some cases say their spacing."""
    return " or ".join(sorted({image.unit for image in result.images}))


def _differences(result: Evaluation, arm: str, other: str) -> dict[str, dict[str, float]]:
    return {
        m: paired_bootstrap(result.values(arm, m) - result.values(other, m))._asdict()
        for m in METRICS
    }


def _repair(result: Evaluation) -> Content:
    """Dice lost to the damage and regained from it, and the regained share of the means."""
    prior, damaged, repaired = (result.values(arm, "dice") for arm in (PRIOR, DAMAGED, REPAIRED))
    lost, regained = float(np.mean(prior - damaged)), float(np.mean(repaired - damaged))
    return {
        "seed": 0,
        "lost": paired_bootstrap(prior - damaged)._asdict(),
        "regained": paired_bootstrap(repaired - damaged)._asdict(),
        "share": regained / lost if lost > 0 else math.nan,
    }


def _notes(result: Evaluation, dataset: Dataset, split: str, model: HiDiff) -> list[str]:
    """What a reader of the scores has to know: mixed units, and images that the model has met."""
    notes = []
    without = sum(image.unit != MM for image in result.images)
    if 0 < without < len(result.images):
        notes.append(f"{without} images have no spacing: their distances are in pixels")
    return notes + met_before({image.id for image in result.images}, dataset, split, model)


def met_before(ids: set[str], dataset: Dataset, split: str, model: HiDiff) -> list[str]:
    """A line for each use that training made of these cases, by the card's ids, else by the split.

    Nothing for a model of another data set.
    """
    card = model.card
    if (card.dataset, card.attribution) != (dataset.name, dataset.attribution):
        return []
    learned = card.training.get("cases", {split: ids})
    return [
        f"the model {what} {len(met)} of these images: no score for new ones"
        for use, what in (("train", "was trained on"), ("val", "was chosen on"))
        if (met := ids.intersection(learned.get(use, ())))
    ]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


FEWEST = 5
"""Images from which on an interval is printed: of fewer it says next to nothing."""
INTERVAL = "difference, 95 % interval over images"
MOST_ROWS = 40
"""More cases than these are not listed one by one; the JSON object has them all."""


def print_report(content: Content, out: Console) -> None:
    """The same content for people: Dice by image, every score in the mean, what differs."""
    print_line(_title(content), out)
    _print_images(content, out)
    groups = {"mean": content["mean"]} | content.get("per_class", {})
    _print_means("mean over images", "class", groups, out)
    if sets := content.get("by_set"):
        named = {f"{name} (n = {part['n']})": part["mean"] for name, part in sets.items()}
        _print_means("mean over the images of each set", "set", named, out)
    unit, tolerance = content["surface"]["unit"], content["surface"]["tolerance"]
    print_line(f"hd95 in {unit}; nsd at {tolerance:g} {unit}", out)
    pairs = {PRIOR: content["difference"]} | content.get("difference_to", {})
    few = content["n"] < FEWEST
    heads = ["score", *(f"refined - {arm}" for arm in pairs)]
    rows = [
        [
            f"{metric} {'↓' if metric in LESS_IS_BETTER else '↑'}",
            *(interval(pair[metric] | ({"low": None} if few else {})) for pair in pairs.values()),
        ]
        for metric in METRICS
    ]
    title = f"difference; from {FEWEST} images on with an interval" if few else INTERVAL
    out.print(Table(heads, rows).rich(f"{title}; ↑ more is better, ↓ less"))
    if "damage" in content:
        print_line(_damage_line(content["damage"]), out)
    counts = ", ".join(f"{arm} {count:g}" for arm, count in content["empty_masks"].items())
    print_line(f"empty masks: {counts}", out)
    for case in content.get("skipped", ()):
        print_line(f"skipped {case['id']}: {case['why']}", out, "yellow")
    print_notes(content, out)


def _print_images(content: Content, out: Console) -> None:
    arms, images = list(content["mean"]), content["images"]
    if len(images) > MOST_ROWS:
        print_line(f"{len(images)} images: --json and --output list the scores of each", out)
        return
    rows = [[image["id"], *(figure(image[arm]["dice"]) for arm in arms)] for image in images]
    out.print(Table(["image", *arms], rows).rich("Dice"))


def _print_means(
    title: str, what: str, groups: Mapping[str, Mapping[str, dict[str, float]]], out: Console
) -> None:
    """A row for every arm of every group; the group is named once, a single one not at all."""
    rows = [
        [name, arm, *(figure(scores[metric]) for metric in METRICS)]
        for name, arms in groups.items()
        for arm, scores in arms.items()
    ]
    heads = [what, "mask", *METRICS]
    if len(groups) == 1:
        out.print(Table(heads[1:], [row[1:] for row in rows]).rich(title))
    else:
        out.print(Table(heads, rows, words=2).rich(title))


def _title(content: Content) -> str:
    settings = content["settings"]
    how = settings["sampler"]
    if how != "one-step":
        how += f", {settings['steps']} steps, mean of {settings['samples']} samples"
    return (
        f"{content['model']} on {content['dataset']} ({content['split']}, n = {content['n']}): "
        f"{how}; seeds {numbers(content['seeds'])}; {content['hardware']['device']}"
    )


def _damage_line(damage: Content) -> str:
    share = "-" if damage["share"] is None else f"{damage['share']:.0%}"
    return (
        f"damaged priors: Dice lost {damage['lost']['mean']:.4f}, "
        f"regained {damage['regained']['mean']:.4f}, that is {share}"
    )
