"""The diffusion refiner g: a time-conditioned U-Net whose convolution is passed in.

A step of the reverse process runs the body on y_t under a :class:`Condition`. Its parts are
computed once: an :class:`ImageCondition` from the image and the segmentor's features, and a
:class:`PriorCondition`, the part of the input convolution that does not depend on y_t.

The prior's part is computed in blocks, each in one call of the same shape. A block then has the
same values whether it is computed with all others or alone, after an edit that touched only it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.networks.binary import CONVOLUTIONS, Convolution
from napari_hidiff.networks.blocks import Block, Moment, Time, TimeEmbedding, XFormer
from napari_hidiff.networks.segmentor import (
    MULTIPLE,
    STRIDES,
    balanced,
    check_threshold,
    pad_to_multiple,
    unpad,
)

FACTORS = {1: 1, 2: 1, 4: 2, 8: 2, 16: 4, 32: 4}
"""Channels of the level at each stride, in multiples of the width."""

OUTPUTS = ("y0", "eps")
GRID = 2.0**-14
"""Weights that read y_t are multiples of this in evaluation, as fine as float16 in model files:
their sums are then exact in float32, in any order of addition."""
TRUST = 1e-3
"""A prior enters the residual head as a logit of at most ln(1/TRUST), so that it can be changed."""
SIDE = 256
"""Largest side of a block in pixels."""


@dataclass(frozen=True)
class ImageCondition:
    """The part of the condition that depends on the image alone; :meth:`Refiner.encode_image`.

    entered: the image's part of the input convolution, [B, width, H', W'] for the padded sides
    divided by the stem; features: the segmentor's, projected to the levels' channels (perhaps
    none). Both are channels last in memory.
    """

    entered: Tensor
    features: list[Tensor]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.entered, *self.features))


@dataclass(frozen=True)
class Condition:
    """The condition of a refiner step beside y_t; made by :meth:`Refiner.condition`.

    static: the input convolution of image, prior and edits, [B, width, H', W'] for the padded
    sides divided by the stem;
    features: as in :class:`ImageCondition`;
    residual: logits of the prior [B, K, H, W], in the size of the image, shifted by the threshold.
    """

    static: Tensor
    features: list[Tensor]
    residual: Tensor


@dataclass(frozen=True)
class PriorCondition:
    """The part of the condition that depends on prior and edits.

    given : [B, K + 1, H', W'], the prior and the fixed map (-1 = free), padded.
    static : the input convolution of image, prior and edits, [B, width, H', W'] for the padded
    sides divided by the stem; channels last.
    residual : logits of the prior, [B, K, H, W], shifted by the threshold.
    """

    given: Tensor
    static: Tensor
    residual: Tensor

    @property
    def nbytes(self) -> int:
        return self.given.nbytes + self.static.nbytes + self.residual.nbytes


Area = tuple[slice, slice]
"""Rows and columns."""


class Refiner(nn.Module):
    """Predicts the clean mask y_0 from y_t, the time, and a condition.

    Parameters
    ----------
    channels : image channels C >= 1.
    classes : K >= 1 network channels of the mask (1 = one foreground class, read by the sigmoid).
    feature_channels : channels of the segmentor's features at strides 4, 8, 16, 32; empty for a
        segmentor without features, and the X-Former then attends to the refiner's own.
    steps : T of the diffusion process.
    width : channels of the finest level, a multiple of 32.
    convolution : ``binary`` (TB, TA, signs) or ``real`` (its twin of the same topology).
    stem : stride of the input convolution, 1 or 2; 2 puts 2 x 2 pixels into the channels of one
        position, a quarter of the work of 1.
    output : the meaning of the last layer: logits of y0 (added to the prior's logits), or of eps
        (the paper; logit y0 = (1 - 2 y_t) logit eps). The result is logits of y0 in both cases.
    xformer : whether the X-Former joins both networks' features at the bottleneck.
    threshold : the probability of the network that becomes 1/2 (:func:`.segmentor.balanced`), where
        it predicts y0.
    hypotheses : N >= 0 further masks of :meth:`answers`, one channel each, for one
        foreground class; they share all layers but the last.

    Normalisation is BatchNorm and attention is windowed, so no layer sees the whole image.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        feature_channels: Sequence[int],
        steps: int = 10,
        width: int = 32,
        convolution: str = "binary",
        stem: int = 1,
        output: str = "y0",
        xformer: bool = True,
        time_width: int = 32,
        hypotheses: int = 0,
        threshold: float = 0.5,
    ) -> None:
        super().__init__()
        if hypotheses < 0 or (hypotheses and classes != 1):
            raise ValueError(f"{classes} classes cannot have {hypotheses} hypotheses")
        check_threshold(threshold)
        if width < 32 or width % 32:
            raise ValueError(f"width must be a multiple of 32, not {width}")
        if stem not in (1, 2):
            raise ValueError(f"stem must be 1 or 2, not {stem}")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {OUTPUTS}, not {output!r}")
        if convolution not in CONVOLUTIONS:
            raise ValueError(
                f"convolution must be one of {tuple(CONVOLUTIONS)}, not {convolution!r}"
            )
        if len(feature_channels) not in (0, len(STRIDES)):
            raise ValueError(
                f"features come at the strides {STRIDES} or not at all, not {len(feature_channels)}"
            )
        self.classes, self.labels, self.stem, self.output = classes, max(2, classes), stem, output
        self.hypotheses, self.threshold = hypotheses, threshold
        strides = [stride for stride in FACTORS if stride >= stem]
        widths = [width * FACTORS[stride] for stride in strides]
        conv = CONVOLUTIONS[convolution]
        self.time = TimeEmbedding(steps, time_width)
        pixels = (channels + 2 * classes + self.labels) * stem**2
        self.fixed_at, self.moving = channels * stem**2, classes * stem**2
        """Input channels: first the image's, from here on prior and edits, and y_t's at the end."""
        self.entry = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.features = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, width * FACTORS[stride], 1),
                nn.BatchNorm2d(width * FACTORS[stride]),
            )
            for inputs, stride in zip(feature_channels, STRIDES, strict=False)  # four or none
        )
        self.down = nn.ModuleList(
            Level(before, after, time_width, conv, stride=1 if i == 0 else 2)
            for i, (before, after) in enumerate(zip([widths[0], *widths], widths, strict=False))
        )
        self.xformer = XFormer(widths[-1], time_width, conv) if xformer else None
        self.middle = Block(widths[-1], widths[-1], time_width, conv)
        self.up = nn.ModuleList(
            UpLevel(below, level, time_width, conv)
            for below, level in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], (classes + hypotheses) * stem**2, 3, padding=1)
        for parameter in self.head.parameters():  # an untrained refiner returns its prior
            nn.init.zeros_(parameter)

    def condition(
        self, image: Tensor, prior: Tensor, fixed: Tensor, features: Sequence[Tensor]
    ) -> Condition:
        """The condition of all steps.

        image [B, C, H, W] normalised; prior [B, K, H, W] in [0, 1] with fixed pixels clamped;
        fixed [B, H, W] int64, -1 = free, else the label; features from the segmentor.
        """
        known = self.encode_image(image, features)
        return self.combine(known, self.encode_prior(known, prior, fixed))

    def encode_image(self, image: Tensor, features: Sequence[Tensor]) -> ImageCondition:
        """The image's part of the condition; arguments as for :meth:`condition`."""
        weight = self.entry.weight[:, : self.fixed_at]
        entered = self._enter(pad_to_multiple(image), weight, self.entry.bias)
        last = torch.channels_last
        projected = [
            project(feature.contiguous(memory_format=last))
            for project, feature in zip(self.features, features, strict=True)
        ]
        return ImageCondition(entered, projected)

    def encode_prior(
        self,
        image: ImageCondition,
        prior: Tensor,
        fixed: Tensor,
        before: PriorCondition | None = None,
    ) -> PriorCondition:
        """The prior's part of the condition; prior and fixed as for :meth:`condition`.

        before : of an earlier prior of this image; blocks without a change are taken from it, with
        the same result.
        """
        padded = pad_to_multiple(torch.cat([prior, fixed[:, None].to(prior.dtype)], 1))
        trusted = prior.clamp(TRUST, 1 - TRUST)
        logits = trusted.logit() if self.classes == 1 else trusted.log()
        residual = balanced(logits, self.threshold)
        # On a GPU few large calls are faster; with a gradient parts cost memory.
        alone = padded.device.type != "cpu" or torch.is_grad_enabled()
        height, width = padded.shape[-2:]
        areas = blocks(height, width, max(height, width) if alone else SIDE)
        if len(areas) == 1:
            static = self._touch(padded, areas[0]).add_(image.entered)
            return PriorCondition(padded, static, residual)
        if before is None:
            static = torch.empty_like(image.entered)
        else:
            areas = [area for area in areas if touched(padded, before.given, area, self.stem)]
            static = before.static.clone() if areas else before.static  # it may be in use elsewhere
        for area in areas:
            rows, columns = (
                slice(part.start // self.stem, part.stop // self.stem) for part in area
            )
            entered = image.entered[..., rows, columns]
            height, width = entered.shape[-2:]
            new = self._touch(padded, area)[..., :height, :width]
            torch.add(new, entered, out=static[..., rows, columns])
        return PriorCondition(padded, static, residual)

    def combine(self, image: ImageCondition, prior: PriorCondition) -> Condition:
        """The condition of a step from those of image and prior."""
        return Condition(prior.static, image.features, prior.residual)

    def forward(self, y_t: Tensor, t: Tensor | int, condition: Condition) -> Tensor:
        """Logits of y_0 [B, K, H, W] for y_t [B, K, H, W] in {0, 1} at time t (int or int64 [B]).

        A condition of one image serves any number of samples B.
        """
        return self.answers(y_t, t, condition)[:, : self.classes]

    def answers(self, y_t: Tensor, t: Tensor | int, condition: Condition) -> Tensor:
        """Logits with a further channel per hypothesis, [B, K + N, H, W], at no further cost."""
        return self.at(y_t, self.time(t).to(condition.static.dtype), condition)

    def at(self, y_t: Tensor, time: Time, condition: Condition) -> Tensor:
        """:meth:`answers` at a time that is embedded already."""
        batch, _, height, width = y_t.shape
        y_t = y_t.to(condition.static.dtype)
        x = self._enter(pad_to_multiple(y_t), self.moving_weight) + condition.static
        if isinstance(time, Moment):  # a single channel has no order in memory to hand on
            x = x.contiguous(memory_format=torch.channels_last)
        features = condition.features
        skips: list[Tensor] = []
        for level in self.down:
            x = level(x, time)
            if len(self.down) - len(skips) <= len(features):  # the levels of strides 4 to 32
                x = x + features[len(skips) - len(self.down)]
            skips.append(x)
        x = skips.pop()
        if self.xformer is not None:
            below = features[-1].expand(batch, -1, -1, -1) if features else x
            x = self.xformer(x, below, time)
        x = self.middle(x, time)
        for level in self.up:
            x = level(x, skips.pop(), time)
        out = unpad(F.pixel_shuffle(self.head(x), self.stem), height, width)
        if self.output == "y0":
            return out + condition.residual
        logits = (1 - 2 * y_t) * out
        return logits if self.classes == 1 else F.logsigmoid(logits)

    def _touch(self, given: Tensor, area: Area) -> Tensor:
        """The input convolution of prior and edits in an area; channels last."""
        prior, fixed = (
            read(given[:, :-1], area, self.stem),
            read(given[:, -1:], area, self.stem, -1),
        )
        labels = torch.arange(self.labels, device=fixed.device)[:, None, None]
        edits = (fixed == labels).to(prior.dtype)
        weight = self.entry.weight[:, self.fixed_at : -self.moving]
        return self._enter(torch.cat([prior, edits], 1), weight, padding=0)

    def _enter(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 1
    ) -> Tensor:
        """The input convolution of some of its channels, which are padded; channels last."""
        pixels = F.pixel_unshuffle(x, self.stem).contiguous(memory_format=torch.channels_last)
        return F.conv2d(pixels, weight, bias, padding=padding)

    @property
    def moving_weight(self) -> Tensor:
        """The weights that read y_t; in evaluation on the grid of :data:`GRID`."""
        weight = self.entry.weight[:, -self.moving :]
        return weight if self.training else (weight / GRID).round() * GRID


class Level(nn.Module):
    """Two blocks of the encoder, the first with the stride."""

    def __init__(
        self, inputs: int, outputs: int, time_width: int, convolution: Convolution, stride: int
    ) -> None:
        super().__init__()
        self.first = Block(inputs, outputs, time_width, convolution, stride=stride)
        self.second = Block(outputs, outputs, time_width, convolution)

    def forward(self, x: Tensor, time: Time) -> Tensor:
        out: Tensor = self.second(self.first(x, time), time)
        return out


class UpLevel(nn.Module):
    """Nearest upsampling and a block, then a block that reads the skip connection."""

    def __init__(
        self, inputs: int, outputs: int, time_width: int, convolution: Convolution
    ) -> None:
        super().__init__()
        self.grow = Block(inputs, outputs, time_width, convolution)
        self.join = Block(2 * outputs, outputs, time_width, convolution)

    def forward(self, x: Tensor, skip: Tensor, time: Time) -> Tensor:
        x = self.grow(F.interpolate(x, scale_factor=2, mode="nearest"), time)
        out: Tensor = self.join(torch.cat([x, skip], 1), time)
        return out


def probabilities(logits: Tensor) -> Tensor:
    """Class probabilities of logits [B, K, ...]: the sigmoid for K = 1, else the softmax."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


def blocks(height: int, width: int, side: int = SIDE) -> list[Area]:
    """Areas of equal shape that cover an image whose sides are multiples of 32; the last of a row
    or column may reach beyond it."""
    rows, columns = (_spans(length, side) for length in (height, width))
    return [(row, column) for row in rows for column in columns]


def _spans(length: int, side: int) -> list[slice]:
    step = -(-length // (-(-length // side) * MULTIPLE)) * MULTIPLE
    return [slice(start, start + step) for start in range(0, length, step)]


def inside(x: Tensor, area: Area, rim: int) -> Tensor:
    """The part of [B, C, H, W] in an area widened by ``rim`` pixels; a view."""
    rows, columns = (slice(max(0, part.start - rim), part.stop + rim) for part in area)
    return x[..., rows, columns]


def read(x: Tensor, area: Area, rim: int, beyond: float = 0) -> Tensor:
    """An area widened by ``rim`` pixels, ``beyond`` outside the image; a view if all is inside."""
    pads = []
    for part, length in zip(reversed(area), reversed(x.shape[-2:]), strict=True):
        pads += [max(0, rim - part.start), max(0, part.stop + rim - length)]
    found = inside(x, area, rim)
    return F.pad(found, pads, value=beyond) if any(pads) else found


def touched(now: Tensor, before: Tensor, area: Area, rim: int) -> bool:
    """Whether two tensors [B, C, H, W] differ in an area or within ``rim`` pixels around it."""
    return not torch.equal(inside(now, area, rim), inside(before, area, rim))
