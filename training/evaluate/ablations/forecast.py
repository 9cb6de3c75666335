"""How long the trainings of a study will take, from a few iterations on noise."""

import time
from collections.abc import Iterable
from dataclasses import replace

import torch

from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.losses import segmentation_loss
from napari_hidiff.training.plan import blank_card
from napari_hidiff.training.recipes import Recipe

TRIES = 3


def seconds(recipe: Recipe, dataset: Dataset) -> float:
    """Seconds of a recipe's refiner stage on this processor; validation is not in it."""
    from napari_hidiff.inference.model import networks

    side = fitted_crop(recipe, dataset)
    card = blank_card(recipe, dataset, "")
    segmentor, refiner = networks(card)
    image = torch.randn(recipe.batch, len(card.channels), side, side)
    free = torch.full((recipe.batch, side, side), -1)
    prior = torch.full((recipe.batch, card.outputs, side, side), 1 / max(2, card.outputs))
    target = (prior > 2).float()
    loss = segmentation_loss(card.outputs)
    turns = 1 + (1 / recipe.segmentor_every if recipe.segmentor_every else 0)
    taken = []
    for _ in range(TRIES):
        began = time.perf_counter()
        with torch.no_grad():
            _, features = segmentor(image)
        condition = refiner.condition(image, prior, free, features)
        loss(refiner(target, recipe.diffusion_steps, condition), target).backward()
        taken.append(time.perf_counter() - began)
    return min(taken) * turns * recipe.iterations


def fitted_crop(recipe: Recipe, dataset: Dataset) -> int:
    """The side of the crops, from the first training case."""
    mask = dataset.load(dataset.split("train")[0]).mask
    largest = max(mask.shape[-2:])
    return min(recipe.crop, -(-largest // 32) * 32)


def total(recipes: Iterable[Recipe], dataset: Dataset) -> float:
    """Seconds of several trainings; recipes that cost the same are timed once."""
    kinds: dict[Recipe, float] = {}
    whole = 0.0
    for recipe in recipes:
        kind = replace(recipe, seed=0)
        if kind not in kinds:
            kinds[kind] = seconds(kind, dataset)
        whole += kinds[kind]
    return whole
