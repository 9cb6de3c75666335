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

import torch
from torch import Tensor

from napari_hidiff.diffusion.process import Process, Time, Value, noise_for, tensors

POSTERIORS = ("mixture", "plugin")
CENTRES = ("prior", "even")


class BernoulliDiffusion(Process):
    """Forward and reverse process between a mask and a prior.

    Tensors or floats go in (any broadcastable shapes; masks may be integers), tensors of the
    inputs' float dtype come out (float64 if all are Python numbers). A time is an ``int`` or an
    ``int64`` tensor [B] that belongs to the first axis of the other arguments.

    Parameters
    ----------
    steps, schedule, s : see :class:`~napari_hidiff.diffusion.process.Process`.
    centre : the end of the process at T: the ``prior``, or ``even``, the uniform distribution,
        1/2 for one foreground class and 1/K for K (BerDiff).

    Attributes
    ----------
    alphas_bar : float64 CPU tensor [T + 1], ``alphas_bar[0] == 1``.

    Raises
    ------
    ValueError : unknown schedule or centre, ``steps`` < 1, or a beta above 1 (``linear`` needs
        T >= 20).
    """

    binary = True

    def __init__(
        self, steps: int = 10, schedule: str = "cosine", s: float = 0.008, centre: str = "prior"
    ) -> None:
        super().__init__(steps, schedule, s)
        if centre not in CENTRES:
            raise ValueError(f"centre must be one of {CENTRES}, not {centre!r}")
        self.centre = centre

    def start(self, prior: Tensor, noise: Tensor) -> Tensor:
        """y_T ~ B(f), as every state uint8 in {0, 1}."""
        return _ones(self.end(prior), noise)

    def noisy(self, y0: Value, prior: Tensor, t: Time, noise: Tensor) -> Tensor:
        """y_t of equation (6)."""
        return _ones(self.forward_mean(y0, self.end(prior), t), noise)

    def ddim(self, y0_hat: Tensor, y_t: Tensor, t: Time, s: Time, noise: Tensor) -> Tensor:
        """y_s ~ B(sigma y_t + (1 - sigma) y0_hat)."""
        return _ones(self.ddim_mean(y0_hat, y_t, t, s), noise)

    def ancestral(
        self, y0_hat: Tensor, y_t: Tensor, prior: Tensor, t: Time, s: Time, noise: Tensor
    ) -> Tensor:
        """y_s ~ p(y_s | y_t, f), equation (9), exact for a soft ``y0_hat``."""
        return _ones(self.reverse_mean(y0_hat, y_t, self.end(prior), t, s=s), noise)

    def end(self, prior: Tensor) -> Tensor:
        """The mean of y_T [..., K, H, W] for a prior of that shape, the f of every formula here."""
        if self.centre == "prior":
            return prior
        return torch.full_like(prior, 1 / max(2, prior.shape[-3]))

    def forward_mean(self, y0: Value, prior: Value, t: Time) -> Tensor:
        """Mean of q(y_t | y_0, f) = B(abar_t y_0 + (1 - abar_t) f), equation (6)."""
        y0, prior = tensors(y0, prior)
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
        y0, y_t, prior = tensors(y0, y_t, prior)
        s = t - 1 if s is None else s
        abar_s = self._alpha_bar(s, y0, y_t, prior)
        a = self._alpha_bar(t, y0, y_t, prior) / abar_s
        off_path = (1 - a) * (1 - y_t - prior).abs()
        one = (a * y_t + off_path) * (abar_s * y0 + (1 - abar_s) * prior)
        zero = (a * (1 - y_t) + off_path) * (abar_s * (1 - y0) + (1 - abar_s) * (1 - prior))
        total = one + zero
        # No division by 0, even where its result is discarded: its gradient is NaN.
        undecided = (total == 0) | (abar_s == 1)
        return torch.where(undecided, y0, one / total.masked_fill(total == 0, 1))

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
        y0_hat, y_t, prior = tensors(y0_hat, y_t, prior)
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
        y0_hat, y_t = tensors(y0_hat, y_t)
        abar_t, abar_s = self._alpha_bar(t, y0_hat, y_t), self._alpha_bar(s, y0_hat, y_t)
        sigma = (1 - abar_s) / (1 - abar_t)
        return sigma * y_t + (1 - sigma) * y0_hat


def bernoulli(mean: Tensor, generator: torch.Generator) -> Tensor:
    """Draw uint8 values in {0, 1} with the given mean (any shape, any device).

    The noise is that of :func:`~napari_hidiff.diffusion.process.noise_for`.
    """
    return _ones(mean, noise_for(mean, generator))


def _ones(mean: Tensor, noise: Tensor) -> Tensor:
    """uint8, 1 where the uniform noise is below the mean."""
    return (noise < mean).to(torch.uint8)
