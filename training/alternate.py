"""The second stage: refiner and segmentor in turns, each with the other frozen.

The refiner's step sees the averaged segmentor (its features, and for a share of the crops its
prior); the segmentor's step is pulled by L_CE + L_Dice + lambda_Diff L_Diff through the averaged
refiner. Each loss takes one forward of the refiner.
"""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from napari_hidiff.diffusion import process_of
from napari_hidiff.diffusion.samplers import stamp
from napari_hidiff.inference.card import Card
from napari_hidiff.networks import Refiner, probabilities
from napari_hidiff.training.learner import Learner
from napari_hidiff.training.losses import RefinerLoss, segmentation_loss
from napari_hidiff.training.processes import gathered, real_type, widened
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.rounds import Answer, play, rounds_of
from napari_hidiff.training.targets import Noisy, draw, one_hot, to_device, walked

Batch = dict[str, Tensor]
REFINER_NOISE, SEGMENTOR_NOISE, WALK_NOISE = 1, 2, 4


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
        """One refiner update from micro-batches, and a segmentor update when it is its turn."""
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
            fixed = play(rounds, answer, prior, batch["truth"], fixed, numbers, seed)
            prior = stamp(prior, fixed)
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
                condition = refiner.condition(image, stamp(prior, fixed), fixed, features)
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
        # ``refiner`` may be a wrapper, which hands on a call, but no method: ``plain`` has that.
        assert isinstance(plain, Refiner)
        with self.accelerator.autocast():
            condition = plain.condition(image, prior, fixed, features)
            logits = refiner(noisy.y_t, noisy.t, condition)
        parts = (widened(logits), y0, noisy.y_t, prior, noisy.t)
        return self.loss(*(gathered(part) for part in parts))

    def _draw(self, y0: Tensor, prior: Tensor, fixed: Tensor, numbers: Tensor, use: int) -> Noisy:
        stream = self.recipe.seed * 8 + use
        return draw(self.process, y0, prior, fixed, self.recipe.one_step, numbers, stream)

    def _y0(self, batch: Batch) -> Tensor:
        return one_hot(batch["truth"], self.classes).to(self.real)
