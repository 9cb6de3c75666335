"""One training over several processes: every number is that of the global batch.

Losses see the crops of all processes and batch normalisation their common statistics, so that the
same global batch trains the same network whether one process holds it or several.
"""

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.distributed import nn as collective

from napari_hidiff.errors import InputError
from napari_hidiff.training.recipes import PRECISIONS, Recipe


def accelerator_for(recipe: Recipe, device: str) -> Accelerator:
    """The device, the processes and the precision of a run.

    InputError: an unknown precision, or a batch that the processes cannot share equally.
    """
    alone = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    # Buffers need no broadcast: their statistics are common already.
    # Networks of others may hold parameters that nothing uses.
    distributed = DistributedDataParallelKwargs(
        broadcast_buffers=False, find_unused_parameters=":" in recipe.segmentor
    )
    AcceleratorState._reset_state()  # it would keep the precision of the process's first training
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
    """Accelerate's name of a precision; ``auto`` is bf16 where the device computes in it."""
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
    """What weights and images are stored in; mixed precision converts on the way."""
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
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, GlobalBatchNorm2d.like(child))
    return module


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes; torch's own needs a GPU.

    Every process must hold equally many pixels.
    """

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> "GlobalBatchNorm2d":
        """With the parameters and buffers (shared, not copied) of an ordinary one."""
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
        return out.to(x.dtype)


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
