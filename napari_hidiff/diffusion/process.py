"""The base of all diffusion processes: times, noise schedule, and the interface for samplers.

Source, symbols and equation numbers as in :mod:`napari_hidiff.bernoulli`.
"""

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

SCHEDULES = ("cosine", "cosine-unsquared", "alpha-bar-linear", "linear")

Value = Tensor | float
Time = Tensor | int


class Process(ABC):
    """Forward and reverse process of masks; a clean pixel is 0 or 1 for every kernel.

    The methods below are the interface for samplers and training; none of them draws by itself. In
    them y0, y0_hat, y_t and the prior are [..., K, H, W] of one float dtype (masks may be integers)
    and within (0, 1) where they are probabilities, ``noise`` is uniform in [0, 1), float32 and
    broadcast to them, and a time is an ``int`` or an ``int64`` tensor [B] that belongs to the first
    axis. Each returns a state like y_t.

    Parameters
    ----------
    steps : T, the number of diffusion steps, at least 1.
    schedule : ``cosine`` (abar proportional to cos^2), ``cosine-unsquared``, ``alpha-bar-linear``
        (abar_t = 1 - t/T) or ``linear`` (betas linear from .1/T to 20/T).
    s : offset of the cosine schedules.

    Attributes
    ----------
    alphas_bar : float64 CPU tensor [T + 1], ``alphas_bar[0] == 1``.
    binary : whether states are only 0 and 1.

    Raises
    ------
    ValueError : unknown schedule, ``steps`` < 1, or a beta above 1 (``linear`` needs T >= 20).
    """

    binary: ClassVar[bool]

    def __init__(self, steps: int = 10, schedule: str = "cosine", s: float = 0.008) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        self.steps, self.schedule, self.s = steps, schedule, s
        betas = _betas(steps, schedule, s)
        self.alphas_bar = torch.cumprod(torch.cat([betas.new_ones(1), 1 - betas]), 0)
        self._tables: dict[torch.device, Tensor] = {}

    def timesteps(self, n: int) -> list[int]:
        """``n`` strictly decreasing times; the first is T, the last is 1 when n > 1.

        A refinement along them always ends in time 0. ValueError unless 1 <= n <= T.
        """
        if not 1 <= n <= self.steps:
            raise ValueError(f"the number of steps must lie in 1..{self.steps}, not {n}")
        return [round(t) for t in torch.linspace(self.steps, 1, n, dtype=torch.float64).tolist()]

    @abstractmethod
    def start(self, prior: Tensor, noise: Tensor) -> Tensor:
        """y_T, the start of every sampler of several steps."""

    @abstractmethod
    def noisy(self, y0: Value, prior: Tensor, t: Time, noise: Tensor) -> Tensor:
        """y_t ~ q(y_t | y_0, f)."""

    @abstractmethod
    def ddim(self, y0_hat: Tensor, y_t: Tensor, t: Time, s: Time, noise: Tensor) -> Tensor:
        """y_s of the DDIM step t -> s; at s = 0 it is a draw of y0_hat, or y0_hat itself."""

    @abstractmethod
    def ancestral(
        self, y0_hat: Tensor, y_t: Tensor, prior: Tensor, t: Time, s: Time, noise: Tensor
    ) -> Tensor:
        """y_s of the ancestral step t -> s, by the posterior q(y_s | y_t, y_0)."""

    def _table(self, device: torch.device) -> Tensor:
        """``alphas_bar`` on a device, copied there once: a copy in every step makes a GPU wait."""
        if device not in self._tables:
            known = self.alphas_bar.float() if device.type == "mps" else self.alphas_bar
            self._tables[device] = known.to(device)  # Apple's GPUs have no float64
        return self._tables[device]

    def _alpha_bar(self, t: Time, *others: Tensor) -> Tensor:
        """abar_t, shaped to broadcast along the first axis of ``others``, in their dtype."""
        like = max(others, key=lambda x: x.ndim)
        if isinstance(t, Tensor):
            value = self._table(t.device)[t].to(like)
        else:
            value = like.new_full((), float(self.alphas_bar[t]))
        return value.reshape(value.shape + (1,) * (like.ndim - value.ndim)) if value.ndim else value


def noise_for(like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform noise in [0, 1), float32 of the last four axes of ``like``, on its device.

    It comes from ``generator`` on the CPU in the order of the elements, so that every engine and
    device draws the same mask from the same seed. Axes before the last four, as the slices
    [D, S, K, H, W] of a volume, share one draw: each slice has the same noise as alone.
    """
    # From pinned memory a GPU takes it when its turn comes, and nobody waits.
    pinned = like.device.type == "cuda"
    noise = torch.rand(like.shape[-4:], generator=generator, dtype=torch.float32, pin_memory=pinned)
    return noise.to(like.device, non_blocking=pinned)


def tensors(*values: Value) -> list[Tensor]:
    """All arguments as tensors of their common float dtype and device."""
    arrays = [v for v in values if isinstance(v, Tensor)]
    floats = [v.dtype for v in arrays if v.is_floating_point()]
    dtype = floats[0] if floats else torch.float64
    for other in floats[1:]:
        dtype = torch.promote_types(dtype, other)
    device = arrays[0].device if arrays else None
    return [torch.as_tensor(v, dtype=dtype, device=device) for v in values]


def _betas(steps: int, schedule: str, s: float) -> Tensor:
    """beta_1..beta_T as float64 [T]."""
    if schedule == "linear":
        betas = torch.linspace(0.1 / steps, 20 / steps, steps, dtype=torch.float64)
        if betas.max() > 1:
            raise ValueError(
                f"a linear schedule of {steps} steps has betas up to {float(betas.max()):g}; "
                "betas must not pass 1: use at least 20 steps or the cosine schedule"
            )
        return betas
    if schedule == "alpha-bar-linear":
        curve = [1 - t / steps for t in range(steps + 1)]
        cap = 1.0
    elif schedule in ("cosine", "cosine-unsquared"):
        power = 2 if schedule == "cosine" else 1
        angles = [(t / steps + s) / (1 + s) * math.pi / 2 for t in range(steps + 1)]
        curve = [math.cos(angle) ** power for angle in angles]
        cap = 0.999
    else:
        raise ValueError(f"schedule must be one of {SCHEDULES}, not {schedule!r}")
    capped = [min(1 - after / before, cap) for before, after in pairwise(curve)]
    return torch.tensor(capped, dtype=torch.float64)
