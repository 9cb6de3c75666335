"""What class probabilities say: a mask and an uncertainty; with numpy alone."""

import numpy as np

EPSILON = 1e-6
"""Priors and y0_hat stay this far from 0 and 1, so that no 0/0 arises in equation (7)."""


def mask_of(probability: np.ndarray, axis: int = -3) -> np.ndarray:
    """uint8 [..., H, W] from float [..., K, H, W]: >= .5 for K = 1, else the argmax.

    axis : that of the K classes; 0 for a volume [K, D, H, W].
    """
    if probability.shape[axis] == 1:
        return (probability.take(0, axis) >= 0.5).astype(np.uint8)
    return probability.argmax(axis).astype(np.uint8)


def entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy in nats of each pixel's class distribution [K, H, W], float32 [H, W]."""
    p = np.concatenate([1 - probability, probability]) if len(probability) == 1 else probability
    p = p.clip(EPSILON, 1)
    return -(p * np.log(p)).sum(0).astype(np.float32)
