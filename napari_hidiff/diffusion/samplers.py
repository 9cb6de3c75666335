"""Refinement: from a prior to a mask, one generator of steps for plugin, commands and tests.

A sampler is a short generator named after its algorithm. Its arguments are the process, a denoiser
``denoise(y_t [S, K, H, W], t) -> y0_hat [S, K, H, W]``, the prior f and a clamp for the pixels that
the annotator fixed; it is independent of networks, images and the kernel of the process. Noise is
drawn in one order: for y_T first, then one array [S, K, H, W] per step, over the whole image grid.
Slices of a volume run together as one more axis in front of all of these, and share the noise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.diffusion.process import Process, noise_for
from napari_hidiff.masks import EPSILON, mask_of

Denoiser = Callable[[Tensor, int], Tensor]
Clamp = Callable[[Tensor], Tensor]
Noise = Callable[[], Tensor]
State = tuple[int, Tensor, Tensor]


@dataclass(frozen=True)
class Step:
    """One step of a refinement, as shown to the annotator.

    index, total : the number of this step, from 1, and the number of all.
    t : the time of the denoised state (the prior is not a step).
    sample : uint8 [S, K, H, W], the masks after the step, each channel on its own (real-valued
        states rounded to 0 or 1).
    each : float32 [S, K, H, W], y0_hat of every sample.
    probability : float32 [K, H, W], its mean over the samples; what *Step* shows.
    engine : ``packed`` or ``torch``.
    """

    index: int
    total: int
    t: int
    sample: np.ndarray
    each: np.ndarray
    probability: np.ndarray
    engine: str = "torch"

    @property
    def mask(self) -> np.ndarray:
        """The mask of ``probability``, uint8 [H, W]."""
        return mask_of(self.probability)


@dataclass(frozen=True)
class Result:
    """A finished refinement; arrays as in :class:`Step`.

    mask : uint8 [H, W]; uncertainty : float32 [H, W], entropy of ``probability`` in nats;
    engine : ``packed`` or ``torch``, as really run.
    """

    mask: np.ndarray
    probability: np.ndarray
    uncertainty: np.ndarray
    steps: list[Step]
    engine: str


def one_step(process: Process, denoise: Denoiser, prior: Tensor, clamp: Clamp) -> Iterator[State]:
    """One forward at T from y_T = [f >= .5] (argmax for K > 1); no randomness."""
    y0_hat = clamp(denoise(clamp(to_mask(prior)), process.steps))
    yield process.steps, to_mask(y0_hat), y0_hat


def ddim(
    process: Process,
    denoise: Denoiser,
    begin: Tensor,
    prior: Tensor,
    clamp: Clamp,
    times: list[int],
    noise: Noise,
) -> Iterator[State]:
    """DDIM from the state ``begin`` along ``times``, which end in 0."""
    y = clamp(begin)
    for t, s in pairwise([*times, 0]):
        y0_hat = clamp(denoise(y, t))
        y = clamp(process.ddim(y0_hat, y, t, s, noise()))
        yield t, y, y0_hat


def ancestral(
    process: Process,
    denoise: Denoiser,
    begin: Tensor,
    prior: Tensor,
    clamp: Clamp,
    times: list[int],
    noise: Noise,
) -> Iterator[State]:
    """Ancestral sampling, the reverse process itself; arguments as for :func:`ddim`."""
    y = clamp(begin)
    for t, s in pairwise([*times, 0]):
        y0_hat = clamp(denoise(y, t))
        y = clamp(process.ancestral(y0_hat, y, prior, t, s, noise()))
        yield t, y, y0_hat


def stream(
    process: Process,
    denoise: Denoiser,
    prior: Tensor,
    fixed: Tensor,
    sampler: str,
    steps: int,
    samples: int,
    seed: int,
    start: tuple[Tensor, int] | None = None,
) -> Iterator[Step]:
    """The steps of one refinement.

    start : a mask [K, H, W] in {0, 1}, noised by the process, and the time at which a sampler of
        several steps begins with it; None = the start of the process, at T.

    prior : [K, H, W] with fixed pixels clamped (:func:`clamp_fixed`), or [D, K, H, W]; the arrays
        of a step then have this axis in front, too. fixed : integer [H, W], -1 = free.
    ``sampler`` is ``one-step`` (which needs neither steps nor samples), ``ddim`` or ``ancestral``.
    A fixed pixel of label u is u in y_t and y0_hat at every time: a pixel without noise, like a
    Bernoulli one with f = u by equation (6).
    """

    def clamp(x: Tensor) -> Tensor:
        return clamp_fixed(x, fixed)

    def guarded(y_t: Tensor, t: int) -> Tensor:
        return denoise(y_t, t).clamp(EPSILON, 1 - EPSILON)

    generator = torch.Generator().manual_seed(seed)
    soft = prior.clamp(EPSILON, 1 - EPSILON)
    if sampler == "one-step":
        times = [process.steps]
        states = one_step(process, guarded, soft.unsqueeze(-4), clamp)
    else:
        times = process.timesteps(steps)
        many = soft.unsqueeze(-4).expand(*soft.shape[:-3], samples, *soft.shape[-3:])

        def noise() -> Tensor:
            return noise_for(many, generator)

        if start is None:
            begin = process.start(many, noise())
        else:
            mask, at = start
            times = [at, *(t for t in times if t < at)]
            begin = process.noisy(mask.unsqueeze(-4), many, at, noise())
        run = {"ddim": ddim, "ancestral": ancestral}[sampler]
        states = run(process, guarded, begin, many, clamp, times, noise)
    for index, (t, sample, y0_hat) in enumerate(states, 1):
        shown = (sample >= 0.5).to(torch.uint8), y0_hat.float(), y0_hat.mean(-4).float()
        masks, each, probability = fetch(*shown)
        yield Step(index, len(times), t, masks, each, probability)


def fetch(*tensors: Tensor) -> list[np.ndarray]:
    """Tensors as arrays; from a GPU all together, in one wait."""
    if tensors[0].device.type != "cuda":
        return [x.cpu().numpy() for x in tensors]
    pinned = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in tensors]
    for here, there in zip(pinned, tensors, strict=True):
        here.copy_(there, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [x.numpy().copy() for x in pinned]  # pinned memory is scarce, a step may be kept


def clamp_fixed(x: Tensor, fixed: Tensor) -> Tensor:
    """x [..., K, H, W] with fixed pixels set to their class.

    fixed : integer [H, W] or [B, H, W], -1 = free. For K = 1 the value is the label (0 or 1),
    otherwise the channels become one-hot.
    """
    fixed = fixed.unsqueeze(-3)
    if x.shape[-3] == 1:
        value = fixed
    else:
        value = (fixed == torch.arange(x.shape[-3], device=x.device)[:, None, None]).to(fixed.dtype)
    return torch.where(fixed >= 0, value.to(x.dtype), x)


def to_mask(probability: Tensor) -> Tensor:
    """[..., K, H, W] probabilities as a mask in {0, 1}: >= .5, or one-hot argmax for K > 1."""
    if probability.shape[-3] == 1:
        return (probability >= 0.5).to(probability.dtype)
    winner = probability.argmax(-3, keepdim=True)
    return torch.zeros_like(probability).scatter_(-3, winner, 1)
