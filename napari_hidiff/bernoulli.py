"""The Bernoulli diffusion process of HiDiff; it never sees a network.

Source: Chen et al., "HiDiff: Hybrid Diffusion Framework for Medical Image Segmentation", IEEE TMI
2024, arXiv 2407.03548. Equation numbers are the paper's. Time runs t = 1..T; index 0 is the clean
mask.

=============  ===============================================================================
variable       symbol and meaning
=============  ===============================================================================
``y0``         y_0, the clean mask in {0, 1} (or its probability, where the text says so)
``y_t``        y_t, the noisy mask in {0, 1} at time t
``y0_hat``     the network's probability of y_0 = 1
``prior``      f(x), the segmentor's probability; the process ends in B(f) at t = T
``alphas_bar`` abar_t = prod of (1 - beta_i), i = 1..t, with abar_0 = 1
=============  ===============================================================================
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

SCHEDULES = ("cosine", "cosine-unsquared", "alpha-bar-linear", "linear")
POSTERIORS = ("mixture", "plugin")
CENTRES = ("prior", "even")

Value = Tensor | float
Time = Tensor | int


class BernoulliDiffusion:
    """Forward and reverse process between a mask and a prior.

    Tensors or floats go in (any broadcastable shapes; masks may be integers), tensors of the
    inputs' float dtype come out (float64 if all are Python numbers). A time is an ``int`` or an
    ``int64`` tensor [B] that belongs to the first axis of the other arguments.

    Parameters
    ----------
    steps : T, the number of diffusion steps, at least 1.
    schedule : ``cosine`` (abar proportional to cos^2), ``cosine-unsquared``, ``alpha-bar-linear``
        (abar_t = 1 - t/T) or ``linear`` (betas linear from .1/T to 20/T).
    s : offset of the cosine schedules.
    centre : what the process ends in at T: the ``prior``, or ``even`` chances for every class,
        1/2 for one foreground class and 1/K for K (BerDiff).

    Attributes
    ----------
    alphas_bar : float64 CPU tensor [T + 1], ``alphas_bar[0] == 1``.

    Raises
    ------
    ValueError : unknown schedule or centre, ``steps`` < 1, or a beta above 1 (``linear`` needs
        T >= 20).
    """

    def __init__(
        self, steps: int = 10, schedule: str = "cosine", s: float = 0.008, centre: str = "prior"
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        if centre not in CENTRES:
            raise ValueError(f"centre must be one of {CENTRES}, not {centre!r}")
        self.steps, self.schedule, self.s, self.centre = steps, schedule, s, centre
        betas = _betas(steps, schedule, s)
        self.alphas_bar = torch.cumprod(torch.cat([betas.new_ones(1), 1 - betas]), 0)

    def timesteps(self, n: int) -> list[int]:
        """``n`` strictly decreasing times; the first is T, the last is 1 when n > 1.

        Refinement that follows them always ends in time 0. ValueError unless 1 <= n <= T.
        """
        if not 1 <= n <= self.steps:
            raise ValueError(f"the number of steps must lie in 1..{self.steps}, not {n}")
        return [round(t) for t in torch.linspace(self.steps, 1, n, dtype=torch.float64).tolist()]

    def end(self, prior: Tensor) -> Tensor:
        """The mean of y_T [..., K, H, W] for a prior of that shape, the f of every formula here."""
        if self.centre == "prior":
            return prior
        return torch.full_like(prior, 1 / max(2, prior.shape[-3]))

    def forward_mean(self, y0: Value, prior: Value, t: Time) -> Tensor:
        """Mean of q(y_t | y_0, f) = B(abar_t y_0 + (1 - abar_t) f), equation (6)."""
        y0, prior = _tensors(y0, prior)
        abar = self._alpha_bar(t, y0, prior)
        return abar * y0 + (1 - abar) * prior

    def posterior_mean(
        self, y0: Value, y_t: Value, prior: Value, t: Time, s: Time | None = None
    ) -> Tensor:
        """Mean of q(y_s | y_t, y_0, f), equation (7); s is t - 1 unless a sub-sequence skips.

        Normalises over {0, 1} the product of
        {a [1 - y_t, y_t] + (1 - a) |1 - y_t - f|} and {abar_s [1 - y_0, y_0] + (1 - abar_s)
        [1 - f, f]} with a = abar_t / abar_s. Exact in the precision of the input: where both
        terms are 0 (an impossible event) the answer is ``y0``; at s = 0 it is ``y0``.
        """
        y0, y_t, prior = _tensors(y0, y_t, prior)
        s = t - 1 if s is None else s
        abar_s = self._alpha_bar(s, y0, y_t, prior)
        a = self._alpha_bar(t, y0, y_t, prior) / abar_s
        off_path = (1 - a) * (1 - y_t - prior).abs()
        one = (a * y_t + off_path) * (abar_s * y0 + (1 - abar_s) * prior)
        zero = (a * (1 - y_t) + off_path) * (abar_s * (1 - y0) + (1 - abar_s) * (1 - prior))
        total = one + zero
        # The division must never see 0, even where its result is discarded: its gradient is NaN.
        undecided = (total == 0) | (abar_s == 1)
        return torch.where(undecided, y0, one / torch.where(total == 0, 1, total))

    def reverse_mean(
        self,
        y0_hat: Value,
        y_t: Value,
        prior: Value,
        t: Time,
        posterior: str = "mixture",
        s: Time | None = None,
    ) -> Tensor:
        """Mean of p(y_s | y_t, f), equation (9), for a *soft* ``y0_hat``.

        ``mixture`` is exact: y0_hat q(y_s | y_t, 1) + (1 - y0_hat) q(y_s | y_t, 0). ``plugin`` is
        the paper's F_C, equation (7) with ``y0_hat`` in the place of ``y0``; it counts y_t twice
        when the network has already seen y_t.
        """
        y0_hat, y_t, prior = _tensors(y0_hat, y_t, prior)
        if posterior == "plugin":
            return self.posterior_mean(y0_hat, y_t, prior, t, s)
        if posterior != "mixture":
            raise ValueError(f"posterior must be one of {POSTERIORS}, not {posterior!r}")
        ones = torch.ones_like(y0_hat)
        given_one = self.posterior_mean(ones, y_t, prior, t, s)
        given_zero = self.posterior_mean(1 - ones, y_t, prior, t, s)
        return y0_hat * given_one + (1 - y0_hat) * given_zero

    def ddim_mean(self, y0_hat: Value, y_t: Value, t: Time, s: Time) -> Tensor:
        """Mean of the DDIM step t -> s: sigma y_t + (1 - sigma) y0_hat, y0_hat itself at s = 0.

        sigma = (1 - abar_s) / (1 - abar_t).
        """
        y0_hat, y_t = _tensors(y0_hat, y_t)
        abar_t, abar_s = self._alpha_bar(t, y0_hat, y_t), self._alpha_bar(s, y0_hat, y_t)
        sigma = (1 - abar_s) / (1 - abar_t)
        return sigma * y_t + (1 - sigma) * y0_hat

    def _alpha_bar(self, t: Time, *others: Tensor) -> Tensor:
        """abar_t, shaped to broadcast along the first axis of ``others``, in their dtype."""
        like = max(others, key=lambda x: x.ndim)
        value = self.alphas_bar[t.cpu() if isinstance(t, Tensor) else t].to(like)
        return value.reshape(value.shape + (1,) * (like.ndim - value.ndim)) if value.ndim else value


def bernoulli(mean: Tensor, generator: torch.Generator) -> Tensor:
    """Draw uint8 values in {0, 1} with the given mean (any shape, any device).

    The uniform noise comes from ``generator`` on the CPU as float32 in the order of the elements
    of ``mean``, so that every engine and device draws the same mask from the same seed. Axes
    before the last four, as the slices [D, S, K, H, W] of a volume, share one draw: each slice
    sees the noise that it would see alone.
    """
    noise = torch.rand(mean.shape[-4:], generator=generator, dtype=torch.float32)
    return (noise.to(mean.device) < mean).to(torch.uint8)


def _tensors(*values: Value) -> list[Tensor]:
    """All arguments as tensors of the float dtype and the device that they share."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    floats = [v.dtype for v in tensors if v.is_floating_point()]
    dtype = floats[0] if floats else torch.float64
    for other in floats[1:]:
        dtype = torch.promote_types(dtype, other)
    device = tensors[0].device if tensors else None
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
