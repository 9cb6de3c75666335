"""A Gaussian diffusion process in the place of the Bernoulli one, to compare them.

Source: Ho et al., "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, and Song et al.,
"Denoising Diffusion Implicit Models", arXiv 2010.02502; times, schedule and abar are those of
:mod:`napari_hidiff.bernoulli`.

=============  ===============================================================================
variable       symbol and meaning
=============  ===============================================================================
``y0``         y_0, the clean mask in {0, 1}; x_0 = 2 y_0 - 1 in the papers
``y_t``        y_t = (1 + x_t) / 2, any real number: .5 + .5 (sqrt(abar_t) x_0 +
               sqrt(1 - abar_t) n) with n ~ N(0, 1)
``y0_hat``     the network's probability of y_0 = 1, and thus the mean of y_0
=============  ===============================================================================
"""

import math

import torch
from torch import Tensor

from napari_hidiff.diffusion.process import Process, Time, Value, tensors


class GaussianDiffusion(Process):
    """Forward and reverse process between a mask and normal noise, without the prior.

    The network still sees the prior, and the one-step pass starts from it. Arguments, attributes
    and errors are those of :class:`~napari_hidiff.diffusion.process.Process`; states have the float
    dtype of the arguments.
    """

    binary = False

    def start(self, prior: Tensor, noise: Tensor) -> Tensor:
        """y_T = .5 + .5 n."""
        return 0.5 + 0.5 * normal(noise).to(prior).expand_as(prior)

    def noisy(self, y0: Value, prior: Tensor, t: Time, noise: Tensor) -> Tensor:
        """y_t ~ N(.5 + sqrt(abar_t) (y_0 - .5), (1 - abar_t) / 4)."""
        y0, prior = tensors(y0, prior)
        abar = self._alpha_bar(t, y0, prior)
        n = normal(noise).to(prior).expand_as(prior)
        return 0.5 + abar.sqrt() * (y0 - 0.5) + (1 - abar).sqrt() * n / 2

    def ddim(self, y0_hat: Tensor, y_t: Tensor, t: Time, s: Time, noise: Tensor) -> Tensor:
        """y_s of y0_hat and the remaining noise in y_t; no randomness."""
        y0_hat, y_t = tensors(y0_hat, y_t)
        abar_t, abar_s = self._alpha_bar(t, y0_hat, y_t), self._alpha_bar(s, y0_hat, y_t)
        clean = y0_hat - 0.5
        left = (y_t - 0.5 - abar_t.sqrt() * clean) / (1 - abar_t).sqrt()
        return 0.5 + abar_s.sqrt() * clean + (1 - abar_s).sqrt() * left

    def ancestral(
        self, y0_hat: Tensor, y_t: Tensor, prior: Tensor, t: Time, s: Time, noise: Tensor
    ) -> Tensor:
        """y_s ~ q(y_s | y_t, y_0 = y0_hat), equations (6) and (7) of DDPM; y0_hat at s = 0."""
        y0_hat, y_t = tensors(y0_hat, y_t)
        mean, variance = self.posterior(y0_hat, y_t, t, s)
        return mean + variance.sqrt() * normal(noise).to(mean).expand_as(mean)

    def posterior(self, y0: Value, y_t: Value, t: Time, s: Time) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(y_s | y_t, y_0), s < t; the variance is the same everywhere."""
        y0, y_t = tensors(y0, y_t)
        abar_t, abar_s = self._alpha_bar(t, y0, y_t), self._alpha_bar(s, y0, y_t)
        a = abar_t / abar_s
        of_y0, of_y_t = abar_s.sqrt() * (1 - a), a.sqrt() * (1 - abar_s)
        mean = 0.5 + (of_y0 * (y0 - 0.5) + of_y_t * (y_t - 0.5)) / (1 - abar_t)
        return mean, (1 - abar_s) * (1 - a) / (1 - abar_t) / 4


def normal(noise: Tensor) -> Tensor:
    """Standard normal noise from uniform float32 in [0, 1), which is a multiple of 2^-24.

    The middles of such cells are never 0 or 1, and float32 holds 2 noise - 1 + 2^-24 exactly: the
    result is symmetric and finite, at most 5.4.
    """
    return torch.erfinv(2 * noise - 1 + 2.0**-24) * math.sqrt(2)
