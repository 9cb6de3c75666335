"""The threshold that gives the best masks of unseen cases, for a segmentor and for a refiner.

Losses and crops make networks see too much or too little of a structure. A search takes the
threshold of the probability with the highest mean Dice of validation cases; the card keeps it, and
the network shifts its logits by it, so that masks are made at 1/2 everywhere.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import mask_of, mean_dice
from napari_hidiff.networks.refiner import probabilities
from napari_hidiff.networks.segmentor import Segmentor
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.validation import planes, spread

TRIED = tuple(round(0.05 * step, 2) for step in range(3, 19))
"""Thresholds that the search compares, .15 to .9."""

Predict = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""An image float32 [C, H, W] and its prior [K, H, W], if it has one, -> probability [K, H, W]."""


@dataclass(frozen=True)
class Threshold:
    """A threshold and the mean Dice of cases at it and, beside it, at 1/2."""

    threshold: float
    dice: float
    dice_at_half: float


def mask_at(probability: np.ndarray, threshold: float, axis: int = -3) -> np.ndarray:
    """The mask uint8 [..., H, W] of probabilities [..., K, H, W] at a threshold in ]0, 1[: with
    K > 1 the background needs odds of (1 - threshold) : threshold (:func:`.segmentor.balanced`)."""
    if probability.shape[axis] == 1:
        return np.asarray(probability.take(0, axis) >= threshold, np.uint8)
    background, rest = np.split(probability, [1], axis)
    return mask_of(np.concatenate([background * threshold / (1 - threshold), rest], axis), axis)


def best_threshold(found: Iterable[tuple[np.ndarray, np.ndarray]], labels: int) -> Threshold:
    """The threshold of :data:`TRIED` with the highest mean Dice; of equal ones that nearest 1/2.

    found : of every case its probability float [D, K, H, W] and its truth [D, H, W].
    labels : number of labels, background included.
    """
    rows = [[mean_dice(mask_at(p, t), truth, labels) for t in TRIED] for p, truth in found]
    means = np.mean(rows, 0)
    at = max(range(len(TRIED)), key=lambda n: (means[n], -abs(TRIED[n] - 0.5)))
    return Threshold(TRIED[at], float(means[at]), float(means[TRIED.index(0.5)]))


def searched(predict: Predict, cases: Sequence[Stored], most: int, labels: int) -> Threshold | None:
    """The best threshold of at most ``most`` cases, scored as in validation; None without cases."""

    def found(case: Stored) -> tuple[np.ndarray, np.ndarray]:
        rows = [(predict(image, given), truth) for image, truth, given in planes(case)]
        probabilities, truths = zip(*rows, strict=True)
        return np.stack(probabilities), np.stack(truths)

    if not cases:
        return None
    return best_threshold((found(case) for case in spread(cases, most)), labels)


def with_threshold(card: Card, part: str, found: Threshold) -> Card:
    """The card with a threshold of its ``segmentor`` or ``refiner``, and the scores behind it."""
    if part == "segmentor":
        card = replace(card, segmentor=card.segmentor | {"threshold": found.threshold})
    else:
        card = replace(card, refiner=card.refiner | {"threshold": found.threshold})
    known: dict[str, Any] = card.training.get("thresholds", {})
    return replace(card, training=card.training | {"thresholds": known | {part: asdict(found)}})


def first_mask(segmentor: Segmentor) -> Predict:
    """A segmentor's probability as a function of the image."""
    like = next(segmentor.parameters())

    def predict(image: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        with torch.inference_mode():
            logits, _ = segmentor(torch.from_numpy(image)[None].to(like))
        return probabilities(logits.float())[0].cpu().numpy()

    return predict


def refined(model: HiDiff) -> Predict:
    """The model's refinement with its card's defaults, as a function of image and prior."""

    def predict(image: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        picture = image.transpose(1, 2, 0)
        return model.refine(picture, given, normalised=True, scale=1).probability

    return predict
