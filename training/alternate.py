"""The second stage: refiner and segmentor in turns, each with the other frozen.

The refiner's step sees the averaged segmentor (its features, and for a share of the crops its
prior); the segmentor's step is pulled by L_CE + L_Dice + lambda_Diff L_Diff through the averaged
refiner. Each loss takes one forward of the refiner.
"""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor

from napari_hidiff.bernoulli import BernoulliDiffusion
from napari_hidiff.card import Card
from napari_hidiff.network import probabilities
from napari_hidiff.refine import stamp
from napari_hidiff.training.learner import Learner
from napari_hidiff.training.losses import RefinerLoss, segmentation_loss
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.targets import draw, one_hot

Batch = dict[str, Tensor]
NOISE_STREAM = 7919


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
        self.process = BernoulliDiffusion(**card.diffusion)
        self.loss = RefinerLoss(self.process, self.classes, recipe.loss, recipe.posterior)
        self.segmentation = segmentation_loss(self.classes)

    def iterate(self, group: list[Batch], iteration: int) -> dict[str, float]:
        """One refiner update from micro-batches, and a segmentor update when it is its turn."""
        seed = (self.recipe.seed * NOISE_STREAM + iteration) % 2**63
        generator = torch.Generator().manual_seed(seed)
        self.refiner.module.train()
        values = {"refiner": self.refiner.step(self._refiner_losses(group, generator), len(group))}
        every = self.recipe.segmentor_every
        if every and iteration % every == 0:
            self.segmentor.module.train()
            losses = self._segmentor_losses(group, generator)
            values["segmentor"] = self.segmentor.step(losses, len(group))
        return values

    def _refiner_losses(self, group: list[Batch], generator: torch.Generator) -> Iterator[Tensor]:
        for batch in group:
            image, y0, fixed = self._unpack(batch)
            with torch.no_grad(), self.accelerator.autocast():
                logits, features = self.segmentor.averaged(image)
            own = batch["own"].to(image.device)[:, None, None, None]
            given = batch["prior"].to(image.device)
            prior = stamp(torch.where(own, probabilities(logits.float()), given), fixed)
            noisy = draw(self.process, y0, prior, fixed, self.recipe.one_step, generator)
            yield self._l_diff(self.refiner.module, image, features, prior, fixed, y0, noisy)

    def _segmentor_losses(self, group: list[Batch], generator: torch.Generator) -> Iterator[Tensor]:
        for batch in group:
            image, y0, _ = self._unpack(batch)
            free = torch.full_like(batch["truth"], -1).to(image.device)
            with self.accelerator.autocast():
                logits, features = self.segmentor.module(image)
            prior = probabilities(logits.float())
            noisy = draw(self.process, y0, prior.detach(), free, self.recipe.one_step, generator)
            diffusion = self._l_diff(self.refiner.averaged, image, features, prior, free, y0, noisy)
            yield self.segmentation(logits.float(), y0) + self.recipe.lambda_diff * diffusion

    def _l_diff(self, refiner, image, features, prior, fixed, y0, noisy) -> Tensor:
        # The condition is made by a method, which a distributed wrapper does not forward.
        make = self.accelerator.unwrap_model(refiner).condition
        with self.accelerator.autocast():
            logits = refiner(noisy.y_t, noisy.t, make(image, prior, fixed, features))
        return self.loss(logits.float(), y0, noisy.y_t, prior, noisy.t)

    def _unpack(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        device = self.accelerator.device
        y0 = one_hot(batch["truth"].to(device), self.classes)
        return batch["image"].to(device), y0, batch["fixed"].to(device)
