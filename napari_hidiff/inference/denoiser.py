"""What a model knows of the images it saw last, and its refiner at work on them, tile by tile.

An image as a model looks at it.

A bounded memory: what was computed last, up to so many bytes.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from napari_hidiff.engine.engine import Steps
from napari_hidiff.inference import tiling
from napari_hidiff.inference.tiling import Area, LocalTile, Tile
from napari_hidiff.networks.refiner import ImageCondition, PriorCondition, Refiner, probabilities
from napari_hidiff.networks.segmentor import STRIDES, margins, pad_to_multiple, unpad

MOST = min(2**28, psutil.virtual_memory().total // 16)
"""Bytes that all models together remember of images, between their runs."""
REMEMBERED = MOST // 2
"""Bytes for images that need no segmentor when they are refined again."""
STANDING = MOST // 2
"""Bytes for the prior's and the edits' part of the input convolution, mended at the next edit."""
WORKING = 2**30
"""Bytes that a run may hold of its own image until it ends, so that its steps need no segmentor."""
PIXELS_AT_ONCE = 2**20
"""Samples are denoised together up to this many pixels; more only costs memory."""


@dataclass(frozen=True)
class EncodedTile:
    """A tile, without its halo, after the segmentor: its prior [1, K, h, w] and what is known."""

    prior: Tensor
    known: ImageCondition

    @property
    def nbytes(self) -> int:
        return self.prior.nbytes + self.known.nbytes


class Sized(Protocol):
    """A value that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=Sized)


class LruCache(Generic[Value]):
    """Values by key, the ones used last; safe among threads.

    limit : bytes that all values may hold together; a value larger than that is not kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of a key, computed if it is not there (by two threads at once, perhaps)."""
        value = self.find(key)
        if value is None:
            value = compute()
            self.keep(key, value)
        return value

    def find(self, key: Hashable) -> Value | None:
        """The value of a key, or None where it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def keep(self, key: Hashable, value: Value) -> None:
        """Remember a value, in place of an older one of its key."""
        with self._lock:
            if value.nbytes <= self.limit:
                self._values[key] = value
                self._values.move_to_end(key)
        self.trim(self.limit)

    def trim(self, limit: int) -> None:
        """Forget what was used longest ago, until the values hold so many bytes at most."""
        with self._lock:
            while self.nbytes > limit:
                self._values.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    @property
    def nbytes(self) -> int:
        """What the values hold together."""
        return sum(value.nbytes for value in self._values.values())


_tiles: LruCache[EncodedTile] = LruCache(REMEMBERED)
_standings: LruCache[PriorCondition] = LruCache(STANDING)
_models = count()


def remembered() -> int:
    """Bytes that are remembered of images now."""
    return _tiles.nbytes + _standings.nbytes


def trim_cache(max_bytes: int) -> None:
    """Forget the images that were looked at longest ago, but for so many bytes of the last ones,
    and what prior and edits made of any: whoever forgets goes on to other images."""
    _tiles.trim(max_bytes)
    _standings.trim(0)


class ModelImage:
    """An image float32 [H, W, C], normalised and padded only when somebody needs it so.

    source : the array it was made from, of any dtype, which is quicker to recognise.
    normalise : the model's intensity rule, or None where the values went through it already.
    """

    def __init__(
        self,
        image: np.ndarray,
        source: np.ndarray,
        normalise: Callable[[np.ndarray], np.ndarray] | None,
        device: torch.device,
    ) -> None:
        self._image: np.ndarray | None = image
        self._normalise, self._device = normalise, device
        self.size: tuple[int, int] = image.shape[:2]
        kind = f"{source.dtype} {source.shape} {normalise is None}"
        digest = hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16)
        digest.update(kind.encode())
        self.digest = digest.digest()
        """Equal for equal images that are to be normalised alike."""

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width as multiples of 32."""
        height, width = (side + sum(margins(side)) for side in self.size)
        return height, width

    @cached_property
    def padded(self) -> Tensor:
        """float32 [1, C, H', W'] on the device."""
        image, self._image = self._image, None  # large images would be there twice
        assert image is not None
        scaled = image if self._normalise is None else self._normalise(image)
        tensor = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None]
        return pad_to_multiple(tensor.to(self._device))


class TiledDenoiser:
    """Segmentor and refiner of a model, and what they made of the images seen last."""

    def __init__(self, segmentor: nn.Module, refiner: Refiner) -> None:
        self._segmentor, self._refiner = segmentor, refiner
        self._number = next(_models)

    def prior(self, picture: ModelImage) -> Tensor:
        """The segmentor's probabilities [1, K, H, W]."""
        everything = slice(0, picture.padded_size[0]), slice(0, picture.padded_size[1])
        seen = [(tile.inner, self._see(picture, tile).prior) for tile in _cells(picture)]
        return unpad(joined(seen, everything), *picture.size)

    def denoiser(
        self,
        refiner: Steps,
        picture: ModelImage,
        given: Tensor,
        surroundings: LocalTile | None = None,
    ) -> Callable[[Tensor, int], Tensor]:
        """A function of y_t [S, K, H, W] in {0, 1} and t to the probabilities of y_0, tile by tile.

        given : [1, K + 1, H', W'], the prior with fixed pixels stamped in and the fixed map,
            padded. surroundings : denoise only these.
        """
        found = tiling.cut(*picture.padded_size, tiling.HALO)
        if surroundings is not None:
            found = [surroundings.tile]
        last: list[tuple[Tile, Any]] = []
        held: LruCache[EncodedTile] = LruCache(WORKING)

        def condition(tile: Tile) -> Any:
            if not last or last[0][0] != tile:
                last.clear()  # only one is kept: those of many tiles together would know no bound
                known = self._know(picture, tile.outer, held)
                standing = self._stand(picture, tile.outer, known, within(given, tile.outer))
                last.append((tile, refiner.combine(known, standing)))
            return last[0][1]

        def denoise(y_t: Tensor, t: int) -> Tensor:
            y_t = pad_to_multiple(y_t.to(given.dtype))
            if surroundings is None:
                out = torch.empty_like(y_t)
            else:
                out = surroundings.standing.to(y_t).repeat(len(y_t), 1, 1, 1)
            for tile in found:
                y = within(y_t, tile.outer)
                chunk = max(1, PIXELS_AT_ONCE // y[0, 0].numel())
                logits = [refiner(part, t, condition(tile)) for part in y.split(chunk)]
                new = within(probabilities(torch.cat(logits)), tile.kept)
                place = within(out, tile.inner)
                if surroundings is not None:
                    new = torch.lerp(place, new, surroundings.weight.to(new))
                place.copy_(new)
            return unpad(out, *picture.size)

        return denoise

    def _see(self, picture: ModelImage, tile: Tile) -> EncodedTile:
        """A tile through the segmentor, unless it was seen lately."""

        def compute() -> EncodedTile:
            part = within(picture.padded, tile.outer)
            logits, features = self._segmentor(part)
            known = self._refiner.encode_image(part, features)
            prior = probabilities(logits)
            if tile.inner == tile.outer:
                return EncodedTile(prior, known)
            strides = (self._refiner.stem, *STRIDES)
            parts = [
                within(whole, tile.kept, stride).clone()  # a view would keep the whole in memory
                for whole, stride in zip((known.entered, *known.features), strides, strict=False)
            ]
            return EncodedTile(
                within(prior, tile.kept).clone(), ImageCondition(parts[0], parts[1:])
            )

        return _tiles.get((self._number, picture.digest, str(tile.inner)), compute)

    def _stand(
        self, picture: ModelImage, area: Area, known: ImageCondition, given: Tensor
    ) -> PriorCondition:
        """What prior and fixed pixels (``given``) make of an area; what they have not changed since
        it was last refined is not computed again."""
        key = self._number, picture.digest, str(area)
        prior, fixed = given[:, :-1], given[:, -1]
        standing = self._refiner.encode_prior(known, prior, fixed, _standings.find(key))
        _standings.keep(key, standing)
        return standing

    def _know(self, picture: ModelImage, area: Area, held: LruCache[EncodedTile]) -> ImageCondition:
        """What the refiner knows of an area, from all tiles that reach into it; ``held`` has those
        that the run met before."""
        seen = [
            (tile.inner, held.get(str(tile.inner), partial(self._see, picture, tile)).known)
            for tile in _cells(picture)
            if _overlap(tile.inner, area) is not None
        ]
        entered = joined([(at, known.entered) for at, known in seen], area, self._refiner.stem)
        features = [
            joined([(at, known.features[n]) for at, known in seen], area, stride)
            for n, stride in enumerate(STRIDES[: len(seen[0][1].features)])
        ]
        return ImageCondition(entered, features)


def joined(parts: list[tuple[Area, Tensor]], area: Area, stride: int = 1) -> Tensor:
    """An area [..., h, w] of an image of which there are parts; they cover it."""
    first = parts[0][1]
    if len(parts) == 1:
        return within(first, _relative(area, parts[0][0]), stride)
    size = [(side.stop - side.start) // stride for side in area]
    whole = torch.empty(*first.shape[:2], *size, dtype=first.dtype, device=first.device).contiguous(
        memory_format=torch.channels_last
    )
    for at, part in parts:
        common = _overlap(at, area)
        if common is not None:
            source = within(part, _relative(common, at), stride)
            within(whole, _relative(common, area), stride).copy_(source)
    return whole


def within(x: Tensor, area: Area, stride: int = 1) -> Tensor:
    """An area of [..., H, W], or of something that has a stride."""
    rows, columns = (slice(part.start // stride, part.stop // stride) for part in area)
    return x[..., rows, columns]


def _overlap(one: Area, other: Area) -> Area | None:
    """The area that two areas share, if any."""
    rows, columns = (
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    shared = rows.start < rows.stop and columns.start < columns.stop
    return (rows, columns) if shared else None


def _relative(area: Area, to: Area) -> Area:
    """An area in the coordinates of another one that it lies in."""
    rows, columns = (
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(area, to, strict=True)
    )
    return rows, columns


def _cells(picture: ModelImage) -> list[Tile]:
    """The tiles of the segmentor."""
    return tiling.cut(*picture.padded_size, tiling.SEGMENTOR_HALO)
