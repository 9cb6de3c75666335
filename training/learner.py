"""A network with what it takes to train it: optimizer, learning rate, averaged weights."""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from napari_hidiff.errors import InputError
from napari_hidiff.networks.binary import BinaryConv2d
from napari_hidiff.training.processes import synchronised

WARMUP = 0.05
GRADIENT_NORM = 1.0


class Learner:
    """AdamW with linear warm-up and cosine decay, and an exponential average of the weights.

    The average covers the buffers (normalisation statistics) too; its decay grows from 0 to
    ``decay``, so that the first weights are forgotten.

    Attributes
    ----------
    plain : the network in training; module : the same as it is called in training (distributed,
    compiled); averaged : its average, frozen, in evaluation mode: what is validated, exported, and
    shown to the other network.

    factor : of the learning rate, by update; :func:`warm_cosine` of ``iterations`` without it.
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float,
        iterations: int,
        weight_decay: float,
        decay: float,
        accelerator: Accelerator,
        real: torch.dtype = torch.float32,
        factor: Callable[[int], float] | None = None,
    ) -> None:
        self.accelerator, self.decay, self.updates = accelerator, decay, 0
        module = module.to(accelerator.device, real)
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(module, multi_avg_fn=self._follow, use_buffers=True)
        self.average.requires_grad_(False).eval()
        self.plain = synchronised(module, accelerator.device.type == "cuda")
        groups = parameter_groups(self.plain, weight_decay)
        fused = accelerator.device.type == "cuda"
        optimizer = torch.optim.AdamW(groups, lr=lr, fused=fused or None)
        self.module, self.optimizer = accelerator.prepare(self.plain, optimizer)
        factor = factor or warm_cosine(iterations)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    @property
    def averaged(self) -> nn.Module:
        return self.average.module

    def step(self, losses: Iterable[Tensor], count: int) -> float:
        """One update from the mean of ``count`` losses, each of which is made, used and freed; the
        mean. InputError, and no update, where it is not finite.

        The sum stays on the device until all are done: reading it makes a GPU wait.
        """
        total = torch.zeros((), device=self.accelerator.device)
        remaining = iter(losses)
        for number in range(count):
            # Gradients travel between processes once, with the last of the losses.
            last = number == count - 1
            with nullcontext() if last else self.accelerator.no_sync(self.module):
                loss = next(remaining)
                self.accelerator.backward(loss / count)
            total += loss.detach() / count
        value = self.finite(total)
        self.update()
        return value

    def finite(self, loss: Tensor) -> float:
        """A loss as a number, which makes a GPU wait; InputError where it is not finite."""
        value = float(loss)
        if not math.isfinite(value):
            raise InputError(
                f"the loss is {value} in update {self.updates + 1}: training cannot go on; "
                "try a lower learning rate, or --precision fp32"
            )
        return value

    def update(self) -> None:
        """One step of the optimizer and of the average, from the gradients that are there."""
        self.accelerator.clip_grad_norm_(self.module.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        self.average.update_parameters(self.plain)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on as if it had never stopped."""
        scaler = self.accelerator.scaler
        return {
            "module": self.plain.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.plain.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.updates = state["updates"]

    def _follow(self, means: Any, now: Any, count: Any) -> None:
        decay = min(self.decay, self.updates / (self.updates + 10))
        get_ema_multi_avg_fn(decay)(means, now, count)


def warm_cosine(iterations: int) -> Callable[[int], float]:
    """Factor of the learning rate: linear warm-up over 5 %, then a cosine down to a hundredth."""
    warmup = max(1, round(iterations * WARMUP))

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        progress = min(1.0, (iteration - warmup) / max(1, iterations - warmup))
        return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2

    return factor


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Only real weight matrices decay; decaying latent binary weights would make signs flip."""
    binary = {id(m.weight) for m in module.modules() if isinstance(m, BinaryConv2d)}
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in module.parameters():
        plain = parameter.ndim < 2 or id(parameter) in binary
        (free if plain else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
