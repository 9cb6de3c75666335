"""Binary arithmetic: sign with a straight-through gradient, and the convolutions built on it.

A refiner is built from one of two classes, :class:`BinaryConv2d` or its twin :class:`RealConv2d`;
all other modules work with either. Values of a binary layer are +1 or -1, so that its product is
XNOR + popcount: a . w = n - 2 popcount(a XOR w). Zero padding contributes 0.

Such a product is a whole number, which float32 holds exactly in whatever order it is summed. What
follows it in evaluation is rounded in one stated order
(:func:`napari_hidiff.networks.blocks.fold`), so that two engines agree on every sign: one different
sign changes many later ones.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

TIE = 1e-3
"""Initial distance of thresholds from 0: binary sums are whole numbers, which sometimes equal their
mean, and rounding would decide the sign of such a tie."""


class _SignActivation(torch.autograd.Function):
    """sign(x) with sign(0) = +1; gradient 2 - 2|x| inside [-1, 1] (Bi-Real Net, ECCV 2018)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _plus_or_minus(x)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        out: Tensor = gradients[0] * (2 - 2 * x.abs()).clamp(min=0)
        return out


class _SignWeight(torch.autograd.Function):
    """sign(w) with sign(0) = +1; the gradient passes where |w| <= 1 (clipped straight-through)."""

    @staticmethod
    def forward(ctx: FunctionCtx, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return _plus_or_minus(w)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        (w,) = ctx.saved_tensors  # type: ignore[attr-defined]
        out: Tensor = gradients[0] * (w.abs() <= 1)
        return out


def _plus_or_minus(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1, in the dtype of x: by way of float32 it takes twice as long."""
    return torch.where(x >= 0, x.new_ones(()), x.new_full((), -1))


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1; straight-through gradient for activations."""
    out: Tensor = _SignActivation.apply(x)
    return out


def weight_scale(weight: Tensor) -> Tensor:
    """mean |W| of each output channel (the first axis).

    Without gradient, as in ReActNet: the latent weights only decide signs.
    """
    return weight.detach().abs().flatten(1).mean(1)


def binarize_weight(weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """sign(W) times a scale per output channel, by default :func:`weight_scale`."""
    scale = weight_scale(weight) if scale is None else scale
    out: Tensor = _SignWeight.apply(weight) * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    return out


class TimeThreshold(nn.Module):
    """TB, time-dependent binarization: +1 if u >= alpha_i(t) else -1, one alpha per channel.

    u [B, C, H, W] and a time embedding [B or 1, time_width] give values in {-1, +1}.
    """

    def __init__(self, channels: int, time_width: int) -> None:
        super().__init__()
        self.alpha = nn.Linear(time_width, channels)
        nn.init.zeros_(self.alpha.weight)
        nn.init.uniform_(self.alpha.bias, -TIE, TIE)

    def forward(self, u: Tensor, time: Tensor) -> Tensor:
        return sign(u - self.alpha(time)[:, :, None, None])


class BinaryConv2d(nn.Module):
    """TB, then a convolution of signs with signs, scaled by mean |W| per output channel."""

    binary: ClassVar[bool] = True

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, time_width: int
    ) -> None:
        super().__init__()
        self.threshold = TimeThreshold(inputs, time_width)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        nn.init.normal_(self.weight, std=(2 / (inputs * kernel**2)) ** 0.5)
        self.stride, self.padding = stride, kernel // 2
        self.stored_scale: Tensor | None
        self.register_buffer("stored_scale", None, persistent=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        signs = self.threshold(x, time)
        weight = binarize_weight(self.weight, self.stored_scale).to(signs.dtype)
        return F.conv2d(signs, weight, stride=self.stride, padding=self.padding)

    def sums(self, x: Tensor, time: Tensor) -> Tensor:
        """The convolution without its scale: whole numbers, exact in float32."""
        signs = self.threshold(x, time)
        weight = _SignWeight.apply(self.weight).to(signs.dtype)
        return F.conv2d(signs, weight, stride=self.stride, padding=self.padding)

    @property
    def scale(self) -> Tensor:
        """mean |W| of each output channel, [outputs]; a constant for the gradient."""
        return weight_scale(self.weight) if self.stored_scale is None else self.stored_scale

    def set_signs(self, signs: Tensor, scale: Tensor) -> None:
        """Make this the layer of an export, which has only signs and scale.

        signs : bool, in the shape of the weight, True for +1; scale : float32 [outputs]. It is
        stored beside the weight, +-scale, whose mean magnitude may be rounded differently.
        """
        magnitude = scale.reshape(-1, 1, 1, 1)
        with torch.no_grad():
            self.weight.copy_(torch.where(signs, magnitude, -magnitude))
        self.stored_scale = scale.to(self.weight.device)

    @staticmethod
    def quantize(x: Tensor) -> Tensor:
        """The sign, for operands of a product outside a convolution (attention)."""
        return sign(x)


class RealConv2d(nn.Conv2d):
    """The real twin: the same signature, an ordinary convolution; the time is unused."""

    binary: ClassVar[bool] = False

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, time_width: int
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, bias=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)

    @staticmethod
    def quantize(x: Tensor) -> Tensor:
        """The identity, for real operands."""
        return x


Convolution = type[BinaryConv2d] | type[RealConv2d]

CONVOLUTIONS: dict[str, Convolution] = {"binary": BinaryConv2d, "real": RealConv2d}
