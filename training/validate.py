"""Scores during training, and the calibration report that every run writes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from napari_hidiff.bernoulli import bernoulli
from napari_hidiff.model import HiDiff
from napari_hidiff.network import probabilities
from napari_hidiff.refine import EPSILON
from napari_hidiff.scores import mean_dice
from napari_hidiff.training.crops import Loaded
from napari_hidiff.training.targets import one_hot

SAMPLES = 2
"""Samples of a refinement while training: fewer than the card's default, for speed."""


def validate(model: HiDiff, cases: Sequence[Loaded]) -> tuple[dict[str, float], list[np.ndarray]]:
    """Mean Dice over whole images of the prior, the one-step pass and the default sampler.

    The second value is a row of pictures of the first case: truth, prior and refined, [H, W].
    """
    scores: dict[str, list[float]] = {"prior": [], "one-step": [], "refined": []}
    pictures: list[np.ndarray] = []
    for case in cases:
        image = case.image.transpose(1, 2, 0)
        prior = model.prior(image)
        runs = {"prior": prior, "one-step": model.refine(image, sampler="one-step").probability}
        runs["refined"] = model.refine(image, samples=SAMPLES).probability
        for name, probability in runs.items():
            scores[name].append(mean_dice(model.mask_of(probability), case.truth, model.labels))
        if not pictures:
            top = model.labels - 1
            pictures = [case.truth / top]
            pictures += [model.mask_of(runs[name]) / top for name in ("prior", "refined")]
    return {name: float(np.mean(values)) for name, values in scores.items()}, pictures


def calibration(model: HiDiff, cases: Sequence[Loaded], seed: int = 0) -> list[dict[str, Any]]:
    """Predicted against true flip rate for every t, over whole images with the model's own priors.

    A row holds t, the mean of eps_hat = |y_t - y0_hat|, the mean of eps = y_t XOR y0, and both
    among the pixels that the network takes for flips (eps_hat >= .5), as shares of all pixels.
    """
    rows = []
    generator = torch.Generator().manual_seed(seed)
    sums = np.zeros((model.process.steps + 1, 4))
    with torch.inference_mode():
        for case in cases:
            image = torch.from_numpy(case.image)[None].to(model.device)
            logits, features = model.segmentor(image)
            prior = probabilities(logits).clamp(EPSILON, 1 - EPSILON)
            truth = torch.from_numpy(case.truth.astype(np.int64))[None].to(model.device)
            y0, free = one_hot(truth, model.classes), torch.full_like(truth, -1)
            condition = model.refiner.condition(image, prior, free, features)
            for t in range(1, model.process.steps + 1):
                mean = model.process.forward_mean(y0, prior, t)
                y_t = bernoulli(mean, generator).to(mean)
                y0_hat = probabilities(model.refiner(y_t, t, condition))
                predicted, true = (y_t - y0_hat).abs(), (y_t - y0).abs()
                sure = predicted >= 0.5
                sums[t] += [
                    float(part.float().mean())
                    for part in (predicted, true, predicted * sure, true * sure)
                ]
    for t in range(1, model.process.steps + 1):
        predicted, true, sure, sure_true = (sums[t] / len(cases)).tolist()
        rows.append(
            {
                "t": t,
                "predicted": predicted,
                "true": true,
                "predicted_sure": sure,
                "true_sure": sure_true,
            }
        )
    return rows
