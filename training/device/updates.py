"""An update of a network from a loss; on a GPU recorded once and replayed, where that works."""

import os
from collections.abc import Callable, Iterable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from napari_hidiff.inference.card import Card
from napari_hidiff.training.device.graphs import Captured
from napari_hidiff.training.learner import Learner, real_type
from napari_hidiff.training.recipes import Recipe

GRAPHS = "NAPARI_HIDIFF_GRAPHS"
"""Environment variable: 0 = updates are not recorded, for a card whose memory that is too much for.
"""


def recorded(
    recipe: Recipe, card: Card, accelerator: Accelerator, say: Callable[[str], None] | None = None
) -> bool:
    """Whether updates are recorded; ``say`` is told in one line why a GPU does not."""
    if accelerator.device.type != "cuda":
        return False
    reasons = {
        f"{GRAPHS} is 0": os.environ.get(GRAPHS) == "0",
        "several processes train together": accelerator.num_processes > 1,
        "an update adds up several batches": recipe.accumulate > 1,
        "torch.compile starts them in its own way": recipe.compile,
        # Its scaler reads the gradients, which a graph cannot wait for.
        "fp16 scales its loss": accelerator.scaler is not None,
        "a segmentor of your own may do another thing at each call": ":" in card.segmentor["name"],
    }
    reason = next((reason for reason, holds in reasons.items() if holds), "")
    if reason and say is not None:
        say(f"updates run kernel by kernel: {reason}")
    return not reason


def learner_for(
    network: nn.Module,
    lr: float,
    iterations: int,
    recipe: Recipe,
    card: Card,
    accelerator: Accelerator,
) -> Learner:
    """A :class:`Learner` of a recipe, for recorded updates where they are."""
    return Learner(
        network,
        lr,
        iterations,
        recipe.weight_decay,
        recipe.ema,
        accelerator,
        real_type(recipe),
        captured=recorded(recipe, card, accelerator),
    )


class GradientStep:
    """Gradients of a loss, clipping, a step of the optimizer and of the average.

    loss : a function of tensors, of the mean over a batch; what :class:`Captured` asks of it holds
        here too. generator : of its random numbers, None for that of the device.

    A GPU replays all of it if the learner is ``captured``.
    """

    def __init__(
        self,
        learner: Learner,
        loss: Callable[..., Tensor],
        generator: torch.Generator | None = None,
    ) -> None:
        self.learner, self.loss = learner, loss
        device = learner.accelerator.device
        self.recorded = Captured(self._learn, device, generator, learner.captured)

    def __call__(self, batches: Iterable[Sequence[Tensor]], count: int) -> float:
        """One update from the mean loss of ``count`` batches, each a loss's arguments; the mean.

        InputError if it is not finite: before the update or, if recorded, after it.
        """
        self.learner.module.train()
        if not self.learner.captured:
            return self.learner.step((self.loss(*batch) for batch in batches), count)
        (batch,) = batches
        return self.learner.finite(self.launch(*batch), self.learner.updates)

    def launch(self, *arguments: Tensor) -> Tensor:
        """One update; the loss stays on the device, which nobody waits for."""
        self.learner.prepare()
        loss: Tensor = self.recorded(*arguments)
        self.learner.schedule.step()
        return loss.clone()

    def _learn(self, *arguments: Tensor) -> Tensor:
        # A recording that failed half-way may have left gradients.
        self.learner.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(*arguments)
        self.learner.accelerator.backward(loss)
        self.learner.apply()
        return loss.detach()
