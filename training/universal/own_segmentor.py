"""A segmentor of the user's own for a prompted model: trained on a few finished masks alone.

The model's refiner and encoder stay as they are. A small network learns in minutes where the object
is; its probability becomes the model's prior, which strokes then correct. Held-out images say
whether that is better than strokes alone (:func:`compared`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_hidiff.annotation.folder.own_model import learned_slices
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff, networks
from napari_hidiff.inference.preprocessing import any_channels
from napari_hidiff.io.images import read_image, read_mask
from napari_hidiff.io.nifti import is_nifti
from napari_hidiff.io.pictures import check_turn
from napari_hidiff.masks import FREE, dice
from napari_hidiff.networks.decoder import EncoderDecoder
from napari_hidiff.networks.encoder import Encoder
from napari_hidiff.networks.segmentor_registry import OWN, OwnSegmentor, segmentor_options
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.crops import fitted
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.datasets.base import Sample, read_nifti, resampled
from napari_hidiff.training.fine_tuning import with_origin
from napari_hidiff.training.learner import accelerator_for
from napari_hidiff.training.progress import Watch
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.run import (
    Run,
    blank_card,
    check_cases,
    check_folder,
    check_place,
    note_recipe,
    write_json,
)
from napari_hidiff.training.simulated_annotator import kind_for, next_stroke
from napari_hidiff.training.stages import pretrain
from napari_hidiff.training.trainer import read_cases, with_data

OWN_RECIPE: dict[str, Any] = {
    "segmentor": "encoder-decoder",
    "crop": 192,
    "batch": 4,
    "pretrain_iterations": 300,
    "pretrain_lr": 2e-3,
    "ema": 0.98,
    "folds": 0,
    "iterations": 0,
    "workers": 0,
    "validate_every": 1,
}
"""Changes to a recipe: minutes on one thread. No refiner is trained."""
AGAIN: dict[str, Any] = {"pretrain_iterations": 150}
"""Further changes where the model has such a segmentor already: training goes on from it."""
CHANGEABLE = frozenset(
    {
        *("segmentor", "segmentor_layers", "pretrain_iterations", "pretrain_lr", "crop", "batch"),
        *("accumulate", "weight_decay", "ema", "flips", "seed", "workers", "precision"),
    }
)
"""Fields of a recipe that a segmentor's training reads."""
STROKES = 3
"""Of the simulated annotator on a held-out image."""
NONE_HELD_OUT = "nothing was held out: that takes at least 4 images"


def own_recipe(recipe: Recipe, card: Card, start: str, changes: Mapping[str, Any]) -> Recipe:
    """The recipe of a segmentor for a prompted model, with ``changes``.

    InputError for a change of what stays as it is: the refiner, the diffusion.
    """
    for name in sorted(changes.keys() - CHANGEABLE):
        raise InputError(
            f"--{name.replace('_', '-')} does not go with --from {card.name}: only a segmentor is "
            "trained, and the refiner stays as it is"
        )
    again = {} if card.needs_prompt else AGAIN
    own = OWN_RECIPE | again | {"longest_side": card.longest_side} | dict(changes)
    return dataclasses.replace(recipe, **own, start=start)


def of_objects(dataset: Dataset, card: Card) -> Dataset:
    """Pictures and volumes of any channels as the model reads them, and whether a pixel has any
    label."""
    return dataclasses.replace(
        dataset,
        name=f"{dataset.name}-objects",
        classes=tuple(label.name for label in card.classes),
        colors=tuple(label.color for label in card.classes),
        channels=card.channels,
        intensity=dict(card.intensity),
        codes={},
        reader=read_object,
        slices_apart=True,
    )


def read_object(dataset: Dataset, case: Case) -> Sample:
    """A picture [H, W, C], or the slices of a volume to learn from [D, H, W, C] (NIfTI;
    :func:`learned_slices`), as a prompted model reads it, at its scale, and its mask of any label.
    """
    wanted = len(dataset.channels)
    if is_nifti(case.images[0]):
        volume = read_nifti(dataset, case)
        places = learned_slices(volume.mask)
        image = np.stack([any_channels(volume.image[at], wanted) for at in places])
        labels = volume.mask[places]
    else:
        image = np.ascontiguousarray(any_channels(read_image(case.images[0]), wanted))
        labels = read_mask(case.mask)
        check_turn(case.images[0], case.mask, image.shape[:2], labels.shape)
    sample = Sample(case, image, (labels > 0).astype(np.uint8))
    return resampled(sample, dataset.longest_side / max(labels.shape[-2:]))


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    device: str = "auto",
    resume: bool = False,
    command: str = "",
    cache: Path | None = None,
    skip_bad: bool = False,
    name: str | None = None,
    watch: Watch | None = None,
) -> Path:
    """Train a segmentor for the model ``recipe.start``; arguments as for :func:`trainer.train`.

    Returns the path of the prompted model that has it, ``folder/model.safetensors``; report.json
    says what it is worth on the held-out cases.

    Raises
    ------
    InputError : bad data, a folder of another run, a recipe that does not fit.
    """
    start = load_model(recipe.start, device="cpu", engine="torch", prepare=False)
    dataset = dataclasses.replace(of_objects(dataset, start.card), longest_side=recipe.longest_side)
    card = own_card(recipe, dataset, start, command, name)
    check_folder(folder, recipe, resume)
    cache = cache or folder.parent / "cache"
    check_place(cache)
    watch = watch or Watch(folder)
    try:
        store = read_cases(dataset, cache, skip_bad, watch)
        check_cases(folder, store.splits, writes=False)
        note_recipe(folder, recipe)
        check_cases(folder, store.splits, writes=True)
        cases, held_out = store.splits["train"], store.splits["val"]
        card = with_data(card, store)
        accelerator = accelerator_for(recipe, device)
        alone = dataclasses.replace(card, segmentor=card.segmentor["own"])
        run = Run(fitted(recipe, cases), alone, folder, accelerator, watch)
        begin = beginning(start, card, recipe.seed)
        own = pretrain("segmentor", 0, recipe.pretrain_iterations, cases, run, begin)
        model = joined(start, card, own.to("cpu"))
        watch.note(stage="scoring")
        report = compared(model, held_out)
        watch.say(told(report))
        model = model.with_card(training=card.training | {"held_out": report})
        write_json(folder / "report.json", {"held_out": report})
        path = folder / "model.safetensors"
        model.save(path)
        watch.note(stage="finished", model=str(path))
        return path
    finally:
        watch.close()


def own_card(
    recipe: Recipe, dataset: Dataset, start: HiDiff, command: str, name: str | None
) -> Card:
    """The card of the model: all of the prompted model's, but for the segmentor."""
    base = start.card
    encoder = base.segmentor["encoder"] if base.segmentor["name"] == OWN else base.segmentor
    own = segmentor_options(recipe.segmentor, recipe.segmentor_layers, trusted=True)
    card = with_origin(blank_card(recipe, dataset, command), start, recipe.start, name)
    return dataclasses.replace(
        card,
        name=name or card.name.replace("-tuned", "-own"),
        summary="What was annotated before, and any object, from a stroke, a box or a mask of it",
        segmentor={"name": OWN, "encoder": encoder, "own": own},
        prompted=True,
        looks={},
    )


def beginning(start: HiDiff, card: Card, seed: int) -> nn.Module:
    """A segmentor of the card, with the weights of the model that fit it: those of its own
    segmentor, else those of its encoder. The others are random, and the same for a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        segmentor, _ = networks(card)
    assert isinstance(segmentor, OwnSegmentor)
    if isinstance(start.segmentor, OwnSegmentor):
        if start.card.segmentor["own"] == card.segmentor["own"]:
            segmentor.own.load_state_dict(start.segmentor.own.state_dict())
    elif isinstance(segmentor.own, EncoderDecoder) and isinstance(start.segmentor, Encoder):
        segmentor.own.encoder.load_state_dict(start.segmentor.state_dict())
    return segmentor.own


def joined(start: HiDiff, card: Card, own: nn.Module) -> HiDiff:
    """The prompted model with this segmentor; encoder and refiner are those of ``start``."""
    segmentor, _ = networks(card)
    assert isinstance(segmentor, OwnSegmentor)
    before = start.segmentor
    encoder = before.encoder if isinstance(before, OwnSegmentor) else before
    segmentor.encoder.load_state_dict(encoder.state_dict())
    segmentor.own.load_state_dict(own.state_dict())
    return HiDiff(card, segmentor, start.refiner)


def compared(model: HiDiff, cases: Sequence[Stored]) -> dict[str, Any]:
    """Dice on held-out images of a model without (``before``) and with its own segmentor.

    Slices of a volume, and other cases of one group, are one image: its Dice is that of all their
    pixels, after so many strokes in each.

    Returns ``cases``: a row per image, with its number of ``slices``, and ``mean`` of them, each
    with ``before`` and ``after`` of ``{"first mask": 0..1, "1 stroke": 0..1, ...}``; ``better``:
    whether the mean over the strokes is higher with the segmentor; and a ``note`` if nothing was
    held out.
    """
    if not cases:
        return {"cases": [], "mean": None, "better": False, "note": NONE_HELD_OUT}
    assert isinstance(model.segmentor, OwnSegmentor)
    card = dataclasses.replace(model.card, segmentor=model.card.segmentor["encoder"])
    models = {"before": HiDiff(card, model.segmentor.encoder, model.refiner), "after": model}
    groups: dict[str, list[Stored]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    rows: list[dict[str, Any]] = [
        {"id": own[0].id if len(own) == 1 else group, "slices": sum(case.shape[0] for case in own)}
        | {when: _after_strokes(one, own) for when, one in models.items()}
        for group, own in groups.items()
    ]
    mean = {
        when: {key: float(np.mean([row[when][key] for row in rows])) for key in rows[0][when]}
        for when in models
    }
    worth = {when: np.mean(list(scores.values())[1:]) for when, scores in mean.items()}
    better = bool(worth["after"] > worth["before"])
    return {"cases": rows, "mean": mean, "better": better, "note": ""}


def told(report: Mapping[str, Any]) -> str:
    """A report of :func:`compared` in one line."""
    if report["mean"] is None:
        return f"no scores: {report['note']}"
    before, after = report["mean"]["before"], report["mean"]["after"]
    scores = "; ".join(f"{key} {before[key]:.3f} to {after[key]:.3f}" for key in after)
    verdict = "better" if report["better"] else "not better"
    return f"Dice on {len(report['cases'])} held-out images, before and after: {scores}: {verdict}"


def _after_strokes(model: HiDiff, cases: Sequence[Stored]) -> dict[str, float]:
    """Dice of the first masks, and after each stroke of the simulated annotator in every slice."""
    masks = [_slice_after_strokes(model, case, at) for case in cases for at in range(case.shape[0])]
    truth = np.concatenate([case.truth[:].ravel() > 0 for case in cases]).astype(np.uint8)
    return {
        key: dice(np.concatenate([mask[key].ravel() for mask in masks]), truth) for key in masks[0]
    }


def _slice_after_strokes(model: HiDiff, case: Stored, at: int) -> dict[str, np.ndarray]:
    """The first mask uint8 [H, W] of a slice, and that after each stroke."""
    image = np.asarray(case.image[at], np.float32).transpose(1, 2, 0)
    truth = (np.asarray(case.truth[at]) > 0).astype(np.uint8)
    prior, kind = model.prior(image), kind_for(truth)
    mask, fixed = model.mask_of(prior), np.full(truth.shape, FREE, np.int16)
    masks = {"first mask": mask}
    for number in range(1, STROKES + 1):
        stroke = next_stroke(mask, truth, kind)
        if stroke is not None:
            fixed[stroke.where] = truth[stroke.where]
            mask = model.refine(image, prior, fixed).mask
        masks[f"{number} stroke{'s' * (number > 1)}"] = mask
    return masks
