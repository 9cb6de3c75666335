"""Noise of a sample depends on its number alone, and is uniform."""

import numpy as np
import torch

from napari_hidiff.training.losses import uniform

WORD = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def test_values_are_those_of_unsigned_arithmetic():
    numbers, stream = [0, 2, 10**7], 5
    drawn = uniform(torch.tensor(numbers), stream, (2, 3))
    for row, number in zip(drawn, numbers, strict=True):
        key = mix((mix((number * GOLDEN + stream) & WORD) + GOLDEN) & WORD)
        expected = [(mix((key + i * GOLDEN) & WORD) >> 40) * 2**-24 for i in range(6)]
        assert row.flatten().tolist() == expected


def test_a_sample_has_the_same_noise_in_any_batch():
    whole = uniform(torch.arange(8), 1, (1, 16, 16))
    for part in ([3], [7, 3], [0, 1, 2, 3]):
        assert torch.equal(uniform(torch.tensor(part), 1, (1, 16, 16)), whole[part])


def test_it_is_uniform_and_samples_and_streams_are_independent():
    drawn = uniform(torch.arange(64), 3, (64, 64)).flatten(1)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=16, range=(0, 1))[0]
    expected = drawn.numel() / 16
    assert ((counts - expected) ** 2 / expected).sum() < 50  # chi square, 15 degrees of freedom
    other = uniform(torch.arange(64), 4, (64, 64)).flatten(1)
    rows = torch.cat([drawn, other])
    off = torch.corrcoef(rows) - torch.eye(len(rows))
    assert off.abs().max() < 6 / 64  # six deviations of 4096 pairs
    neighbours = torch.corrcoef(torch.stack([drawn[:, 1:].flatten(), drawn[:, :-1].flatten()]))
    assert neighbours[0, 1].abs() < 0.01
