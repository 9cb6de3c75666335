"""Noise that belongs to a sample: the same on every device, process and batch size."""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def uniform(numbers: Tensor, stream: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform in [0, 1), float32 [B, *shape], decided by (number, stream, place) alone.

    numbers : int64 [B], a number per sample. The values are counters through the finalizer of
    SplitMix64 (Steele, Lea and Flood 2014), 24 bits each.
    """
    count = torch.Size(shape).numel()
    key = _mix(_mix(numbers * GOLDEN + stream) + GOLDEN)
    counter = torch.arange(count, device=numbers.device) * GOLDEN
    bits = _shift(_mix(key[:, None] + counter), 40)
    return (bits.to(torch.float32) * 2.0**-24).reshape(-1, *shape)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * FIRST
    x = (x ^ _shift(x, 27)) * SECOND
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Right shift of int64 that fills with zeros, as of an unsigned number."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
