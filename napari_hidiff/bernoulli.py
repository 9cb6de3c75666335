"""The Bernoulli diffusion of HiDiff, under its public name."""

from napari_hidiff.diffusion.bernoulli import CENTRES, POSTERIORS, BernoulliDiffusion, bernoulli

__all__ = ["CENTRES", "POSTERIORS", "BernoulliDiffusion", "bernoulli"]
