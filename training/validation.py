"""What is learned from validation cases: scores during training, the best thresholds, and the
calibration report that every run writes.

Losses and crops make networks see too much or too little of a structure. A search takes the
threshold of the probability with the highest mean Dice of validation cases; the card keeps it, and
the network shifts its logits by it, so that masks are made at 1/2 everywhere.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import EPSILON, mask_of, mean_dice
from napari_hidiff.networks.refiner import probabilities
from napari_hidiff.networks.segmentor import Segmentor
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.losses import one_hot, uniform
from napari_hidiff.training.simulated_annotator import kind_for, next_stroke

SAMPLES = 2
"""Samples of a refinement while training: fewer than the card's default, for speed."""
STROKES = 3
"""Of the simulated annotator."""
PLANES = 4
"""Planes scored per volume, evenly spaced among those with foreground."""
TRIED = tuple(round(0.05 * step, 2) for step in range(3, 19))
"""Thresholds that the search compares, .15 to .9."""

Predict = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""An image float32 [C, H, W] (:meth:`Stored.plane`) and its prior [K, H, W], if it has one, ->
probability [K, H, W]."""


def validate(
    model: HiDiff,
    cases: Sequence[Stored],
    most: int,
    seen: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, float], list[np.ndarray]]:
    """Mean Dice of at most ``most`` cases: ``prior``, ``one-step`` pass, ``refined`` (the default
    sampler), and after strokes of a simulated annotator on the prior, ``painted`` alone and
    ``corrected`` by a one-step pass after each.

    Pictures are scored whole, volumes on a few planes together. The prior is that of the case, if
    it has one (from another source), else the segmentor's. The second value is a row of pictures
    of the first case: truth, prior and refined, [H, W]. seen : called before each case with how
    many are done, and how many there are.
    """
    names = ("prior", "one-step", "refined", "painted", "corrected")
    scores: dict[str, list[float]] = {name: [] for name in names}
    pictures: list[np.ndarray] = []
    looked_at = list(spread(cases, most))
    for number, case in enumerate(looked_at):
        seen(number, len(looked_at))
        masks: dict[str, list[np.ndarray]] = {name: [] for name in ("truth", *names)}
        for plane, truth, given in planes(case):
            image = plane.transpose(1, 2, 0)
            one = model.refine(image, given, sampler="one-step", normalised=True, scale=1)
            several = model.refine(image, given, samples=SAMPLES, normalised=True, scale=1)
            runs = {
                "prior": model.prior(image, True, 1) if given is None else given,
                "one-step": one.probability,
                "refined": several.probability,
            }
            masks["truth"].append(truth)
            for name, probability in runs.items():
                masks[name].append(model.mask_of(probability))
            painted, corrected = annotated(model, image, truth, runs["prior"])
            masks["painted"].append(painted)
            masks["corrected"].append(corrected)
        stacked = {name: np.stack(rows) for name, rows in masks.items()}
        for name, values in scores.items():
            values.append(mean_dice(stacked[name], stacked["truth"], model.labels))
        if not pictures:
            top = model.labels - 1
            pictures = [masks[name][0] / top for name in ("truth", "prior", "refined")]
    return {name: float(np.mean(values)) for name, values in scores.items()}, pictures


def annotated(
    model: HiDiff, image: np.ndarray, truth: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Masks [H, W] after ``STROKES`` strokes on the prior's mask: painted alone, and refined by
    a one-step pass after each; each annotator corrects its own mask."""
    kind = kind_for(truth)
    masks = []
    for refining in (False, True):
        mask, fixed = model.mask_of(prior).astype(np.int64), np.full(truth.shape, -1)
        for _ in range(STROKES):
            stroke = next_stroke(mask, truth, kind)
            if stroke is None:
                break
            fixed = np.where(stroke.where, truth, fixed)
            mask = np.where(stroke.where, truth, mask)
            if refining:
                refined = model.refine(
                    image, prior, fixed, sampler="one-step", normalised=True, scale=1
                )
                mask = refined.mask.astype(np.int64)
        masks.append(mask)
    return masks[0], masks[1]


def spread(cases: Sequence[Stored], most: int) -> list[Stored]:
    """At most ``most`` cases, evenly spaced, always the same."""
    at = np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)
    return [cases[i] for i in at]


def planes(case: Stored) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Planes to look at: the image as a network sees it, truth uint8 [H, W], prior [K, H, W] if
    any."""
    among = case.foreground or tuple(range(case.shape[0]))
    at = np.linspace(0, len(among) - 1, min(PLANES, len(among))).round().astype(int)
    truth, prior = case.truth, case.prior
    for plane in (among[i] for i in at):
        given = None if prior is None else prior[plane].astype(np.float32)
        yield case.plane(plane), np.asarray(truth[plane]), given


def calibration(model: HiDiff, cases: Sequence[Stored], most: int) -> list[dict[str, Any]]:
    """Predicted against true flip rate for every t, over whole planes; priors as for validation.

    A row holds t, the mean of eps_hat = |y_t - y0_hat|, the mean of eps = y_t XOR y0, and both
    among the pixels that the network takes for flips (eps_hat >= .5), as shares of all pixels.
    Real-valued states have no flips: then there are no rows.
    """
    if not model.process.binary:
        return []
    sums, count = np.zeros((model.process.steps + 1, 4)), 0
    with torch.inference_mode():
        for case in spread(cases, most):
            for image, truth, given in planes(case):
                sums += _flips(model, image, truth, given, count)
                count += 1
    names = ("predicted", "true", "predicted_sure", "true_sure")
    return [
        {"t": t} | dict(zip(names, (sums[t] / count).tolist(), strict=True))
        for t in range(1, model.process.steps + 1)
    ]


def _flips(
    model: HiDiff, image: np.ndarray, truth: np.ndarray, given: np.ndarray | None, number: int
) -> np.ndarray:
    """The four means of one plane by t, float64 [T + 1, 4]."""
    x = torch.from_numpy(image)[None].to(model.device)
    logits, features = model.segmentor(x)
    prior = probabilities(logits) if given is None else torch.from_numpy(given)[None].to(x)
    prior = prior.clamp(EPSILON, 1 - EPSILON)
    labels = torch.from_numpy(truth.astype(np.int64))[None].to(model.device)
    y0, free = one_hot(labels, model.classes), torch.full_like(labels, -1)
    condition = model.refiner.condition(x, prior, free, features)
    which = torch.tensor([number], device=model.device)
    rows = np.zeros((model.process.steps + 1, 4))
    for t in range(1, model.process.steps + 1):
        y_t = model.process.noisy(y0, prior, t, uniform(which, t, y0.shape[1:])).to(prior)
        y0_hat = probabilities(model.refiner(y_t, t, condition))
        predicted, true = (y_t - y0_hat).abs(), (y_t - y0).abs()
        sure = predicted >= 0.5
        parts = (predicted, true, predicted * sure, true * sure)
        rows[t] = [float(part.float().mean()) for part in parts]
    return rows


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


def searched(predict: Predict, cases: Sequence[Stored], most: int, labels: int) -> Threshold:
    """The best threshold of at most ``most`` of the cases (at least one), scored as in
    validation."""

    def found(case: Stored) -> tuple[np.ndarray, np.ndarray]:
        rows = [(predict(image, given), truth) for image, truth, given in planes(case)]
        probabilities, truths = zip(*rows, strict=True)
        return np.stack(probabilities), np.stack(truths)

    return best_threshold((found(case) for case in spread(cases, most)), labels)


def with_threshold(card: Card, part: str, found: Threshold) -> Card:
    """The card with a threshold of its ``segmentor`` or ``refiner``, and the scores behind it."""
    known: dict[str, Any] = card.training.get("thresholds", {})
    changes = {
        part: getattr(card, part) | {"threshold": found.threshold},
        "training": card.training | {"thresholds": known | {part: asdict(found)}},
    }
    return replace(card, **changes)


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
