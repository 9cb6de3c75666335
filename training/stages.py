"""The two stages of training: segmentors, then refiner and segmentor in alternation.

First stage: segmentors with CE + Dice (:func:`pretrain`), and priors of images they never saw
(:func:`out_of_fold`).

Second stage (:class:`Alternation`): refiner and segmentor in turns, each with the other frozen. The
refiner's step sees the averaged segmentor: its features, and for a share of the crops its prior.
The segmentor's step minimises L_CE + L_Dice + lambda_Diff L_Diff through the averaged refiner. Each
loss takes one forward of the refiner.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from napari_hidiff.diffusion import process_of
from napari_hidiff.diffusion.samplers import clamp_fixed
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import networks
from napari_hidiff.networks.refiner import Refiner, probabilities
from napari_hidiff.networks.segmentor import Segmentor
from napari_hidiff.training.case_cache import Stored, save_array
from napari_hidiff.training.checkpoint import load_checkpoint, save_checkpoint
from napari_hidiff.training.crops import Crops, batches
from napari_hidiff.training.learner import Learner, gathered, real_type, widened
from napari_hidiff.training.losses import (
    Noisy,
    RefinerLoss,
    draw,
    one_hot,
    segmentation_loss,
    to_device,
    walked,
)
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.run import Run
from napari_hidiff.training.simulated_annotator import Answer, play, rounds_of
from napari_hidiff.training.universal.rounds import play_on_device
from napari_hidiff.training.validation import first_mask, searched

SAVE_EVERY = 200
PIXELS_AT_ONCE = 2**20
"""Pixels of one batch of planes for the segmentor."""
REFINER_NOISE, SEGMENTOR_NOISE, WALK_NOISE = 1, 2, 4


def pretrain(
    name: str, stage: int, iterations: int, cases: Sequence[Stored], run: Run
) -> Segmentor:
    """Train one segmentor on ``cases`` and return its averaged weights, frozen.

    Its state is in ``name.pt`` of the run: a finished one is loaded, an interrupted one continues.
    ``stage`` determines its initial weights and its crops.
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
        state = load_checkpoint(file)
        learner.load_state_dict(state["learner"])
        done = state["iteration"]
    loss = segmentation_loss(classes)
    crops = Crops(cases, recipe, run.card, stage)
    with run.watch.progress(f"segmentor {name}", done, iterations) as advance:
        groups = batches(crops, done, iterations, **run.place)
        for iteration, group in enumerate(groups, done + 1):
            learner.module.train()

            def losses(group: list[dict[str, Tensor]] = group) -> Iterator[Tensor]:
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
                save_checkpoint(file, {"iteration": iteration, "learner": learner.state_dict()})
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
    by_id = {case.id: case for case in cases}
    for fold in range(recipe.folds):
        inside = [case for case in cases if fold_of[case.group] != fold]
        outside = [case for case in cases if fold_of[case.group] == fold]
        if not inside or not outside:
            continue
        segmentor = pretrain(f"fold{fold}", 1 + fold, recipe.fold_iterations, inside, run)
        found = searched(
            first_mask(segmentor), outside, recipe.validate_cases, len(run.card.classes)
        )
        segmentor.threshold = found.threshold
        for case in with_priors(outside, predictor(segmentor), f"priors of fold {fold}", run):
            by_id[case.id] = case
    return [by_id[case.id] for case in cases]


def with_priors(
    cases: Sequence[Stored], predict: Callable[[Stored], np.ndarray], what: str, run: Run
) -> list[Stored]:
    """The cases, with a prior float16 [D, K, H, W] added where missing by the main process."""
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


Batch = dict[str, Tensor]


class Alternation:
    """Both learners and the losses that connect them.

    Attributes
    ----------
    segmentor, refiner : :class:`Learner`.
    """

    def __init__(
        self,
        segmentor: Learner,
        refiner: Learner,
        card: Card,
        recipe: Recipe,
        accelerator: Accelerator,
    ) -> None:
        self.segmentor, self.refiner = segmentor, refiner
        self.recipe, self.classes, self.accelerator = recipe, card.outputs, accelerator
        self.real = real_type(recipe)
        self.process = process_of(card.diffusion)
        self.loss = RefinerLoss(self.process, self.classes, recipe.loss, recipe.posterior)
        self.segmentation = segmentation_loss(self.classes)

    def iterate(self, group: list[Batch], iteration: int) -> dict[str, float]:
        """One refiner update from micro-batches, and a segmentor update in its turn."""
        self.refiner.module.train()
        losses = self._refiner_losses(
            group, rounds_of(self.recipe.rounds, self.recipe.seed, iteration)
        )
        values = {"refiner": self.refiner.step(losses, len(group))}
        every = self.recipe.segmentor_every
        if every and iteration % every == 0:
            self.segmentor.module.train()
            values["segmentor"] = self.segmentor.step(self._segmentor_losses(group), len(group))
        return values

    def _refiner_losses(self, group: list[Batch], rounds: int) -> Iterator[Tensor]:
        for batch in group:
            batch = to_device(batch, self.accelerator.device, self.real)
            image, fixed, y0 = batch["image"], batch["fixed"], self._y0(batch)
            with torch.no_grad(), self.accelerator.autocast():
                logits, features = self.segmentor.averaged(image)
            own = batch["own"][:, None, None, None]
            prior = torch.where(own, probabilities(widened(logits)), batch["prior"])
            seed, numbers = self.recipe.seed, batch["number"]
            answer = self._at_the_end(image, features, prior)
            paint = play if image.device.type == "cpu" else play_on_device
            fixed = paint(rounds, answer, prior, batch["truth"], fixed, numbers, seed)
            prior = clamp_fixed(prior, fixed)
            noisy = self._draw(y0, prior, fixed, numbers, REFINER_NOISE)
            share, stream = self.recipe.trajectory, seed * 8 + WALK_NOISE
            noisy = walked(self.process, answer, noisy, prior, fixed, share, numbers, stream)
            network, plain = self.refiner.module, self.refiner.plain
            yield self._l_diff(network, plain, image, features, prior, fixed, y0, noisy)

    def _segmentor_losses(self, group: list[Batch]) -> Iterator[Tensor]:
        for batch in group:
            batch = to_device(batch, self.accelerator.device, self.real)
            image, y0 = batch["image"], self._y0(batch)
            free = torch.full_like(batch["truth"], -1)
            with self.accelerator.autocast():
                logits, features = self.segmentor.module(image)
            logits = widened(logits)
            prior = probabilities(logits)
            noisy = self._draw(y0, prior.detach(), free, batch["number"], SEGMENTOR_NOISE)
            frozen = self.refiner.averaged
            diffusion = self._l_diff(frozen, frozen, image, features, prior, free, y0, noisy)
            plain = self.segmentation(gathered(logits), gathered(y0))
            yield plain + self.recipe.lambda_diff * diffusion

    def _at_the_end(self, image: Tensor, features: list[Tensor], prior: Tensor) -> Answer:
        """The averaged refiner's y0_hat at T for a state and the pixels fixed so far."""
        refiner = self.refiner.averaged
        assert isinstance(refiner, Refiner)

        def answer(y: Tensor, fixed: Tensor) -> Tensor:
            with self.accelerator.autocast():
                condition = refiner.condition(image, clamp_fixed(prior, fixed), fixed, features)
                return probabilities(widened(refiner(y, self.process.steps, condition)))

        return answer

    def _l_diff(
        self,
        refiner: nn.Module,
        plain: nn.Module,
        image: Tensor,
        features: list[Tensor],
        prior: Tensor,
        fixed: Tensor,
        y0: Tensor,
        noisy: Noisy,
    ) -> Tensor:
        # ``refiner`` may be a wrapper without the network's methods, which ``plain`` has.
        assert isinstance(plain, Refiner)
        with self.accelerator.autocast():
            condition = plain.condition(image, prior, fixed, features)
            logits = refiner(noisy.y_t, noisy.t, condition)
        parts = (widened(logits), y0, noisy.y_t, prior, noisy.t)
        out: Tensor = self.loss(*(gathered(part) for part in parts))
        return out

    def _draw(self, y0: Tensor, prior: Tensor, fixed: Tensor, numbers: Tensor, use: int) -> Noisy:
        stream = self.recipe.seed * 8 + use
        return draw(self.process, y0, prior, fixed, self.recipe.one_step, numbers, stream)

    def _y0(self, batch: Batch) -> Tensor:
        return one_hot(batch["truth"], self.classes).to(self.real)
