"""Is an image unlike the training images? Image statistics, and the reasons for a warning.

The statistics do not depend on bit depth, gain and offset, as the usual intensity rule does not;
only for a window of fixed values (CT) the values themselves are compared. A model's card stores
them. A difference is a reason to look twice, never to refuse.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from napari_hidiff.inference.card import Card

PIXELS = 2**16
"""Approximate number of pixels sampled from an image."""
PLANES = 24
"""Number of planes sampled from a volume, evenly spaced."""
FAR = 0.12
"""Tolerance of a feature beyond the range of the training images; features lie in 0..1."""
SIZES = 2.5
"""Tolerated factor of an image side beyond the range of the training images."""
MANY = 100
"""Number of pictures from which their features are also judged together."""
USUAL = 0.995
"""Share of the training pictures that lie within the limit of the joint distance."""
BLUR = 0.02
"""Deviation that is added to every feature, so that the joint distance is no finer than that."""
FEW = 0.95
"""Share of the two most frequent values from which an image looks like a mask."""

Features = dict[str, float]


def features(image: np.ndarray, channels: Sequence[str]) -> Features:
    """Features of an image [H, W, C]: its quartiles relative to its 1st and 99th percentile, the
    similarity of neighbouring channels, and the share of its two most frequent values.

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
    """The range of every feature over the training images [..., H, W, C], for a card.

    Returns ``n``; ``size``, the lowest and highest height and width; ``values``, the lowest 1st and
    highest 99th percentile per channel; ``features``, lowest and highest value of each; of many
    pictures also ``joint`` (:func:`_joint`).
    """
    return merged(_looks_of(image, channels) for image in images)


def merged(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The joint statistics of several images; empty ones are skipped."""
    filled = [part for part in parts if part]
    if not filled:
        return {}

    def around(pairs: Iterable[Sequence[Any]]) -> list[Any]:
        lows, highs = zip(*pairs, strict=True)
        return [np.min(lows, 0).tolist(), np.max(highs, 0).tolist()]

    return _joint(filled) | {
        "n": sum(part["n"] for part in filled),
        "size": around(part["size"] for part in filled),
        "values": around(part["values"] for part in filled),
        "features": {
            name: around(part["features"][name] for part in filled)
            for name in filled[0]["features"]
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


def _joint(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """``joint``: mean and covariance of the features of single pictures, and the Mahalanobis
    distance within which nearly all of them lie; nothing for fewer than :data:`MANY`.

    Many pictures have wide ranges, which leave room for pictures of another kind.
    """
    if len(parts) < MANY or any(low < high for p in parts for low, high in p["features"].values()):
        return {}
    rows = np.array([[low for low, _ in part["features"].values()] for part in parts])
    mean = rows.mean(0).round(6)
    covariance = (np.cov(rows.T) + np.eye(rows.shape[1]) * BLUR**2).round(6)
    limit = np.quantile(_mahalanobis(rows, mean, covariance), USUAL)
    joint = {"mean": mean.tolist(), "covariance": covariance.tolist(), "limit": float(limit)}
    return {"joint": joint}


def _mahalanobis(rows: np.ndarray, mean: Any, covariance: Any) -> np.ndarray:
    away = rows - np.asarray(mean)
    nearer = np.linalg.solve(np.asarray(covariance), away.T).T
    distances: np.ndarray = np.sqrt(np.sum(away * nearer, -1))
    return distances


def planes(image: np.ndarray) -> Iterator[np.ndarray]:
    """A picture [H, W, C] itself, or some planes of a volume [D, H, W, C]."""
    if image.ndim == 3:
        yield image
        return
    for at in np.unique(np.linspace(0, len(image) - 1, PLANES).round().astype(int)):
        yield image[at]


def ood_reasons(
    image: np.ndarray,
    channels: Sequence[str],
    looks: dict[str, Any],
    windowed: bool = False,
    scale: float = 1.0,
) -> list[str]:
    """Reasons why an image [H, W] or [H, W, C] is unlike the training images; empty if it is not.

    looks : from the card; empty on older cards, and then only an image of one value, or one that
    looks like a mask, gets a reason. windowed : the model normalises by a window of values.
    scale : by which the image is resampled for the model.
    """
    image = image[..., None] if image.ndim == 2 else image[..., : len(channels)]
    if image.shape[2] != len(channels):
        return []  # an error elsewhere
    found = features(image, channels)
    known: dict[str, Sequence[float]] = looks.get("features", {})
    constant = [name for name in channels if found[f"{name} 50 %"] < 0]
    if len(constant) == len(channels):
        return [_sparse(image)]
    usual = max((known.get(f"{name} two values", (0, 0))[1] for name in channels), default=0.0)
    if min(found[f"{name} two values"] for name in channels) > max(FEW, usual + FAR):
        return [_sparse(image)]
    # What is enlarged has no more detail than before.
    reasons = _size([round(side * min(scale, 1.0)) for side in image.shape[:2]], looks)
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
    elif "joint" in looks:
        joint, row = looks["joint"], np.array([[found[name] for name in known]])
        if _mahalanobis(row, joint["mean"], joint["covariance"])[0] > joint["limit"]:
            reasons.append("its tones and colours differ")
    return reasons


def fitting(candidates: Mapping[str, tuple[Card, np.ndarray]]) -> list[str]:
    """Names of the models whose training images resemble an image, the most similar first.

    candidates : by name the card, and the image [H, W] or [H, W, C] as that model's input. A card
    without statistics comes last.
    """
    distances = {}
    for name, (card, image) in candidates.items():
        windowed = card.intensity.get("rule") == "window"
        scale = card.scale(image.shape[:2])
        if not ood_reasons(image, card.channels, card.looks, windowed, scale):
            distances[name] = _beyond(image, card)
    return sorted(distances, key=distances.__getitem__)


def _beyond(image: np.ndarray, card: Card) -> float:
    """Sum of the distances of an image's features from the ranges of the training images."""
    known = card.looks.get("features")
    if not known:
        return float("inf")
    image = image[..., None] if image.ndim == 2 else image[..., : len(card.channels)]
    numbers = features(image, card.channels)
    return sum(max(0.0, _far(numbers[name], known[name]) + FAR) for name in known)


def _tones(found: Features, known: dict[str, Sequence[float]], channels: Sequence[str]) -> float:
    """Distance of the quartiles in at least half of the channels; one may be saturated."""
    each = []
    for channel in channels:
        names = [f"{channel} {part} %" for part in (25, 50, 75)]
        each.append(max(_far(found[name], known[name]) for name in names))
    return sorted(each)[len(each) // 2]


def _far(value: float, limits: Sequence[float]) -> float:
    """Distance of a number from its tolerated range; 0 or less within it."""
    return max(limits[0] - value, value - limits[1]) - FAR


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Share of equal grey values of two channels, scaled by their common range."""
    top, bottom = max(one.max(), other.max()), min(one.min(), other.min())
    if top <= bottom:
        return 1.0
    return float(1 - np.abs(one - other).mean() / (top - bottom))


def _sparse(image: np.ndarray) -> str:
    count = len(np.unique(image.reshape(-1, image.shape[2]), axis=0))
    if count == 1:
        return "it has the same value everywhere"
    return f"nearly all of it has one of two values ({count} in all): a mask?"


def _size(size: Sequence[int], looks: dict[str, Any]) -> list[str]:
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
    # Part of the usual range is normal; most of it missing, or far more, is another unit.
    if (
        high - low > 0.1 * (top - bottom)
        and low < bottom + 0.5 * (top - bottom)
        and high <= 3 * top
    ):
        return []
    return [f"its values are {low:g} to {high:g}, those of training images {bottom:g} to {top:g}"]
