"""The two stages of training: segmentors, then refiner and segmentor in alternation.

First stage: segmentors with CE + Dice (:func:`pretrain`), and priors of images they never saw
(:func:`out_of_fold`).

Second stage (:class:`Alternation`): refiner and segmentor in turns, each with the other frozen. The
refiner's step sees the averaged segmentor: its features, and for a share of the crops its prior.
The segmentor's step minimises L_CE + L_Dice + lambda_Diff L_Diff through the averaged refiner. Each
loss takes one forward of the refiner.
"""

from collections.abc import Callable, Sequence
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
from napari_hidiff.networks.pretrained import start_from_imagenet
from napari_hidiff.networks.refiner import Refiner, probabilities
from napari_hidiff.networks.segmentor import Segmentor
from napari_hidiff.training.case_cache import Stored, save_array
from napari_hidiff.training.checkpoint import load_checkpoint, save_checkpoint
from napari_hidiff.training.crops import Crops, batches
from napari_hidiff.training.device.graphs import Captured, own_stream
from napari_hidiff.training.device.rounds import Rounds
from napari_hidiff.training.device.updates import GradientStep, learner_for
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
from napari_hidiff.training.simulated_annotator import play, rounds_of
from napari_hidiff.training.validation import first_mask, searched

SAVE_EVERY = 200
PIXELS_AT_ONCE = 2**20
"""Pixels of one batch of planes for the segmentor."""
REFINER_NOISE, SEGMENTOR_NOISE, WALK_NOISE = 1, 2, 4


def pretrain(
    name: str,
    stage: int,
    iterations: int,
    cases: Sequence[Stored],
    run: Run,
    begin: nn.Module | None = None,
) -> Segmentor:
    """Train one segmentor on ``cases`` and return its averaged weights, frozen.

    Its state is in ``name.pt`` of the run: a finished one is loaded, an interrupted one continues.
    ``stage`` determines its initial weights and its crops. begin : a segmentor of the card to begin
    with; None = that of the model the run starts from, if any.
    """
    recipe, classes = run.recipe, run.card.outputs
    torch.manual_seed(recipe.seed * 1000 + stage)
    segmentor, _ = networks(run.card)
    if begin is None and run.start is not None:
        begin = run.start.segmentor
    if begin is None:
        start_from_imagenet(segmentor)
    else:
        segmentor.load_state_dict(begin.state_dict())
    device, real = run.accelerator.device, real_type(recipe)
    learner = learner_for(
        segmentor, recipe.pretrain_lr, iterations, recipe, run.card, run.accelerator
    )
    update = GradientStep(learner, segmentor_loss(learner, classes))
    file, done = run.folder / f"{name}.pt", 0
    if file.exists():
        state = load_checkpoint(file)
        learner.load_state_dict(state["learner"])
        done = state["iteration"]
    crops = Crops(cases, recipe, run.card, stage)
    with run.watch.progress(f"segmentor {name}", done, iterations) as advance:
        groups = batches(crops, done, iterations, **run.place)
        for iteration, group in enumerate(groups, done + 1):
            with own_stream(device):
                moved = (to_device(batch, device, real) for batch in group)
                pairs = ((batch["image"], batch["truth"]) for batch in moved)
                value = update(pairs, len(group))
            advance(loss=value)
            run.watch.scalar(f"segmentor/{name}/loss", value, iteration)
            stop = run.watch.stopping
            if run.main and (iteration % SAVE_EVERY == 0 or iteration == iterations or stop):
                save_checkpoint(file, {"iteration": iteration, "learner": learner.state_dict()})
            if stop:
                run.watch.stopped(f"segmentor {name}", iteration)
    if update.recorded.note:
        run.watch.say(update.recorded.note)
    return cast(Segmentor, learner.averaged)


def segmentor_loss(learner: Learner, classes: int) -> Callable[[Tensor, Tensor], Tensor]:
    """(image [B, C, H, W], truth int64 [B, H, W]) -> L_CE + L_Dice, a scalar."""
    measure = segmentation_loss(classes)

    def loss(image: Tensor, truth: Tensor) -> Tensor:
        with learner.accelerator.autocast():
            logits, _ = learner.module(image)
        target = one_hot(truth, classes).to(image.dtype)
        out: Tensor = measure(gathered(widened(logits)), gathered(target))
        return out

    return loss


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
        depth, _, height, width = case.shape
        at_once = max(1, PIXELS_AT_ONCE // (height * width))
        parts: list[Tensor] = []
        with torch.inference_mode():
            for first in range(0, depth, at_once):
                planes = [case.plane(at) for at in range(first, min(first + at_once, depth))]
                logits, _ = segmentor(torch.from_numpy(np.stack(planes)).to(like))
                parts.append(probabilities(widened(logits)).float().cpu())
        return torch.cat(parts).numpy()

    return predict


Batch = dict[str, Tensor]


class Alternation:
    """Both learners and the losses that connect them. A GPU replays the parts of an update.

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
        device, replays = accelerator.device, refiner.captured
        self.see = Captured(self._see, device, replays=replays)
        self.answer = Captured(self._answer, device, replays=replays)
        # A processor paints faster sample by sample.
        self.rounds = None if device.type == "cpu" else Rounds(device, recipe.seed, replays)
        self.refine = GradientStep(refiner, self._refiner_loss)
        self.segment = GradientStep(segmentor, self._segmentor_loss)

    @property
    def notes(self) -> list[str]:
        """Why parts could not be recorded."""
        parts = [self.see, self.answer, self.refine.recorded, self.segment.recorded]
        parts += [self.rounds.slender, self.rounds.stroke] if self.rounds else []
        return [part.note for part in parts if part.note]

    def iterate(self, group: list[Batch], iteration: int) -> dict[str, float]:
        """One refiner update from micro-batches, and a segmentor update in its turn."""
        rounds = rounds_of(self.recipe.rounds, self.recipe.seed, iteration)
        every, count = self.recipe.segmentor_every, len(group)
        with own_stream(self.accelerator.device):
            values = {"refiner": self.refine((self._prompted(b, rounds) for b in group), count)}
            if every and iteration % every == 0:
                values["segmentor"] = self.segment((self._unprompted(b) for b in group), count)
        return values

    def _prompted(self, batch: Batch, rounds: int) -> tuple[Tensor, ...]:
        """What the refiner learns from, after some strokes: arguments of its loss."""
        batch = to_device(batch, self.accelerator.device, self.real)
        image, truth, numbers = (batch[name] for name in ("image", "truth", "number"))
        prior, *features = self.see(image, batch["own"], batch["prior"])

        def answer(y: Tensor, fixed: Tensor) -> Tensor:
            out: Tensor = self.answer(y, fixed, image, prior, *features)
            return out

        told = (rounds, answer, prior, truth, batch["fixed"], numbers)
        fixed = self.rounds.play(*told) if self.rounds else play(*told, self.recipe.seed)
        return image, truth, fixed, numbers, prior, *features

    def _unprompted(self, batch: Batch) -> tuple[Tensor, ...]:
        """What the segmentor learns from."""
        batch = to_device(batch, self.accelerator.device, self.real)
        return batch["image"], batch["truth"], batch["number"]

    @torch.no_grad()
    def _see(self, image: Tensor, own: Tensor, prior: Tensor) -> tuple[Tensor, ...]:
        """The priors, for some of the crops the averaged segmentor's own, and its features."""
        with self.accelerator.autocast():
            logits, features = self.segmentor.averaged(image)
        prior = torch.where(own[:, None, None, None], probabilities(widened(logits)), prior)
        return prior, *features

    @torch.no_grad()
    def _answer(
        self, y: Tensor, fixed: Tensor, image: Tensor, prior: Tensor, *features: Tensor
    ) -> Tensor:
        """The averaged refiner's y0_hat at T for a state and the pixels fixed so far."""
        refiner = self.refiner.averaged
        assert isinstance(refiner, Refiner)
        with self.accelerator.autocast():
            condition = refiner.condition(image, clamp_fixed(prior, fixed), fixed, features)
            return probabilities(widened(refiner(y, self.process.steps, condition)))

    def _refiner_loss(
        self,
        image: Tensor,
        truth: Tensor,
        fixed: Tensor,
        numbers: Tensor,
        prior: Tensor,
        *features: Tensor,
    ) -> Tensor:
        def answer(y: Tensor, given: Tensor) -> Tensor:
            return self._answer(y, given, image, prior, *features)

        y0, prior = self._y0(truth), clamp_fixed(prior, fixed)
        noisy = self._draw(y0, prior, fixed, numbers, REFINER_NOISE)
        share, stream = self.recipe.trajectory, self.recipe.seed * 8 + WALK_NOISE
        noisy = walked(self.process, answer, noisy, prior, fixed, share, numbers, stream)
        network, plain = self.refiner.module, self.refiner.plain
        return self._l_diff(network, plain, image, features, prior, fixed, y0, noisy)

    def _segmentor_loss(self, image: Tensor, truth: Tensor, numbers: Tensor) -> Tensor:
        y0, free = self._y0(truth), torch.full_like(truth, -1)
        with self.accelerator.autocast():
            logits, features = self.segmentor.module(image)
        logits = widened(logits)
        prior = probabilities(logits)
        noisy = self._draw(y0, prior.detach(), free, numbers, SEGMENTOR_NOISE)
        frozen = self.refiner.averaged
        diffusion = self._l_diff(frozen, frozen, image, features, prior, free, y0, noisy)
        plain: Tensor = self.segmentation(gathered(logits), gathered(y0))
        return plain + self.recipe.lambda_diff * diffusion

    def _l_diff(
        self,
        refiner: nn.Module,
        plain: nn.Module,
        image: Tensor,
        features: Sequence[Tensor],
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

    def _y0(self, truth: Tensor) -> Tensor:
        return one_hot(truth, self.classes).to(self.real)
