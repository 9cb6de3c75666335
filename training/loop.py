"""A training run from top to bottom: data, segmentors, alternation, report, model file."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator

from napari_hidiff.card import Card, Label
from napari_hidiff.errors import InputError
from napari_hidiff.model import HiDiff, networks
from napari_hidiff.network import Refiner
from napari_hidiff.training import checkpoint
from napari_hidiff.training.alternate import Alternation
from napari_hidiff.training.crops import batches, load_cases
from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.learner import Learner
from napari_hidiff.training.losses import RefinerLoss
from napari_hidiff.training.pretrain import out_of_fold, predict, pretrain
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.validate import calibration, validate
from napari_hidiff.training.versions import versions
from napari_hidiff.training.watch import Watch

MAIN_STAGE, REFINER_STAGE = 0, 100
SAVE_EVERY = 100


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    device: str = "auto",
    resume: bool = False,
    command: str = "",
) -> Path:
    """Train a model and return the path of its file, ``folder/model.safetensors``.

    ``folder`` also gets recipe.json, checkpoints (last.pt, best.pt, one per segmentor), TensorBoard
    events and report.json (validation scores, calibration). An existing folder is refused unless
    ``resume`` is set; then the run goes on and ends with the weights of an uninterrupted one.

    Raises
    ------
    InputError : bad data, a folder that holds another run, a recipe that does not fit.
    """
    card = blank_card(recipe, dataset, command)
    check_recipe(recipe, card)
    prepare_folder(folder, recipe, resume)
    accelerator = _accelerator(device)
    cases, held_out = load_cases(dataset, "train"), load_cases(dataset, "val")
    watch = Watch(folder)
    try:
        groups = [case.group for case in dataset.split("train")]
        if recipe.folds > 1:
            out_of_fold(cases, groups, card, recipe, folder, accelerator, watch)
        segmentor = pretrain(
            "segmentor",
            MAIN_STAGE,
            recipe.pretrain_iterations,
            cases,
            card,
            recipe,
            folder,
            accelerator,
            watch,
        )
        for case in cases:
            if case.prior is None:
                case.prior = predict(segmentor, case.image, accelerator.device)
        return _refine_stage(recipe, card, segmentor, cases, held_out, folder, accelerator, watch)
    finally:
        watch.close()


def _refine_stage(recipe, card, segmentor, cases, held_out, folder, accelerator, watch) -> Path:
    """Alternate, validate, keep the best; then report and export it."""
    torch.manual_seed(recipe.seed * 1000 + REFINER_STAGE)
    start, refiner = networks(card)
    start.load_state_dict(segmentor.state_dict())
    turns = recipe.iterations // recipe.segmentor_every if recipe.segmentor_every else 1
    shared = (recipe.weight_decay, recipe.ema, accelerator)
    run = Alternation(
        Learner(start, recipe.segmentor_lr, turns, *shared),
        Learner(refiner, recipe.lr, recipe.iterations, *shared),
        card,
        recipe,
        accelerator,
    )
    last, best = folder / "last.pt", folder / "best.pt"
    done, history = 0, []
    if last.exists():
        state = checkpoint.load(last)
        run.segmentor.load_state_dict(state["segmentor"])
        run.refiner.load_state_dict(state["refiner"])
        done, history = state["iteration"], state["history"]
    with watch.progress("refiner", done, recipe.iterations) as advance:
        groups = batches(cases, recipe, card.soften, REFINER_STAGE, done, recipe.iterations)
        for iteration, group in enumerate(groups, done + 1):
            values = run.iterate(group, iteration)
            advance(loss=values["refiner"])
            for name, value in values.items():
                watch.scalar(f"loss/{name}", value, iteration)
            finished = iteration == recipe.iterations
            if iteration % recipe.validate_every == 0 or finished:
                model = _model(card, run)
                scores, pictures = validate(model, held_out)
                watch.say(f"iteration {iteration}: validation Dice {_line(scores)}")
                watch.picture("truth, prior, refined", pictures, iteration)
                for name, value in scores.items():
                    watch.scalar(f"validation/{name}", value, iteration)
                history.append({"iteration": iteration, **scores})
                if max(history, key=_merit) is history[-1]:
                    checkpoint.save(best, _weights(run) | {"iteration": iteration})
            if iteration % SAVE_EVERY == 0 or finished:
                state = {"segmentor": run.segmentor.state_dict()}
                state |= {"refiner": run.refiner.state_dict()}
                checkpoint.save(last, state | {"iteration": iteration, "history": history})
    return _export(card, held_out, folder, history, accelerator)


def _export(card, held_out, folder, history, accelerator) -> Path:
    """The best checkpoint as a model file, with its report."""
    state = checkpoint.load(folder / "best.pt")
    segmentor, refiner = networks(card)
    segmentor.load_state_dict(state["segmentor"])
    refiner.load_state_dict(state["refiner"])
    model = HiDiff(card, segmentor, refiner, accelerator.device)
    report = {
        "best_iteration": state["iteration"],
        "validation": history,
        "calibration": calibration(model, held_out),
    }
    write_json(folder / "report.json", report)
    scores = next(row for row in history if row["iteration"] == state["iteration"])
    training = card.training | {"best_iteration": state["iteration"], "validation": scores}
    path = folder / "model.safetensors"
    model.with_card(training=training, defaults=recommended(card, scores)).save(path)
    return path


def recommended(card: Card, scores: dict[str, float]) -> dict[str, Any]:
    """The card's defaults; the one-step pass becomes the sampler where validation found it as good.

    That needs a network which has seen the start of that pass in training. Steps and samples
    stay: they apply whenever a sampler that takes steps is chosen.
    """
    trained = card.training["recipe"]["one_step"] > 0
    one_step = trained and scores["one-step"] >= scores["refined"]
    return card.defaults | ({"sampler": "one-step"} if one_step else {})


def blank_card(recipe: Recipe, dataset: Dataset, command: str) -> Card:
    """The card of a model that is about to be trained; scores come from an evaluation."""
    labels = zip(dataset.classes, dataset.colors, strict=True)
    seen = {split: [case.id for case in dataset.splits[split]] for split in ("train", "val")}
    return Card(
        name=dataset.name,
        summary=f"{', '.join(dataset.classes[1:])} in {'/'.join(dataset.channels)} images",
        dataset=dataset.name,
        classes=tuple(Label(name, color) for name, color in labels),
        channels=tuple(dataset.channels),
        licence=dataset.licence,
        attribution=dataset.attribution,
        segmentor={"name": recipe.segmentor},
        refiner={
            "width": recipe.width,
            "stem": recipe.stem,
            "convolution": recipe.convolution,
            "output": recipe.predicts,
        },
        diffusion={
            "steps": recipe.diffusion_steps,
            "schedule": recipe.schedule,
            "s": recipe.schedule_s,
        },
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
    blank = np.zeros((32, 32, len(card.channels)), np.uint8)
    try:
        model = HiDiff.create(card)
        RefinerLoss(model.process, model.classes, recipe.loss, recipe.posterior)
        model.steps(blank)  # checks the default sampler, computes nothing
    except ValueError as error:
        raise InputError(str(error)) from error


def prepare_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Make the run's folder and note the recipe; refuse to overwrite or to mix two runs."""
    noted = folder / "recipe.json"
    if noted.exists():
        if not resume:
            raise InputError(f"{folder} already holds a run; go on with --resume or name another")
        if json.loads(noted.read_text()) != asdict(recipe):
            raise InputError(f"{folder} was trained with other settings (see {noted})")
    elif resume:
        raise InputError(f"{folder} holds no run to resume")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(noted, asdict(recipe))


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(partial, path)


def _accelerator(device: str) -> Accelerator:
    """Half precision where the device has it; the CPU only when asked or alone."""
    cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    mixed = "bf16" if not cpu and torch.cuda.is_available() else "no"
    return Accelerator(cpu=cpu, mixed_precision=mixed)


def _weights(run: Alternation) -> dict[str, Any]:
    parts = {"segmentor": run.segmentor, "refiner": run.refiner}
    return {name: learner.averaged.state_dict() for name, learner in parts.items()}


def _model(card: Card, run: Alternation) -> HiDiff:
    """The averaged networks as a model, to validate."""
    device = run.accelerator.device
    return HiDiff(card, run.segmentor.averaged, cast(Refiner, run.refiner.averaged), device)


def _merit(scores: dict[str, float]) -> float:
    """What the best checkpoint is best in: both ways in which the model will be used."""
    return scores["one-step"] + scores["refined"]


def _line(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
