"""All that a binary refiner reads of its weights and of the time, computed once and kept.

A step then has a third of the kernels, which is what it takes on a GPU: nothing in it waits for the
arithmetic. The numbers are those of :func:`.blocks.fold`, so that no sign changes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_hidiff.networks.binary import BinaryConv2d
from napari_hidiff.networks.blocks import (
    Block,
    CrossBlock,
    Folded,
    Layer,
    Moment,
    Time,
    TimeActivation,
    fold,
)
from napari_hidiff.networks.refiner import Refiner

EXACT_HALF = 4096
"""A sum of up to so many signs is exact in float16, which holds all integers to 2048 and all even
ones to 4096: sums of an even number of signs are even, and input channels come in even numbers."""


class Place(NamedTuple):
    """A binary convolution, the normalisation behind it, and the activation, if any."""

    convolution: BinaryConv2d
    norm: nn.BatchNorm2d
    activation: TimeActivation | None


class Tables:
    """The tables of a refiner in evaluation mode, of its weights at this time.

    Signs of weights are float16 on a GPU, whose sums are exact (:data:`EXACT_HALF`: wider
    convolutions are cut into parts of fewer channels, added in float32), and float32 elsewhere.
    A refiner with real convolutions has only the embedding of the time.

    half : float16 or not; None = by the device.
    """

    def __init__(self, refiner: Refiner, half: bool | None = None) -> None:
        self._refiner = refiner
        self._places = list(places(refiner))
        device = refiner.entry.weight.device
        half = device.type == "cuda" if half is None else half
        dtype = torch.float16 if half else torch.float32
        one = torch.ones((), dtype=dtype, device=device)
        self._units = one, -one
        self._weights = [signs(place.convolution.weight, dtype) for place in self._places]
        self._rows: dict[int, Tensor] = {}

    def row(self, t: int) -> Tensor:
        """The numbers of time t, one after another, float32 [N]; for :meth:`at`."""
        if t not in self._rows:
            time = self._refiner.time(t)
            parts = [part for place in self._places for part in _numbers(place, time)]
            self._rows[t] = torch.cat([part.flatten() for part in parts or [time]])
        return self._rows[t]

    def at(self, row: Tensor) -> Time:
        """The time of a :meth:`row`, as views of it."""
        if not self._places:
            return row[None]
        layers: dict[nn.Module, Layer] = {}
        start = 0
        for place, weights in zip(self._places, self._weights, strict=True):
            outputs, inputs = place.convolution.weight.shape[:2]
            sizes = [inputs, *[outputs] * 4]
            threshold, *folded = row[start : start + sum(sizes)].split(sizes)
            scale, shift, slope, zeta = folded
            layers[place.convolution] = Layer(
                threshold[:, None, None], weights, *self._units, Folded(scale, shift, slope, zeta)
            )
            start += sum(sizes)
        return Moment(layers)


def places(refiner: Refiner) -> Iterator[Place]:
    """All binary convolutions of a refiner."""
    for part in refiner.modules():
        found: list[tuple[nn.Module, nn.Module, TimeActivation | None]] = []
        if isinstance(part, Block):
            found = [(part.convolution, part.norm, part.activation)]
        elif isinstance(part, CrossBlock):
            projections = (part.query, part.key, part.value)
            found = [(p, norm, None) for p, norm in zip(projections, part.norms, strict=False)]
            found.append((part.out, part.norms[3], part.activation))
        for convolution, norm, activation in found:
            if isinstance(convolution, BinaryConv2d):
                assert isinstance(norm, nn.BatchNorm2d)
                yield Place(convolution, norm, activation)


def signs(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """+1 where W >= 0, else -1, channels last, in parts of inputs whose sums ``dtype`` holds."""
    _, inputs, height, width = weight.shape
    one = torch.ones((), dtype=dtype, device=weight.device)
    whole = torch.where(weight >= 0, one, -one)
    most = EXACT_HALF // (height * width) // 32 * 32 if dtype == torch.float16 else inputs
    parts = whole.split(max(32, most), 1)
    return tuple(part.contiguous(memory_format=torch.channels_last) for part in parts)


def _numbers(place: Place, time: Tensor) -> Iterator[Tensor]:
    """Threshold, scale, shift, slope, zeta."""
    yield place.convolution.threshold.alpha(time)
    yield from fold(place.convolution, place.norm, place.activation, time)
