"""The first stage: segmentors with CE + Dice, and the priors of images they never saw."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from napari_hidiff.card import Card
from napari_hidiff.network import Segmentor, build_segmentor, probabilities
from napari_hidiff.training import checkpoint
from napari_hidiff.training.crops import Loaded, batches
from napari_hidiff.training.learner import Learner
from napari_hidiff.training.losses import segmentation_loss
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.targets import one_hot
from napari_hidiff.training.watch import Watch

SAVE_EVERY = 200


def pretrain(
    name: str,
    stage: int,
    iterations: int,
    cases: Sequence[Loaded],
    card: Card,
    recipe: Recipe,
    folder: Path,
    accelerator: Accelerator,
    watch: Watch,
) -> nn.Module:
    """Train one segmentor on ``cases`` and return its averaged weights, frozen.

    Its state lies in ``folder/name.pt``: a finished one is read back, an interrupted one goes on.
    """
    torch.manual_seed(recipe.seed * 1000 + stage)
    segmentor = build_segmentor(channels=len(card.channels), classes=card.outputs, **card.segmentor)
    learner = Learner(
        segmentor, recipe.pretrain_lr, iterations, recipe.weight_decay, recipe.ema, accelerator
    )
    file, done = folder / f"{name}.pt", 0
    if file.exists():
        state = checkpoint.load(file)
        learner.load_state_dict(state["learner"])
        done = state["iteration"]
    loss = segmentation_loss(card.outputs)
    plain = [Loaded(case.id, case.image, case.truth) for case in cases]
    with watch.progress(f"segmentor {name}", done, iterations) as advance:
        for i, group in enumerate(batches(plain, recipe, card.soften, stage, done, iterations)):
            iteration = done + i + 1
            learner.module.train()

            def losses(group=group):
                for batch in group:
                    image = batch["image"].to(accelerator.device)
                    target = one_hot(batch["truth"].to(accelerator.device), card.outputs)
                    with accelerator.autocast():
                        logits, _ = learner.module(image)
                    yield loss(logits.float(), target)

            value = learner.step(losses(), len(group))
            advance(loss=value)
            watch.scalar(f"segmentor/{name}/loss", value, iteration)
            if iteration % SAVE_EVERY == 0 or iteration == iterations:
                state = {"iteration": iteration, "learner": learner.state_dict()}
                checkpoint.save(file, state)
    return learner.averaged


def out_of_fold(
    cases: Sequence[Loaded],
    groups: Sequence[str],
    card: Card,
    recipe: Recipe,
    folder: Path,
    accelerator: Accelerator,
    watch: Watch,
) -> None:
    """Give every case the prior of a segmentor that was trained without its group.

    ``groups[i]`` is the patient of ``cases[i]``; both eyes of a patient share a fold.
    """
    order = sorted(set(groups))
    fold_of = {group: i % recipe.folds for i, group in enumerate(order)}
    for fold in range(recipe.folds):
        inside = [c for c, g in zip(cases, groups, strict=True) if fold_of[g] != fold]
        outside = [c for c, g in zip(cases, groups, strict=True) if fold_of[g] == fold]
        if not inside or not outside:
            continue
        segmentor = pretrain(
            f"fold{fold}",
            1 + fold,
            recipe.fold_iterations,
            inside,
            card,
            recipe,
            folder,
            accelerator,
            watch,
        )
        for case in outside:
            case.prior = predict(segmentor, case.image, accelerator.device)


def predict(
    segmentor: nn.Module | Segmentor, image: np.ndarray, device: torch.device
) -> np.ndarray:
    """The prior float16 [K, H, W] of a standardized image [C, H, W]."""
    with torch.inference_mode():
        logits, _ = segmentor(torch.from_numpy(image)[None].to(device))
        return probabilities(logits)[0].half().cpu().numpy()
