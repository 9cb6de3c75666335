"""What is settled before a run: its card, its recipe, its folder."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.card import Card, Label
from napari_hidiff.errors import InputError
from napari_hidiff.model import HiDiff
from napari_hidiff.network import segmentor_options
from napari_hidiff.preprocess import parse_intensity
from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.losses import RefinerLoss
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.versions import versions
from napari_hidiff.whole import whole


def blank_card(recipe: Recipe, dataset: Dataset, command: str) -> Card:
    """The card of a model that is about to be trained; scores come from an evaluation.

    InputError: an intensity rule or a segmentor that there is not.
    """
    labels = zip(dataset.classes, dataset.colors, strict=True)
    seen = {split: [case.id for case in dataset.splits[split]] for split in ("train", "val")}
    try:
        own = parse_intensity(recipe.intensity) if recipe.intensity else dict(dataset.intensity)
        segmentor = segmentor_options(recipe.segmentor, recipe.segmentor_layers, trusted=True)
    except ValueError as error:
        raise InputError(str(error)) from error
    return Card(
        name=dataset.name,
        summary=f"{', '.join(dataset.classes[1:])} in {'/'.join(dataset.channels)} images",
        dataset=dataset.name,
        classes=tuple(Label(name, color) for name, color in labels),
        channels=tuple(dataset.channels),
        licence=dataset.licence,
        attribution=dataset.attribution,
        intensity=own,
        segmentor=segmentor,
        refiner={
            "width": recipe.width,
            "stem": recipe.stem,
            "convolution": recipe.convolution,
            "output": recipe.predicts,
        }
        | ({} if recipe.xformer else {"xformer": False}),
        diffusion={
            "steps": recipe.diffusion_steps,
            "schedule": recipe.schedule,
            "s": recipe.schedule_s,
        }
        | ({} if recipe.kernel == "bernoulli" else {"kernel": recipe.kernel})
        | ({} if recipe.centre == "prior" else {"centre": recipe.centre}),
        defaults={
            "sampler": recipe.sampler,
            "steps": recipe.steps,
            "samples": recipe.samples,
        },
        training={"recipe": asdict(recipe), "command": command, "cases": seen},
        versions=versions(),
    )


def check_recipe(recipe: Recipe, card: Card) -> None:
    """InputError if the recipe cannot be built, before any data are read or written."""
    if recipe.kernel == "gaussian" and recipe.centre != "prior":
        raise InputError("normal noise has no centre to choose: --centre is for --kernel bernoulli")
    blank = np.zeros((32, 32, len(card.channels)), np.uint8)
    try:
        model = HiDiff.create(card)
        if not model.process.binary and model.refiner.output == "eps":
            raise ValueError("eps are flips, and a Gaussian kernel has none: use --predicts y0")
        RefinerLoss(model.process, model.classes, recipe.loss, recipe.posterior)
        model.steps(blank)  # checks the default sampler, computes nothing
    except ValueError as error:
        raise InputError(str(error)) from error
    if recipe.prior_from and not Path(recipe.prior_from).exists():
        raise InputError(f"{recipe.prior_from}: no such folder of masks or TorchScript file")


def recommended(card: Card, scores: dict[str, float]) -> dict[str, Any]:
    """The card's defaults; the one-step pass becomes the sampler where validation found it as good.

    That needs a network which has seen the start of that pass in training. Steps and samples
    stay: they apply whenever a sampler that takes steps is chosen.
    """
    trained = card.training["recipe"]["one_step"] > 0
    one_step = trained and scores["one-step"] >= scores["refined"]
    return card.defaults | ({"sampler": "one-step"} if one_step else {})


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """InputError rather than to overwrite a run, or to mix two."""
    noted = folder / "recipe.json"
    if noted.exists():
        if not resume:
            raise InputError(f"{folder} already holds a run; go on with --resume or name another")
        # Fields that came after the first runs.
        added = {"start": "", "xformer": True, "kernel": "bernoulli", "centre": "prior"}
        if added | json.loads(noted.read_text()) != asdict(recipe):
            raise InputError(f"{folder} was trained with other settings (see {noted})")
    elif resume:
        raise InputError(f"{folder} holds no run to resume")


def note_recipe(folder: Path, recipe: Recipe) -> None:
    """Make the run's folder, which is a run from now on."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "recipe.json", asdict(recipe))


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one."""
    with whole(path) as (part,):
        part.write_text(json.dumps(value, indent=1) + "\n")
