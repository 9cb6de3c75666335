"""The first stage: segmentors with CE + Dice, and the priors of images they never saw."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.inference.model import networks
from napari_hidiff.networks import Segmentor, probabilities
from napari_hidiff.training import checkpoint
from napari_hidiff.training.case_cache import Stored, save_array
from napari_hidiff.training.crops import Crops, batches
from napari_hidiff.training.learner import Learner
from napari_hidiff.training.losses import segmentation_loss
from napari_hidiff.training.processes import gathered, real_type, widened
from napari_hidiff.training.run import Run
from napari_hidiff.training.targets import one_hot, to_device

SAVE_EVERY = 200
PIXELS_AT_ONCE = 2**20
"""Planes are segmented together up to this many pixels."""


def pretrain(
    name: str, stage: int, iterations: int, cases: Sequence[Stored], run: Run
) -> Segmentor:
    """Train one segmentor on ``cases`` and return its averaged weights, frozen.

    Its state lies in ``name.pt`` of the run: a finished one is read back, an interrupted one goes
    on. ``stage`` decides the weights that it starts from and the crops that it sees.
    """
    recipe, classes = run.recipe, run.card.outputs
    torch.manual_seed(recipe.seed * 1000 + stage)
    segmentor, _ = networks(run.card)
    if run.start is not None:
        segmentor.load_state_dict(run.start.segmentor.state_dict())
    real = real_type(recipe)
    shared = (recipe.weight_decay, recipe.ema, run.accelerator, real)
    learner = Learner(segmentor, recipe.pretrain_lr, iterations, *shared)
    file, done = run.folder / f"{name}.pt", 0
    if file.exists():
        state = checkpoint.load(file)
        learner.load_state_dict(state["learner"])
        done = state["iteration"]
    loss = segmentation_loss(classes)
    crops = Crops(cases, recipe, run.card, stage)
    with run.watch.progress(f"segmentor {name}", done, iterations) as advance:
        groups = batches(crops, done, iterations, **run.place)
        for iteration, group in enumerate(groups, done + 1):
            learner.module.train()

            def losses(group=group):
                for batch in group:
                    batch = to_device(batch, run.accelerator.device, real)
                    with run.accelerator.autocast():
                        logits, _ = learner.module(batch["image"])
                    target = one_hot(batch["truth"], classes).to(real)
                    yield loss(gathered(widened(logits)), gathered(target))

            value = learner.step(losses(), len(group))
            advance(loss=value)
            run.watch.scalar(f"segmentor/{name}/loss", value, iteration)
            stop = run.watch.stopping
            if run.main and (iteration % SAVE_EVERY == 0 or iteration == iterations or stop):
                checkpoint.save(file, {"iteration": iteration, "learner": learner.state_dict()})
            if stop:
                run.watch.stopped(f"segmentor {name}", iteration)
    return cast(Segmentor, learner.averaged)


def out_of_fold(cases: Sequence[Stored], run: Run) -> list[Stored]:
    """Every case with the prior of a segmentor that was trained without its group.

    All cases of a group (a patient, a video) share a fold. Cases stay without a prior when there
    are fewer groups than two.
    """
    recipe = run.recipe
    order = sorted({case.group for case in cases})
    fold_of = {group: i % recipe.folds for i, group in enumerate(order)}
    given = {case.id: case for case in cases}
    for fold in range(recipe.folds):
        inside = [case for case in cases if fold_of[case.group] != fold]
        outside = [case for case in cases if fold_of[case.group] == fold]
        if not inside or not outside:
            continue
        segmentor = pretrain(f"fold{fold}", 1 + fold, recipe.fold_iterations, inside, run)
        for case in with_priors(outside, predictor(segmentor), f"priors of fold {fold}", run):
            given[case.id] = case
    return [given[case.id] for case in cases]


def with_priors(
    cases: Sequence[Stored], predict: Callable[[Stored], np.ndarray], what: str, run: Run
) -> list[Stored]:
    """The cases that had none with a prior float16 [D, K, H, W], written by the main process."""
    folder = run.folder / "priors"
    named = [replace(c, prior_file=folder / f"{c.path.name}.npy") for c in cases]
    if run.main:
        folder.mkdir(exist_ok=True)
        with run.watch.progress(what, 0, len(cases)) as advance:
            for case in named:
                assert case.prior_file is not None
                if not case.prior_file.exists():
                    save_array(case.prior_file, predict(case).astype(np.float16))
                advance()
    run.accelerator.wait_for_everyone()
    return named


def predictor(segmentor: Segmentor) -> Callable[[Stored], np.ndarray]:
    """A case -> the prior float32 [D, K, H, W] of a segmentor, plane by plane."""
    like = next(segmentor.parameters())

    def predict(case: Stored) -> np.ndarray:
        image = np.asarray(case.image, dtype=np.float32)
        at_once = max(1, PIXELS_AT_ONCE // image[0, 0].size)
        parts: list[Tensor] = []
        with torch.inference_mode():
            for planes in torch.from_numpy(image).split(at_once):
                logits, _ = segmentor(planes.to(like))
                parts.append(probabilities(widened(logits)).float().cpu())
        return torch.cat(parts).numpy()

    return predict
