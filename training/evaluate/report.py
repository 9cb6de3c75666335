"""An evaluation as one JSON object."""

import math
import os
import platform
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.versions import versions
from napari_hidiff.training.datasets import Dataset

from .arms import DAMAGED, PRIOR, REFINED, REPAIRED
from .bootstrap import paired_bootstrap
from .metrics import METRICS
from .scoring import MM, CaseScores, Evaluation


def report(
    result: Evaluation, dataset: Dataset, split: str, model: HiDiff, name: str, command: str
) -> dict[str, Any]:
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


def _row(image: CaseScores, several: bool) -> dict[str, Any]:
    """One case: its scores by arm and, where there are several classes, by class and arm."""
    row: dict[str, Any] = {"id": image.id}
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


def _by_set(images: Sequence[CaseScores]) -> dict[str, Any]:
    """Number and mean of each set, the part of an id before its first slash; nothing without."""
    sets: dict[str, list[CaseScores]] = {}
    for image in images:
        name, slash, _ = image.id.partition("/")
        if slash:
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


def plain(value: Any) -> Any:
    """Floats to 6 decimals, so that equal means stay equal; NaN becomes None, as JSON has none."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6) + 0.0  # + 0.0: no minus zero
    return value
