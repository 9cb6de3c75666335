"""The trained models of the ablations in one folder: trained when missing, resumed when cut off.

Variants that share a segmentor take it, and the priors of unseen images, from one run, so that they
differ in nothing that they do not name. Its seed is 0 in every variant; a training seed is that of
the refiner: its weights, crops and noise.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from filecmp import cmp
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.losses import segmentation_loss
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.run import blank_card, note_recipe

from ..study import digest
from .variants import Variant

FIRST_STAGE = (
    "dataset",
    "intensity",
    "segmentor",
    "segmentor_layers",
    "prior_from",
    "pretrain_iterations",
    "pretrain_lr",
    "folds",
    "fold_iterations",
)
"""Fields of a recipe that an earlier run may settle: those of its segmentor and its priors."""
REFINERS = (
    "width",
    "stem",
    "convolution",
    "xformer",
    "predicts",
    "diffusion_steps",
    "schedule",
    "schedule_s",
    "kernel",
    "centre",
    "loss",
    "posterior",
    "iterations",
    "lr",
    "segmentor_every",
    "segmentor_lr",
    "lambda_diff",
    "own_prior",
    "mask_prior",
    "corrupt",
    "corrections",
    "rounds",
    "one_step",
    "trajectory",
    "validate_every",
    "validate_cases",
    "sampler",
    "steps",
    "samples",
)
"""Fields that concern the refiner alone: runs that differ in them share a segmentor."""


@dataclass(frozen=True)
class TrainedModels:
    """Models of one data set and one base recipe.

    folder : of the runs.  base : sizes and iterations of every variant.  first_stage : folder of a
    finished run of ``napari-hidiff-train`` whose segmentor and priors are taken, or None.
    say : called with a line on what goes on.
    """

    folder: Path
    dataset: Dataset
    base: Recipe
    device: str = "cpu"
    first_stage: Path | None = None
    say: Callable[[str], None] = lambda line: None

    def recipe(self, variant: Variant, seed: int) -> Recipe:
        """The recipe of a variant, with the first stage of another run, if any."""
        return variant.recipe(self.settled, seed)

    @cached_property
    def settled(self) -> Recipe:
        """The base recipe with that first stage; InputError where there is no such run."""
        return _settled(self.base, self.first_stage)

    def run(self, variant: Variant, seed: int) -> Path:
        """The folder of a variant's training."""
        key = digest(changed_fields(self.recipe(variant, seed)))
        return self.folder / f"{variant.name}-seed{seed}-{key[:8]}"

    def check(self, variant: Variant, seed: int) -> None:
        """InputError where a variant was trained on another first stage than this one."""
        own = self.run(variant, seed) / "segmentor.pt"
        if (
            self.first_stage
            and self._shares_first_stage(self.recipe(variant, seed))
            and own.exists()
        ):
            other = self.first_stage / "segmentor.pt"
            if not (own.samefile(other) or cmp(own, other, shallow=False)):
                raise InputError(
                    f"{own.parent}: was trained on another first stage than {self.first_stage}: "
                    "choose another --state"
                )

    def trained(self, variant: Variant, seed: int) -> bool:
        """Whether a variant's model is there."""
        return (self.run(variant, seed) / "model.safetensors").is_file()

    def model(self, variant: Variant, seed: int, engine: str = "auto") -> HiDiff:
        """The model of a variant, trained now where it is missing; InputError as from training."""
        from napari_hidiff.inference.catalog import load_model

        self.train(variant, seed)
        return load_model(str(self.run(variant, seed) / "model.safetensors"), self.device, engine)

    def train(self, variant: Variant, seed: int) -> None:
        """Train a variant's model unless it is there."""
        if self.trained(variant, seed):
            return
        recipe, run = self.recipe(variant, seed), self.run(variant, seed)
        if not (run / "recipe.json").exists():
            self._begin(run, recipe)
        self.say(f"training {variant.name}, seed {seed}: {recipe.iterations} iterations")
        self._train(recipe, run, resume=True)

    def report(self, variant: Variant, seed: int) -> dict[str, Any]:
        """The report of a training; empty where it is gone."""
        try:
            text = (self.run(variant, seed) / "report.json").read_text()
        except OSError:
            return {}
        report: dict[str, Any] = json.loads(text)
        return report

    def _begin(self, run: Path, recipe: Recipe) -> None:
        """A run with its first stage done."""
        source = self._first_stage(recipe)
        run.mkdir(parents=True, exist_ok=True)
        for file in sorted(source.glob("*.pt")):
            if file.stem == "segmentor" or (file.stem.startswith("fold") and recipe.folds > 1):
                _link(file, run / file.name)
        if recipe.folds > 1:
            (run / "priors").mkdir(exist_ok=True)
            for file in sorted((source / "priors").glob("*.npy")):
                _link(file, run / "priors" / file.name)
        note_recipe(run, recipe)  # last: a folder with a recipe is whole

    def _first_stage(self, recipe: Recipe) -> Path:
        """A run with the segmentor of a recipe, and others for the priors: ``first_stage`` where it
        fits, or one that is trained now and serves all variants that it fits."""
        if self.first_stage and self._shares_first_stage(recipe):
            return self.first_stage
        plain = {name: getattr(self.base, name) for name in REFINERS}
        shared = replace(recipe, **plain, folds=self.base.folds, seed=0)
        shared = replace(shared, iterations=1, validate_every=1, validate_cases=1, rounds=0)
        run = self.folder / f"segmentor-{digest(changed_fields(shared))[:8]}"
        if not (run / "model.safetensors").is_file():
            self.say(f"training a segmentor: {shared.pretrain_iterations} iterations")
            self._train(shared, run, resume=(run / "recipe.json").exists())
        return run

    def _shares_first_stage(self, recipe: Recipe) -> bool:
        """Whether a recipe has the segmentor of ``first_stage``."""
        same = (n for n in FIRST_STAGE if n not in ("folds", "fold_iterations"))
        return all(getattr(recipe, n) == getattr(self.settled, n) for n in same)

    def _train(self, recipe: Recipe, run: Path, resume: bool) -> None:
        from napari_hidiff.training.progress import Watch
        from napari_hidiff.training.trainer import train

        watch = Watch(run)
        cache = self.folder / "cache"
        train(recipe, self.dataset, run, self.device, resume, "", cache, watch=watch)


def changed_fields(recipe: Recipe) -> dict[str, Any]:
    """The fields that differ from the defaults: one that is added later changes no old digest."""
    usual = asdict(Recipe(dataset=""))
    return {name: value for name, value in asdict(recipe).items() if value != usual[name]}


def _settled(base: Recipe, run: Path | None) -> Recipe:
    """The base recipe with the first stage of a finished run, if any."""
    if run is None:
        return base
    try:
        noted = json.loads((run / "recipe.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{run}: not the folder of a run of napari-hidiff-train") from error
    known = {field.name for field in fields(Recipe)}
    first = {name: noted[name] for name in FIRST_STAGE if name in noted and name in known}
    if first.get("dataset") != base.dataset:
        raise InputError(f"{run}: was trained on {first.get('dataset')}, not {base.dataset}")
    if not (run / "segmentor.pt").is_file():
        raise InputError(f"{run}: has no segmentor.pt")
    return replace(base, **first)


def _link(source: Path, target: Path) -> None:
    """The same file in another folder; a copy where the file system has no links."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


TRIES = 3


def seconds(recipe: Recipe, dataset: Dataset) -> float:
    """Seconds of a recipe's refiner stage on this processor; validation is not in it."""
    from napari_hidiff.inference.model import networks

    side = fitted_crop(recipe, dataset)
    card = blank_card(recipe, dataset, "")
    segmentor, refiner = networks(card)
    image = torch.randn(recipe.batch, card.inputs, side, side)
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
    largest = int(max(mask.shape[-2:]))
    return min(recipe.crop, -(-largest // 32) * 32)


def total_seconds(recipes: Iterable[Recipe], dataset: Dataset) -> float:
    """Seconds of several trainings; recipes that cost the same are timed once."""
    kinds: dict[Recipe, float] = {}
    whole = 0.0
    for recipe in recipes:
        kind = replace(recipe, seed=0)
        if kind not in kinds:
            kinds[kind] = seconds(kind, dataset)
        whole += kinds[kind]
    return whole
