"""Fine-tuning: continue from a trained model with a few more images, such as corrected masks.

The networks start from the model's weights. The priors of the new images come from a segmentor
that never saw them, so no folds are needed; the recipe's corruption is added. Held-out images are
scored before and after, but choose nothing: the weights of the last iteration are the result.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_hidiff.annotation.fine_tuning import HELD_OUT
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import find_model, load_model, root_name
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import mean_dice
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.validation import spread

TUNE: dict[str, Any] = {
    "batch": 4,
    "folds": 0,
    "pretrain_iterations": 300,
    "pretrain_lr": 1e-3,
    "iterations": 150,
    "lr": 1e-3,
    "segmentor_every": 0,
    "ema": 0.98,
    "validate_every": 50,
    "validate_cases": 4,
    "workers": 0,
}
"""Changes to a recipe when a model is fine-tuned: short, and with a low learning rate."""

EVERY = HELD_OUT
"""Every n-th group of cases is held out."""
ANONYMOUS = frozenset({"grey", "red", "green", "blue", "foreground"})
"""Default names of a folder's channels and classes; also channel n, class n."""
FIXED = frozenset(
    {
        *("segmentor", "segmentor_layers", "width", "stem", "convolution", "predicts"),
        *("diffusion_steps", "schedule", "schedule_s", "kernel", "centre", "xformer"),
        *("intensity", "prior_from", "slices"),
    }
)
"""Fields that the weights fix."""


def starting_model(name: str) -> HiDiff:
    """The model to start from, on the CPU; InputError: none, broken, or an export."""
    model = load_model(name, device="cpu", engine="torch", prepare=False)
    model.check_trainable()
    return model


def architecture(card: Card) -> dict[str, Any]:
    """The fields of a recipe that are fixed by the networks of a model.

    Raises
    ------
    InputError : the segmentor is code of its own, which a file cannot name.
    """
    segmentor = dict(card.segmentor)
    recipe = card.training.get("recipe", {})
    name = recipe.get("segmentor") or segmentor.get("name", "unet")
    refiner, diffusion = card.refiner, card.diffusion
    plain = {field.name: field.default for field in dataclasses.fields(Recipe)}
    return {
        "segmentor": name,
        "segmentor_layers": recipe.get("segmentor_layers", ""),
        "width": refiner.get("width", plain["width"]),
        "stem": refiner.get("stem", plain["stem"]),
        "convolution": refiner.get("convolution", plain["convolution"]),
        "predicts": refiner.get("output", plain["predicts"]),
        "diffusion_steps": diffusion.get("steps", plain["diffusion_steps"]),
        "schedule": diffusion.get("schedule", plain["schedule"]),
        "schedule_s": diffusion.get("s", plain["schedule_s"]),
        "kernel": diffusion.get("kernel", plain["kernel"]),
        "centre": diffusion.get("centre", plain["centre"]),
        "xformer": refiner.get("xformer", plain["xformer"]),
        "slices": card.slices,
        "flips": recipe.get("flips", plain["flips"]),
        "loss": recipe.get("loss", plain["loss"]),
        "posterior": recipe.get("posterior", plain["posterior"]),
        "crop": recipe.get("crop", plain["crop"]),
        "sampler": card.defaults["sampler"],
        "steps": card.defaults["steps"],
        "samples": card.defaults["samples"],
    }


def tuned(recipe: Recipe, card: Card, start: str, changes: Mapping[str, Any]) -> Recipe:
    """The recipe of a fine-tuning: the model's networks, few iterations, and ``changes``.

    Raises
    ------
    InputError : a change that the weights do not allow.
    """
    own = architecture(card)
    for name in sorted(FIXED & changes.keys()):
        if name not in own or changes[name] != own[name]:
            raise InputError(
                f"--{name.replace('_', '-')} cannot be changed with --from: {card.name} was made "
                f"with {own.get(name, 'its own')}"
            )
    return dataclasses.replace(recipe, **(own | TUNE | dict(changes) | {"start": start}))


def adapted(dataset: Dataset, card: Card) -> Dataset:
    """The data set with the model's classes, channels and intensity rule.

    A folder without names (no classes.txt) takes the model's; existing names must be equal.

    Raises
    ------
    InputError : other classes or channels than the model's.
    """
    classes = tuple(label.name for label in card.classes)
    for what, found, wanted in (
        ("classes", dataset.classes[1:], classes[1:]),
        ("channels", dataset.channels, card.channels),
    ):
        named = dataset.name != "folder" or not all(map(_anonymous, found))
        if len(found) != len(wanted) or (named and found != wanted):
            raise InputError(
                f"{card.name} cannot be tuned on these images: its {what} are "
                f"{', '.join(wanted)}, theirs {', '.join(found)}"
            )
    return dataclasses.replace(
        dataset,
        classes=classes,
        channels=card.channels,
        colors=tuple(label.color for label in card.classes),
        intensity=dict(card.intensity),
    )


def _anonymous(name: str) -> bool:
    return name in ANONYMOUS or name.removeprefix("channel ").removeprefix("class ").isdecimal()


def dealt(cases: Sequence[Case], seed: int, card: Card) -> dict[str, tuple[Case, ...]]:
    """Train and held-out cases: every 4th group by name is held out, after a shuffle by ``seed``.

    Cases of an earlier fine-tuning are never held out; its held-out cases are again. With fewer
    than four groups nothing is held out.
    """
    seen = card.training.get("cases", {}) if "from" in card.training else {}
    groups = sorted({case.group for case in cases})
    wanted = len(groups) // EVERY
    trained = {case.group for case in cases if case.id in seen.get("train", ())}
    before = {case.group for case in cases if case.id in seen.get("val", ())}
    order = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    order = order[EVERY - 1 :: EVERY] + [g for i, g in enumerate(order) if i % EVERY != EVERY - 1]
    free = [group for group in order if group not in trained]
    held_out = (
        set(sorted(free, key=lambda group: group not in before)[:wanted]) if wanted else set()
    )
    return {
        "train": tuple(case for case in cases if case.group not in held_out),
        "val": tuple(case for case in cases if case.group in held_out),
        "test": (),
    }


def with_origin(card: Card, start: HiDiff, name: str, own_name: str | None) -> Card:
    """The card of a fine-tuned model: its origin, under the terms of both data sets."""
    base = start.card
    root = root_name(find_model(name), base)
    origin = {
        "name": base.name,
        "root": root,
        "dataset": base.dataset,
        "cases": base.training.get("cases", {}),
    }

    def both(old: str, new: str) -> str:
        return old if new in old or not new else f"{old}; tuned on: {new}" if old else new

    return dataclasses.replace(
        card,
        name=own_name or f"{root}-tuned",
        summary=base.summary,
        dataset=both(base.dataset, card.dataset),
        licence=both(base.licence, card.licence),
        attribution=both(base.attribution, card.attribution),
        spacing=base.spacing,
        longest_side=card.longest_side or base.trained_side,
        slices=base.slices,
        looks=base.looks,
        segmentor=base.segmentor,
        refiner=base.refiner,
        diffusion=base.diffusion,
        intensity=base.intensity,
        soften=base.soften,
        local=base.local,
        defaults=base.defaults,
        training=card.training | {"from": origin},
    )


def held_out_scores(before: HiDiff, after: HiDiff, cases: Sequence[Stored]) -> dict[str, Any]:
    """Dice of prior and refined masks (the card's sampler, seed 0) on cases that never trained.

    Returns ``cases``: a row per case, and ``mean``, each with ``before`` and ``after`` of
    ``{"prior": 0..1, "refined": 0..1}``; and a ``note`` if nothing was held out.
    """
    if not cases:
        note = f"nothing was held out: that takes at least {EVERY} images"
        return {"cases": [], "mean": None, "note": note}
    rows: list[dict[str, Any]] = [
        {"id": case.id, "before": _dice(before, case), "after": _dice(after, case)}
        for case in cases
    ]
    mean = {
        when: {mask: float(np.mean([row[when][mask] for row in rows])) for mask in rows[0][when]}
        for when in ("before", "after")
    }
    return {"cases": rows, "mean": mean, "note": ""}


def glance(model: HiDiff, cases: Sequence[Stored], most: int) -> dict[str, float]:
    """Mean Dice of prior and refined masks of at most ``most`` held-out cases, for the curve."""
    rows = [_dice(model, case) for case in spread(cases, most)]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _dice(model: HiDiff, case: Stored) -> dict[str, float]:
    priors, refined = [], []
    for at in range(case.shape[0]):
        image = case.plane(at).transpose(1, 2, 0)
        prior = model.prior(image, True, 1)
        priors.append(model.mask_of(prior))
        refined.append(model.refine(image, prior, normalised=True, scale=1).mask)
    truth = np.asarray(case.truth)
    return {
        "prior": mean_dice(np.stack(priors), truth, model.labels),
        "refined": mean_dice(np.stack(refined), truth, model.labels),
    }
