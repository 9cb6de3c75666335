"""An evaluation as one JSON object, and as tables for people."""

import math
import os
import platform
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from napari_hidiff.model import HiDiff
from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.versions import versions

from .bootstrap import Interval, paired_bootstrap
from .metrics import METRICS
from .run import DAMAGED, PRIOR, REFINED, REPAIRED, Evaluation


def report(
    result: Evaluation, dataset: Dataset, split: str, model: HiDiff, name: str, command: str
) -> dict[str, Any]:
    """The whole evaluation as plain data that :func:`json.dumps` takes; no NaN in it.

    ``difference`` is refined minus prior per metric, with the 95 % interval of a paired bootstrap
    over images (seed 0); ``difference_to`` the same against every other arm that was asked for.
    ``empty_masks``: how many class masks were empty, by arm (mean over seeds) and in the truth.
    """
    arms = result.arms
    others = [arm for arm in arms if arm not in (PRIOR, REFINED, DAMAGED, REPAIRED)]
    content: dict[str, Any] = {
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
        "images": [
            {"id": image.id} | {arm: scores.mean for arm, scores in image.arms.items()}
            for image in result.images
        ],
        "mean": {arm: {m: _mean(result.values(arm, m)) for m in METRICS} for arm in arms},
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
    if len(dataset.classes) > 2:
        content["per_class"] = _per_class(result, dataset)
    content["notes"] = [*dataset.notes, *_notes(result, dataset, split, model)]
    return _plain(content)


def hardware(device: torch.device) -> dict[str, Any]:
    """What it ran on: the torch device and its name, and the processor."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": str(device),
        "gpu": name,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _differences(result: Evaluation, arm: str, other: str) -> dict[str, dict[str, float]]:
    return {
        m: paired_bootstrap(result.values(arm, m) - result.values(other, m))._asdict()
        for m in METRICS
    }


def _repair(result: Evaluation) -> dict[str, Any]:
    """Dice lost to the damage and regained from it, and the regained share of the means."""
    prior, damaged, repaired = (result.values(arm, "dice") for arm in (PRIOR, DAMAGED, REPAIRED))
    lost, regained = float(np.mean(prior - damaged)), float(np.mean(repaired - damaged))
    return {
        "seed": 0,
        "lost": paired_bootstrap(prior - damaged)._asdict(),
        "regained": paired_bootstrap(repaired - damaged)._asdict(),
        "share": regained / lost if lost > 0 else math.nan,
    }


def _per_class(result: Evaluation, dataset: Dataset) -> dict[str, Any]:
    return {
        name: {
            arm: {
                m: _mean(image.arms[arm].per_class[label][m] for image in result.images)
                for m in METRICS
            }
            for arm in result.arms
        }
        for label, name in enumerate(dataset.classes)
        if label > 0
    }


def _notes(result: Evaluation, dataset: Dataset, split: str, model: HiDiff) -> list[str]:
    """Says it when the model has met these images: by the card's case ids, else by the split."""
    card = model.card
    if (card.dataset, card.attribution) != (dataset.name, dataset.attribution):
        return []
    ids = {image.id for image in result.images}
    learned = card.training.get("cases", {split: ids})
    notes = []
    for use, what in (("train", "was trained on"), ("val", "was chosen on")):
        if met := ids.intersection(learned.get(use, ())):
            notes.append(f"the model {what} {len(met)} of these images: no score for new ones")
    return notes


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _plain(value: Any) -> Any:
    """Floats to 6 decimals, so that equal means stay equal; NaN becomes None, as JSON has none."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6) + 0.0  # + 0.0: no minus zero
    return value


def print_report(content: dict[str, Any], console: Console) -> None:
    """The same content for people: Dice by image, every score in the mean, what differs."""
    arms = list(content["mean"])
    console.print(_title(content), soft_wrap=True)
    by_image = _table("Dice", "image", arms)
    for image in content["images"]:
        by_image.add_row(image["id"], *(f"{image[arm]['dice']:.4f}" for arm in arms))
    console.print(by_image)
    means = _table("mean over images", "", METRICS)
    for arm in arms:
        means.add_row(arm, *(f"{content['mean'][arm][m]:.4f}" for m in METRICS))
    console.print(means)
    pairs = {PRIOR: content["difference"]} | content.get("difference_to", {})
    apart = _table(
        "difference, 95 % interval over images", "", [f"refined - {arm}" for arm in pairs]
    )
    for metric in METRICS:
        apart.add_row(metric, *(_interval(pair[metric]) for pair in pairs.values()))
    console.print(apart)
    if "damage" in content:
        console.print(_damage_line(content["damage"]), soft_wrap=True)
    counts = ", ".join(f"{arm} {count:g}" for arm, count in content["empty_masks"].items())
    console.print(f"empty masks: {counts}", soft_wrap=True)
    for note in content["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)


def _table(title: str, first: str, columns: Iterable[str]) -> Table:
    table = Table(first, title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _title(content: dict[str, Any]) -> str:
    settings = content["settings"]
    how = settings["sampler"]
    if how != "one-step":
        how += f", {settings['steps']} steps, mean of {settings['samples']} samples"
    seeds = ", ".join(map(str, content["seeds"]))
    return (
        f"{content['model']} on {content['dataset']} ({content['split']}, n = {content['n']}): "
        f"{how}; seeds {seeds}; {content['hardware']['device']}"
    )


def _interval(values: dict[str, float | None]) -> str:
    interval = Interval(*(math.nan if v is None else v for v in values.values()))
    known = not math.isnan(interval.low)
    bounds = f" [{interval.low:+.4f}, {interval.high:+.4f}]" if known else ""
    return f"{interval.mean:+.4f}{bounds}"


def _damage_line(damage: dict[str, Any]) -> str:
    share = "-" if damage["share"] is None else f"{damage['share']:.0%}"
    return (
        f"damaged priors: Dice lost {damage['lost']['mean']:.4f}, "
        f"regained {damage['regained']['mean']:.4f}, that is {share}"
    )
