"""What the images of a model look like, in a few numbers, and whether an image looks otherwise.

The numbers do not depend on bit depth, gain and offset, as the usual intensity rule does not; only
for a window of fixed values (CT) the values themselves are compared. They are kept on a model's
card, and a difference is a reason to look twice, never to refuse.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from napari_hidiff.inference.card import Card

PIXELS = 2**16
"""An image is looked at through about so many of its pixels."""
PLANES = 24
"""Planes of a volume that are looked at, evenly spaced."""
FAR = 0.12
"""How far beyond those of all training images a number may lie; all of them lie in 0..1."""
SIZES = 2.5
"""How many times longer or shorter than those of all training images a side may be."""
FEW = 0.95
"""Share of an image in its two most frequent values that makes it look like a mask."""

Features = dict[str, float]


def features(image: np.ndarray, channels: Sequence[str]) -> Features:
    """Numbers of an image [H, W, C]: where its quartiles lie between its 1st and 99th percentile,
    how alike neighbouring channels are, and the share of its two most frequent values.

    A channel of one value has quartiles at -1.
    """
    step = max(1, round((image.shape[0] * image.shape[1] / PIXELS) ** 0.5))
    seen = image[::step, ::step].reshape(-1, image.shape[2]).astype(np.float64)
    found: Features = {}
    for number, name in enumerate(channels):
        values = seen[:, number]
        low, *quartiles, high = np.percentile(values, (1, 25, 50, 75, 99))
        for part, at in zip((25, 50, 75), quartiles, strict=True):
            found[f"{name} {part} %"] = float((at - low) / (high - low)) if high > low else -1.0
        counts = np.sort(np.unique(values, return_counts=True)[1])
        found[f"{name} two values"] = float(counts[-2:].sum() / values.size)
        if number:
            found[f"{channels[number - 1]} and {name}"] = _alike(seen[:, number - 1], values)
    return found


def image_statistics(images: Iterable[np.ndarray], channels: Sequence[str]) -> dict[str, Any]:
    """What goes on a card: the range of every number over the training images [..., H, W, C].

    Returns ``n``; ``size``, the lowest and highest height and width; ``values``, the lowest 1st and
    highest 99th percentile per channel; ``features``, lowest and highest value of each.
    """
    return merged(_looks_of(image, channels) for image in images)


def merged(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The looks of several images, from those of each; without those that have none."""
    found = [part for part in parts if part]
    if not found:
        return {}

    def around(pairs: Iterable[Sequence[Any]]) -> list[Any]:
        lows, highs = zip(*pairs, strict=True)
        return [np.min(lows, 0).tolist(), np.max(highs, 0).tolist()]

    return {
        "n": sum(part["n"] for part in found),
        "size": around(part["size"] for part in found),
        "values": around(part["values"] for part in found),
        "features": {
            name: around(part["features"][name] for part in found) for name in found[0]["features"]
        },
    }


def _looks_of(image: np.ndarray, channels: Sequence[str]) -> dict[str, Any]:
    seen = [plane for plane in planes(image) if plane.max() > plane.min()]
    if not seen:
        return {}
    rows = [features(plane, channels) for plane in seen]
    flat = [plane.reshape(-1, plane.shape[2]) for plane in seen]
    ends = np.array([np.percentile(values, (1, 99), axis=0) for values in flat])
    size = list(seen[0].shape[:2])
    return {
        "n": 1,
        "size": [size, size],
        "values": [ends[:, 0].min(0).round(4).tolist(), ends[:, 1].max(0).round(4).tolist()],
        "features": {
            name: [round(min(row[name] for row in rows), 4), round(max(r[name] for r in rows), 4)]
            for name in rows[0]
        },
    }


def planes(image: np.ndarray) -> Iterator[np.ndarray]:
    """A picture [H, W, C] itself, of a volume [D, H, W, C] some planes."""
    if image.ndim == 3:
        yield image
        return
    for at in np.unique(np.linspace(0, len(image) - 1, PLANES).round().astype(int)):
        yield image[at]


def ood_reasons(
    image: np.ndarray, channels: Sequence[str], looks: dict[str, Any], windowed: bool = False
) -> list[str]:
    """Why an image [H, W] or [H, W, C] does not look like those of a model; empty if it does.

    looks : from the card, and empty on cards that have none: then only an image of one value, or
    one that looks like a mask, is doubted. windowed : the model reads values as they are.
    """
    image = image[..., None] if image.ndim == 2 else image[..., : len(channels)]
    if image.shape[2] != len(channels):
        return []  # refused elsewhere
    found = features(image, channels)
    known: dict[str, Sequence[float]] = looks.get("features", {})
    constant = [name for name in channels if found[f"{name} 50 %"] < 0]
    if len(constant) == len(channels):
        return [_sparse(image)]
    usual = max((known.get(f"{name} two values", (0, 0))[1] for name in channels), default=0.0)
    if min(found[f"{name} two values"] for name in channels) > max(FEW, usual + FAR):
        return [_sparse(image)]
    reasons = _size(image.shape[:2], looks)
    if windowed and "values" in looks:
        reasons += _values(image, looks["values"])
    if not known:
        return reasons
    if constant:
        return [*reasons, f"its {' and '.join(constant)} channel has one value"]
    alike = [name for name in known if " and " in name]
    if far := [name for name in alike if _far(found[name], known[name]) > 0]:
        same = all(found[name] > 0.99 for name in far)
        return [*reasons, "its channels are all alike: grey?" if same else "its colours differ"]
    if windowed:
        return reasons
    worst = _tones(found, known, channels)
    if worst > 0:
        turned = features(-image.astype(np.float64), channels)
        inverted = _tones(turned, known, channels) < worst / 2
        reasons.append("bright and dark seem exchanged" if inverted else "its brightness differs")
    return reasons


def fitting(candidates: Mapping[str, tuple[Card, np.ndarray]]) -> list[str]:
    """Names of the models whose training images an image looks like, the most alike first.

    candidates : by name the card, and the image [H, W] or [H, W, C] as that model reads it. A card
    that does not say what its images look like comes last.
    """
    found = {}
    for name, (card, image) in candidates.items():
        windowed = card.intensity.get("rule") == "window"
        if not ood_reasons(image, card.channels, card.looks, windowed):
            found[name] = _beyond(image, card)
    return sorted(found, key=found.__getitem__)


def _beyond(image: np.ndarray, card: Card) -> float:
    """How far the numbers of an image lie beyond those of the training images, in sum."""
    known = card.looks.get("features")
    if not known:
        return float("inf")
    image = image[..., None] if image.ndim == 2 else image[..., : len(card.channels)]
    numbers = features(image, card.channels)
    return sum(max(0.0, _far(numbers[name], known[name]) + FAR) for name in known)


def _tones(found: Features, known: dict[str, Sequence[float]], channels: Sequence[str]) -> float:
    """How far the quartiles lie off in at least half of the channels; one may be saturated."""
    each = []
    for channel in channels:
        names = [f"{channel} {part} %" for part in (25, 50, 75)]
        each.append(max(_far(found[name], known[name]) for name in names))
    return sorted(each)[len(each) // 2]


def _far(value: float, known: Sequence[float]) -> float:
    """How far a number lies beyond what is tolerated, 0 or less within it."""
    return max(known[0] - value, value - known[1]) - FAR


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the grey values of two channels, scaled by their common range, that are the same."""
    top, bottom = max(one.max(), other.max()), min(one.min(), other.min())
    if top <= bottom:
        return 1.0
    return float(1 - np.abs(one - other).mean() / (top - bottom))


def _sparse(image: np.ndarray) -> str:
    count = len(np.unique(image.reshape(-1, image.shape[2]), axis=0))
    if count == 1:
        return "it has the same value everywhere"
    return f"nearly all of it has one of two values ({count} in all): a mask?"


def _size(size: tuple[int, ...], looks: dict[str, Any]) -> list[str]:
    if "size" not in looks:
        return []
    low, high = looks["size"]
    if max(size) <= SIZES * max(high) and min(size) * SIZES >= min(low):
        return []
    trained = " x ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(low, high, strict=True))
    return [f"it has {size[0]} x {size[1]} pixels, training images {trained}"]


def _values(image: np.ndarray, known: Sequence[Sequence[float]]) -> list[str]:
    low, high = np.percentile(image, (1, 99))
    bottom, top = min(known[0]), max(known[1])
    # A part of the usual range is usual; most of it missing, or far more, is another unit.
    if (
        high - low > 0.1 * (top - bottom)
        and low < bottom + 0.5 * (top - bottom)
        and high <= 3 * top
    ):
        return []
    return [f"its values are {low:g} to {high:g}, those of training images {bottom:g} to {top:g}"]
