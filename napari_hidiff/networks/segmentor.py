"""The discriminative segmentor f(x) behind one adapter: image -> logits and four features."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.errors import InputError

STRIDES = (4, 8, 16, 32)
MULTIPLE = STRIDES[-1]
MULTIPLES = (32, 64, 128, 160, 192, 224, 256, 384, 512)
"""Sizes that :func:`measure` tries, smallest first; 224 and 384 are windows of 7 and 12."""


def margins(side: int, multiple: int = MULTIPLE) -> tuple[int, int]:
    """Pixels to add before and after a side so that it becomes a multiple; the image stays in the
    middle, as in training crops: networks learn positions.

    Up to the multiple of 32 exactly in the middle; a larger multiple adds whole 32s, so that
    features are at the same strides for every multiple.
    """
    inner = -side % MULTIPLE
    outer = -(side + inner) % multiple
    before = inner // 2 + outer // 2 // MULTIPLE * MULTIPLE
    return before, inner + outer - before


def pad_to_multiple(x: Tensor, multiple: int = MULTIPLE) -> Tensor:
    """Repeat the outer rows and columns of [B, C, H, W] until H and W are multiples of 32 and of
    ``multiple``; :func:`unpad` takes them off again."""
    height, width = x.shape[-2:]
    return F.pad(x, (*margins(width, multiple), *margins(height, multiple)), mode="replicate")


def unpad(x: Tensor, height: int, width: int, multiple: int = MULTIPLE) -> Tensor:
    """The image [..., H, W] inside the result of :func:`pad_to_multiple`."""
    top, left = margins(height, multiple)[0], margins(width, multiple)[0]
    return x[..., top : top + height, left : left + width]


class Segmentor(nn.Module):
    """Base of the adapters: pads any size, calls :meth:`encode_decode`, crops back.

    ``forward`` maps a normalised image [B, C, H, W] to logits [B, K, H, W] and the features
    [B, feature_channels[i], H' / STRIDES[i], W' / STRIDES[i]], where H', W' are H, W padded to
    multiples of 32. K = 1 is read with the sigmoid, K > 1 with the softmax. A segmentor without
    features has ``feature_channels == ()`` and gives an empty list.

    ``multiple`` : sides must be multiples of it; itself a multiple of 32 if there are features.
    ``threshold`` : the probability of the network that becomes 1/2 (:func:`balanced`).
    """

    feature_channels: tuple[int, ...] = ()
    multiple: int = MULTIPLE
    threshold: float = 0.5

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits and features of an image whose sides are multiples of ``multiple``."""
        raise NotImplementedError(f"{type(self).__name__} has to define encode_decode")

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        height, width = image.shape[-2:]
        logits, features = self.encode_decode(pad_to_multiple(image, self.multiple))
        cut = [self._cut(f, s, height, width) for f, s in zip(features, STRIDES, strict=False)]
        return balanced(unpad(logits, height, width, self.multiple), self.threshold), cut

    def _cut(self, feature: Tensor, stride: int, height: int, width: int) -> Tensor:
        """A feature of the image padded to a multiple of 32, from that of the larger one."""
        within = []
        for side in (height, width):
            before, after = margins(side)
            start = margins(side, self.multiple)[0] - before
            within.append(slice(start // stride, (start + before + side + after) // stride))
        return feature[..., within[0], within[1]]


def check_threshold(threshold: float) -> None:
    """ValueError unless a threshold lies in ]0, 1[."""
    if not 0 < threshold < 1:
        raise ValueError(f"a threshold lies between 0 and 1, not at {threshold}")


def balanced(logits: Tensor, threshold: float) -> Tensor:
    """Logits [B, K, H, W] whose mask at 1/2 is that of ``logits`` at a threshold in ]0, 1[.

    With K = 1 a probability of ``threshold`` becomes 1/2; with K > 1 the background (channel 0)
    wins from odds of (1 - threshold) : threshold against the best other class.
    """
    if threshold == 0.5:
        return logits
    shift = math.log(threshold / (1 - threshold))
    if logits.shape[1] == 1:
        return logits - shift
    return torch.cat([logits[:, :1] + shift, logits[:, 1:]], 1)


def measure(segmentor: Segmentor, what: str, channels: int, classes: int) -> None:
    """Measure ``multiple`` and ``feature_channels`` of a foreign network.

    A blank image twice as wide as high goes through it in evaluation mode; the smallest side of
    ``MULTIPLES`` that it accepts becomes ``multiple``. ``what`` names it in messages.

    Raises
    ------
    InputError : it reads no such image; logits are not [B, K, H, W]; features are there, but not
        four at strides 4, 8, 16, 32.
    """
    segmentor.eval()
    reason: Exception | None = None
    for multiple in MULTIPLES:
        blank = torch.zeros(1, channels, multiple, 2 * multiple)
        try:
            with torch.no_grad():
                logits, features = segmentor.encode_decode(blank)
            break
        except InputError:
            raise
        except Exception as error:  # a foreign network may raise anything
            reason = reason or error
    else:
        raise InputError(
            f"{what} reads no image [B, {channels}, H, W] of sides that are multiples of "
            f"{', '.join(map(str, MULTIPLES))}: {one_line(reason)}"
        )
    segmentor.train()
    wanted = (1, classes, multiple, 2 * multiple)
    if tuple(logits.shape) != wanted:
        raise InputError(
            f"{what} gives logits of shape {tuple(logits.shape)} for an image of "
            f"{multiple} x {2 * multiple} pixels; wanted {wanted}"
        )
    found = [_stride(feature, multiple) for feature in features]
    if features and found != [str(stride) for stride in STRIDES]:
        raise InputError(
            f"{what} has features at strides {', '.join(found)}; wanted are four, at strides "
            f"{', '.join(map(str, STRIDES))}"
        )
    segmentor.multiple = multiple
    segmentor.feature_channels = tuple(feature.shape[1] for feature in features)


def _stride(feature: Tensor, side: int) -> str:
    """The stride of a feature of a side x 2 side image, or else its shape."""
    if feature.ndim == 4 and feature.shape[2] and 2 * feature.shape[2] == feature.shape[3]:
        return f"{side / feature.shape[2]:g}"
    return f"none (shape {'x'.join(map(str, feature.shape))})"


def one_line(error: Exception | None) -> str:
    """An exception of another package as its kind and its first line."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    return f"{type(error).__name__}: {text[:200]}"
