"""A network and its training state: optimizer, learning rate, averaged weights; on any processes.

A training may run over several processes: every number is that of the global batch. Losses see the
crops of all processes, and :class:`GlobalBatchNorm2d` their common statistics, so the same global
batch trains the same network on one process or several.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed import nn as collective
from torch.optim.swa_utils import AveragedModel

from napari_hidiff.errors import InputError
from napari_hidiff.networks.binary import BinaryConv2d
from napari_hidiff.training.recipes import PRECISIONS, Recipe

WARMUP = 0.05
GRADIENT_NORM = 1.0


class Learner:
    """AdamW with linear warm-up and cosine decay, and an exponential average of the weights.

    The average covers the buffers (normalisation statistics) too; its decay grows from 0 to
    ``decay``, so that the first weights lose their influence.

    Attributes
    ----------
    plain : the network in training; module : the same, wrapped for training (distributed,
    compiled); averaged : its average, frozen, in evaluation mode: for validation, export, and the
    other network.

    factor : of the learning rate, by update; :func:`warm_cosine` of ``iterations`` without it.
    captured : :meth:`apply` becomes part of a CUDA graph: numbers that change are on the device.
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
        captured: bool = False,
    ) -> None:
        self.accelerator, self.decay, self.updates = accelerator, decay, 0
        module = module.to(accelerator.device, real)
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(module, use_buffers=True)
        self.average.requires_grad_(False).eval()
        self.plain = synchronised(module, accelerator.device.type == "cuda")
        groups = parameter_groups(self.plain, weight_decay)
        self.captured = captured
        self.mixing = torch.ones((), device=accelerator.device, dtype=real)
        rate = torch.tensor(lr, device=accelerator.device) if captured else lr
        optimizer = torch.optim.AdamW(groups, lr=rate, fused=True, capturable=captured)
        self.module, self.optimizer = accelerator.prepare(self.plain, optimizer)
        factor = factor or warm_cosine(iterations)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    @property
    def averaged(self) -> nn.Module:
        return self.average.module

    def step(self, losses: Iterable[Tensor], count: int) -> float:
        """One update from the mean of ``count`` losses, computed one by one; returns the mean.
        InputError, and no update, if it is not finite.

        The sum stays on the device until the end: reading it makes a GPU wait.
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
        value = self.finite(total, self.updates + 1)
        self.update()
        return value

    def finite(self, loss: Tensor, update: int) -> float:
        """The loss of an update as a number, which makes a GPU wait; InputError if it is not
        finite."""
        value = float(loss)
        if not math.isfinite(value):
            raise InputError(
                f"the loss is {value} in update {update}: training cannot go on; "
                "try a lower learning rate, or --precision fp32"
            )
        return value

    def update(self) -> None:
        """One step of the optimizer and of the average, from the current gradients."""
        self.prepare()
        self.apply()
        self.schedule.step()

    def prepare(self) -> None:
        """Count the update, and let the average follow by what the number of updates says."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10)) if self.updates > 1 else 0
        self.mixing.fill_(1 - decay)

    def apply(self) -> None:
        """The device's part of an update, which never waits."""
        self.accelerator.clip_grad_norm_(self.module.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for mean, now in zip(_numbers(self.averaged), _numbers(self.plain), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, self.mixing)
                else:
                    mean.copy_(now)

    def state_dict(self) -> dict[str, Any]:
        """The complete state, so that a resumed run equals an uninterrupted one."""
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
        for group in self.optimizer.param_groups:  # the state may come from another device
            rate = float(group["lr"])
            on_device = torch.tensor(rate, device=self.accelerator.device)
            group |= {"lr": on_device if self.captured else rate, "capturable": self.captured}
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.updates = state["updates"]


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
    """Weight decay on real weight matrices only; on latent binary weights it would flip signs."""
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


def accelerator_for(recipe: Recipe, device: str) -> Accelerator:
    """The device, the processes and the precision of a run.

    InputError: an unknown precision, or a batch that is no multiple of the processes.
    """
    alone = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    # Buffers need no broadcast: their statistics are common already.
    # Foreign networks may have unused parameters.
    distributed = DistributedDataParallelKwargs(
        broadcast_buffers=False, find_unused_parameters=":" in recipe.segmentor
    )
    AcceleratorState._reset_state()  # otherwise the precision of the process's first training stays
    accelerator = Accelerator(
        cpu=alone,
        mixed_precision=mixed_precision(recipe.precision, alone),
        dynamo_backend="inductor" if recipe.compile else None,
        kwargs_handlers=[distributed],
    )
    if recipe.batch % accelerator.num_processes:
        raise InputError(
            f"a batch of {recipe.batch} cannot be divided among {accelerator.num_processes} "
            "processes"
        )
    return accelerator


def mixed_precision(precision: str, cpu: bool) -> str:
    """Accelerate's name of a precision; ``auto`` is bf16 if the device supports it."""
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if precision != "auto":
        return {"fp32": "no", "fp64": "no"}.get(precision, precision)
    if cpu:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16" if native else "no"


def real_type(recipe: Recipe) -> torch.dtype:
    """The dtype of stored weights and images; mixed precision converts on the way."""
    return torch.float64 if recipe.precision == "fp64" else torch.float32


def widened(x: Tensor) -> Tensor:
    """At least float32, for losses and statistics."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def gathered(part: Tensor) -> Tensor:
    """The tensor of the global batch from each process's part, in order; gradients flow back."""
    if not _several():
        return part
    return torch.cat(collective.functional.all_gather(part.contiguous()))


def synchronised(module: nn.Module, cuda: bool) -> nn.Module:
    """The module with batch normalisation over all processes; the keys of its state stay."""
    if not _several():
        return module
    if cuda:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, GlobalBatchNorm2d.like(child))
    return module


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes; torch's own needs a GPU.

    Every process must have the same number of pixels.
    """

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> "GlobalBatchNorm2d":
        """A twin that shares parameters and buffers of an ordinary one."""
        other = cls(norm.num_features, norm.eps, norm.momentum, norm.affine)
        for name, parameter in norm.named_parameters():
            setattr(other, name, parameter)
        for name, buffer in norm.named_buffers():
            setattr(other, name, buffer)
        return other.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = widened(x)
        count = wide.numel() // self.num_features * torch.distributed.get_world_size()
        mean = collective.functional.all_reduce(wide.sum((0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = collective.functional.all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            mean_so_far, variance_so_far = self.running_mean, self.running_var
            assert mean_so_far is not None
            assert variance_so_far is not None
            assert self.momentum is not None
            mean_so_far.lerp_(mean, self.momentum)
            variance_so_far.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        out = centred * scale[:, None, None] + self.bias[:, None, None]
        result: Tensor = out.to(x.dtype)
        return result


def _numbers(module: nn.Module) -> Iterator[Tensor]:
    """Weights and buffers."""
    yield from module.parameters()
    yield from module.buffers()


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
