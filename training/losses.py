"""Losses of the refiner; each works on logits of y0 and is a few lines.

The flips of the paper are derived: eps = y_t XOR y0, eps_hat = |y_t - y0_hat|.
"""

import torch
from torch import Tensor, nn

from napari_hidiff.diffusion.bernoulli import POSTERIORS, BernoulliDiffusion
from napari_hidiff.diffusion.process import Process
from napari_hidiff.networks import probabilities
from napari_hidiff.probability import EPSILON
from napari_hidiff.training.recipes import LOSSES


def segmentation_loss(classes: int) -> nn.Module:
    """L_CE + L_Dice on logits [B, K, H, W] against one-hot (K > 1) or binary masks."""
    from monai.losses import DiceCELoss

    if classes == 1:
        return DiceCELoss(sigmoid=True, batch=True)
    return DiceCELoss(softmax=True, batch=True)


def bernoulli_kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(B(q) || B(p)) in nats, element by element; q may be 0 or 1, p is kept inside (0, 1)."""
    p = p.clamp(EPSILON, 1 - EPSILON)
    # A plain xlogy(q, q) has an infinite slope at 0, and q moves with the prior that made it.
    low, high = q.clamp(min=EPSILON), (1 - q).clamp(min=EPSILON)
    entropy = torch.special.xlogy(q, low) + torch.special.xlogy(1 - q, high)
    return entropy - torch.special.xlogy(q, p) - torch.special.xlogy(1 - q, 1 - p)


def focal(eps_hat: Tensor, eps: Tensor, gamma: float = 2.0) -> Tensor:
    """-(1 - p)^gamma ln p with p the probability given to the true eps; element by element."""
    p = torch.where(eps > 0.5, eps_hat, 1 - eps_hat).clamp(min=EPSILON)
    return -((1 - p) ** gamma) * p.log()


class RefinerLoss(nn.Module):
    """L_Diff, equation (13), in one of three modes.

    ``ce-dice``: cross entropy + soft Dice on y0. ``kl``: KL(posterior(y0) || reverse mean).
    ``kl-focal``: the same plus the focal loss of the flips (the paper, with ``plugin``).
    """

    def __init__(self, process: Process, classes: int, mode: str, posterior: str) -> None:
        super().__init__()
        if mode not in LOSSES:
            raise ValueError(f"loss must be one of {LOSSES}, not {mode!r}")
        if posterior not in POSTERIORS:
            raise ValueError(f"posterior must be one of {POSTERIORS}, not {posterior!r}")
        if mode != "ce-dice" and not isinstance(process, BernoulliDiffusion):
            raise ValueError(f"the loss {mode} is about flips, a Gaussian kernel has none: ce-dice")
        self.process, self.mode, self.posterior = process, mode, posterior
        self.segmentation = segmentation_loss(classes)

    def forward(self, logits: Tensor, y0: Tensor, y_t: Tensor, prior: Tensor, t: Tensor) -> Tensor:
        """A scalar from logits of y0, y0 and y_t in {0, 1}, the prior, all [B, K, H, W]; t [B]."""
        if self.mode == "ce-dice":
            return self.segmentation(logits, y0)
        assert isinstance(self.process, BernoulliDiffusion)
        y0_hat = probabilities(logits).clamp(EPSILON, 1 - EPSILON)
        prior = self.process.end(prior.clamp(EPSILON, 1 - EPSILON))
        truth = self.process.posterior_mean(y0, y_t, prior, t)
        mean = self.process.reverse_mean(y0_hat, y_t, prior, t, self.posterior)
        loss = bernoulli_kl(truth, mean).mean()
        if self.mode == "kl":
            return loss
        return loss + focal((y_t - y0_hat).abs(), (y_t - y0).abs()).mean()
