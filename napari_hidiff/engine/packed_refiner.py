"""The packed engine: a trained binary refiner as XNOR and popcount on the CPU, by numba.

:func:`compile_refiner` makes a :class:`PackedRefiner`, which replaces the torch refiner inside
HiDiff. The modules below it:

=================  ============================================================
``layout``         signs as bits, weights in blocks, reused memory
``simd``           vector arithmetic for the registers of this processor
``microkernels``   a few pixels by a block of channels
``kernels``        row ranges of convolutions and of the layers around them
``pool``           rows dealt out to threads
``layers``         the modules of a refiner as tables and kernel calls
=================  ============================================================
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hidiff.engine import kernels, pool
from napari_hidiff.engine.layers import Layer, PackedXFormer, Reader, Signs, embed_times, enlarge
from napari_hidiff.engine.layout import WORD, Memory, Shelf, Size, Values
from napari_hidiff.errors import Unpackable
from napari_hidiff.networks.blocks import Block
from napari_hidiff.networks.refiner import ImageCondition, PriorCondition, Refiner
from napari_hidiff.networks.segmentor import MULTIPLE, STRIDES, pad_to_multiple, unpad

if TYPE_CHECKING:
    from napari_hidiff.networks.refiner import Refiner


@dataclass(frozen=True)
class PackedCondition:
    """The condition of a step: everything that does not depend on y_t.

    static : float32 flat [images, H', W', width], the input convolution of image, prior and edits;
    features : float32 flat [images, h, w, channels] at strides 4 to 32, or none;
    residual : shifted logits of the prior [images, K, H, W]. Sides H', W' are those of the padded
    image divided by the stem.
    """

    images: int
    static: Values
    features: list[Values]
    residual: Tensor


class PackedRefiner:
    """A :class:`Refiner` in evaluation mode, compiled; compile again when its weights change.

    Same interface as the refiner, on the CPU: :meth:`condition`, then a call per step. Real or
    small parts run in the refiner's own modules: the projections of features and the attention
    between signs.

    Raises
    ------
    Unpackable : its convolutions are not binary.
    """

    def __init__(self, refiner: Refiner) -> None:
        with torch.no_grad():
            self._compile(refiner)

    def _compile(self, refiner: Refiner) -> None:
        times = embed_times(refiner.time)
        self.refiner = refiner
        self.classes, self.stem, self.output = refiner.classes, refiner.stem, refiner.output
        self.steps = refiner.time.steps
        self.down = [
            tuple(Layer.of_block(_block(part), times) for part in (level.first, level.second))
            for level in refiner.down
        ]
        joined = refiner.xformer
        self.xformer = None if joined is None else PackedXFormer.of(joined, times)
        self.middle = Layer.of_block(refiner.middle, times)
        self.up = [
            (
                Layer.of_block(_block(level.grow), times),
                Layer.of_block(_block(level.join), times, 2),
            )
            for level in refiner.up
        ]
        self._shelf = Shelf()

        head = refiner.head
        assert head.bias is not None
        self._moving = refiner.moving
        moving = refiner.moving_weight.detach().float().cpu()
        self._entry = _blocks(moving.permute(2, 3, 1, 0).flatten(0, 2), WORD)
        last = head.weight.detach().float().cpu()  # [K * stem^2, C, 3, 3]
        products = last.permute(1, 2, 3, 0).flatten(1)
        products = F.pad(products, (0, -products.shape[1] % kernels.NARROW))
        self._head, self._products = _blocks(products, kernels.NARROW), products.shape[1]
        self._bias = head.bias.detach().float().cpu().numpy().copy()

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Take a step on a blank image, so that every kernel is compiled."""
        side = MULTIPLE
        blank = torch.zeros(1, self.classes, side, side)
        image = torch.zeros(1, self.refiner.fixed_at // self.stem**2, side, side)
        features = [
            torch.zeros(1, next(project.parameters()).shape[1], side // s, side // s)
            for project, s in zip(self.refiner.features, STRIDES, strict=False)
        ]
        free = torch.full((1, side, side), -1)
        self(blank, self.steps, self.condition(image, blank, free, features))

    def combine(self, image: ImageCondition, prior: PriorCondition) -> PackedCondition:
        """The condition of a step from those of image and prior, which torch computes in both
        engines."""
        return PackedCondition(
            len(prior.static),
            _flat(prior.static),
            [_flat(feature) for feature in image.features],
            prior.residual.float(),
        )

    def condition(
        self, image: Tensor, prior: Tensor, fixed: Tensor, features: Sequence[Tensor]
    ) -> PackedCondition:
        """The condition of all steps; arguments as for the refiner."""
        known = self.refiner.encode_image(image, features)
        return self.combine(known, self.refiner.encode_prior(known, prior, fixed))

    @torch.inference_mode()
    def __call__(self, y_t: Tensor, t: Tensor | int, condition: PackedCondition) -> Tensor:
        """Logits of y_0 [B, K, H, W] for y_t [B, K, H, W] in {0, 1} at time t (int or int64 [B]).

        A condition of one image serves any number of samples B.
        """
        return self.answers(y_t, t, condition)[:, : self.classes]

    @torch.inference_mode()
    def answers(self, y_t: Tensor, t: Tensor | int, condition: PackedCondition) -> Tensor:
        """Logits with a further channel per hypothesis, [B, K + N, H, W], at no further cost."""
        times = torch.as_tensor(t).reshape(-1).tolist()
        if len(set(times)) > 1:
            parts = [
                self.answers(y_t[n : n + 1], time, _only(condition, n))
                for n, time in enumerate(times)
            ]
            return torch.cat(parts)
        time = int(times[0])
        if not 1 <= time <= self.steps:
            raise ValueError(f"t must lie in 1..{self.steps}, not {time}")
        y_t = y_t.float()
        height, width = y_t.shape[-2:]
        pixels = F.pixel_unshuffle(pad_to_multiple(y_t), self.stem)
        size = (len(y_t), pixels.shape[2], pixels.shape[3])
        with self._shelf.borrow(size) as memory:
            x = self._body(memory, pixels, size, time, condition)
            out = self._leave(memory, x, size)
        out = unpad(F.pixel_shuffle(out.permute(0, 3, 1, 2), self.stem), height, width)
        if self.output == "y0":
            return out + condition.residual
        logits = (1 - 2 * y_t) * out
        return logits if self.classes == 1 else F.logsigmoid(logits)

    def _body(
        self, memory: Memory, pixels: Tensor, size: Size, t: int, condition: PackedCondition
    ) -> Values:
        """The last features, float32 flat [B, H', W', width], from y_t [B, K s^2, H', W']."""
        images, features = condition.images, condition.features
        depth = len(self.down)
        first = self.down[0][0]
        signs = self._signs(memory, "entry", size, first)
        x = memory.values("down0", size, first.inputs)
        self._enter(memory, pixels, size, condition, x, first.reader(t, signs.bits))

        skips: list[tuple[Values, Signs]] = []
        for n, (first, second) in enumerate(self.down):
            below = self._sizes(size, n)
            result = memory.values(f"down{n}", below, first.outputs)
            between = self._signs(memory, f"between{n}", below, second)
            first.run(t, signs, result, shortcut=(x,), readers=(second.reader(t, between.bits),))
            x, readers = result, []
            if n + 1 < depth:
                join = self.up[depth - 2 - n][1]
                skip = self._signs(memory, f"skip{n}", below, join, 2)
                signs = self._signs(memory, f"down{n + 1}", below, self.down[n + 1][0])
                readers = [self.down[n + 1][0].reader(t, signs.bits), join.reader(t, skip.bits, 1)]
                skips.append((x, skip))
            extra = (kernels.FLOATS, 0)
            if depth - n <= len(features):  # the levels of strides 4 to 32
                extra = features[n - depth], images
            second.run(t, between, x, shortcut=(x,), extra=extra, readers=tuple(readers))

        below = self._sizes(size, depth - 1)
        if self.xformer is not None:
            prior = x
            if features:
                prior = np.tile(features[-1], size[0]) if images < size[0] else features[-1]
            x = self.xformer.run(memory, x, prior, below, t)
        signs = self.middle.read(memory, "middle", x, below, t)
        return self._rise(memory, x, signs, below, skips, t)

    def _rise(
        self,
        memory: Memory,
        x: Values,
        signs: Signs,
        size: Size,
        skips: list[tuple[Values, Signs]],
        t: int,
    ) -> Values:
        """The decoder, from the deepest features to the finest."""
        layer = self.middle
        second: Signs | None = None
        below: tuple[Values, ...] = ()
        for n, (grow, join) in enumerate(self.up):
            small = self._signs(memory, f"small{n}", size, grow)
            shortcut = (x, *below)
            layer.run(
                t, signs, x, b=second, shortcut=shortcut, readers=(grow.reader(t, small.bits),)
            )
            size = (size[0], 2 * size[1], 2 * size[2])
            larger = enlarge(memory, f"larger{n}", small)
            signs = self._signs(memory, f"join{n}", size, join, 2)
            result = memory.values(f"up{n}", size, grow.outputs)
            grow.run(
                t, larger, result, shortcut=(x,), larger=True, readers=(join.reader(t, signs.bits),)
            )
            values, second = skips.pop()
            x, layer, below = result, join, (values,)
        layer.run(t, signs, x, b=second, shortcut=(x, *below))
        return x

    def _enter(
        self,
        memory: Memory,
        pixels: Tensor,
        size: Size,
        condition: PackedCondition,
        out: Values,
        reader: Reader,
    ) -> None:
        """The input convolution: its static part, and what y_t adds."""
        batch, height, width = size
        y = _flat(F.pad(pixels, (1, 1, 1, 1)))
        channels = len(reader.limit)
        pool.rows(
            kernels.enter, batch * height, batch * height * width * channels // 2,
            height, width, self._moving, y, self._entry, condition.static, condition.images,
            channels, out, reader.limit, reader.bits,
        )  # fmt: skip

    def _leave(self, memory: Memory, x: Values, size: Size) -> Tensor:
        """The output convolution, float32 [B, H', W', K * stem^2]."""
        batch, height, width = size
        rows, pixels, outputs = batch * height, batch * height * width, len(self._bias)
        products = memory.values("products", size, self._products)
        channels = len(x) // pixels
        pool.rows(
            kernels.multiply, rows, pixels * channels * self._products // 8,
            width, channels, x, self._head, self._products,
            np.zeros(self._products, np.float32), products,
        )  # fmt: skip
        out = np.empty(pixels * outputs, np.float32)
        pool.rows(
            kernels.leave, rows, pixels * outputs * 16,
            height, width, outputs, self._products, products, self._bias, out,
        )  # fmt: skip
        return torch.from_numpy(out).view(batch, height, width, outputs)

    @staticmethod
    def _signs(memory: Memory, name: str, size: Size, layer: Layer, sources: int = 1) -> Signs:
        """Room for the signs that a layer reads, or one of its two sources."""
        channels = layer.inputs // sources
        return Signs(memory.bits(name, size, channels), size, channels // WORD)

    @staticmethod
    def _sizes(size: Size, halvings: int) -> Size:
        return (size[0], size[1] >> halvings, size[2] >> halvings)


def _block(module: object) -> Block:
    if not isinstance(module, Block):
        raise Unpackable(f"the refiner holds a {type(module).__name__} where a Block is expected")
    return module


def _flat(x: Tensor) -> Values:
    """[B, C, H, W] as float32 flat [B, H, W, C]; no copy where the channels are last already."""
    return np.ascontiguousarray(x.detach().float().cpu().permute(0, 2, 3, 1).numpy()).ravel()


def _blocks(weights: Tensor, width: int) -> Values:
    """[window, outputs] as float32 flat [outputs / width, window, width]."""
    parts = weights.unflatten(1, (-1, width)).movedim(1, 0)
    return np.ascontiguousarray(parts.numpy()).ravel()


def _only(condition: PackedCondition, n: int) -> PackedCondition:
    """The condition of one image of a batch."""
    if condition.images == 1:
        return condition
    parts = [np.split(x, condition.images)[n] for x in (condition.static, *condition.features)]
    return PackedCondition(1, parts[0], parts[1:], condition.residual[n : n + 1])


__all__ = ["Unpackable", "compile_refiner"]


def compile_refiner(refiner: "Refiner") -> "PackedRefiner":
    """The refiner as packed kernels, from its present weights in evaluation mode.

    Raises
    ------
    Unpackable : torch must run it instead; the message is the reason in one line.
    """
    try:
        import numba  # noqa: F401
    except (ImportError, OSError) as error:  # numba, or its compiler
        raise Unpackable(f"numba does not run here ({type(error).__name__}: {error})") from error

    return PackedRefiner(refiner)
