"""The refiner on tiles of an image, with a cache of what it computed last.

A :class:`ModelImage` is an image prepared for the model. :class:`TiledDenoiser` denoises it tile by
tile. Features of a tile and conditions of its prior are cached (:class:`LruCache`, bounded in
bytes), so that the next refinement of the same image computes only what changed.
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
"""Bytes of the caches of all models together, between runs."""
REMEMBERED = MOST // 2
"""Bytes for tiles after the segmentor, reused by the next refinement."""
STANDING = MOST // 2
"""Bytes for prior conditions, updated at the next edit."""
WORKING = 2**30
"""Bytes of the cache of one run, so that its steps need no segmentor."""
PIXELS_AT_ONCE = 2**20
"""Pixels of one batch of samples on the CPU; more only costs memory."""
BYTES_AT_ONCE = 2**9
"""Upper bound of a pixel's memory on a GPU at width 32 and stem 2, for the batch there."""
SHARE_AT_ONCE = 8
"""A batch takes at most one part in so many of a GPU's memory, but for a sample alone."""


@dataclass(frozen=True)
class EncodedTile:
    """A tile, without its halo, after the segmentor: its prior [1, K, h, w] and its condition."""

    prior: Tensor
    known: ImageCondition

    @property
    def nbytes(self) -> int:
        return self.prior.nbytes + self.known.nbytes


class Sized(Protocol):
    """A value with a size in bytes."""

    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=Sized)


class LruCache(Generic[Value]):
    """A cache of the values used last, by key; thread-safe.

    limit : total bytes of all values; a larger value is not stored.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of a key, computed if it is missing (perhaps by two threads at once)."""
        value = self.find(key)
        if value is None:
            value = compute()
            self.keep(key, value)
        return value

    def find(self, key: Hashable) -> Value | None:
        """The value of a key, or None."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def keep(self, key: Hashable, value: Value) -> None:
        """Store a value; an older one of its key is replaced."""
        with self._lock:
            if value.nbytes <= self.limit:
                self._values[key] = value
                self._values.move_to_end(key)
        self.trim(self.limit)

    def trim(self, limit: int) -> None:
        """Drop the values used longest ago until at most ``limit`` bytes are left."""
        with self._lock:
            while self.nbytes > limit:
                self._values.popitem(last=False)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._values

    @property
    def nbytes(self) -> int:
        """Bytes of all values together."""
        return sum(value.nbytes for value in self._values.values())


_tiles: LruCache[EncodedTile] = LruCache(REMEMBERED)
_standings: LruCache[PriorCondition] = LruCache(STANDING)
_models = count()


def remembered() -> int:
    """Bytes of the caches now."""
    return _tiles.nbytes + _standings.nbytes


def trim_cache(max_bytes: int) -> None:
    """Trim the tile cache to ``max_bytes``, the latest images, and drop all prior conditions."""
    _tiles.trim(max_bytes)
    _standings.trim(0)


class ModelImage:
    """An image float32 [H, W, C], normalised and padded on demand.

    source : the original array, of any dtype, which is faster to hash.
    normalise : the model's intensity rule; None for an image that is normalised already.
    """

    def __init__(
        self,
        image: np.ndarray,
        source: np.ndarray,
        normalise: Callable[[np.ndarray], np.ndarray] | None,
        device: torch.device,
    ) -> None:
        self._image: np.ndarray | None = image
        self._normalise, self.device = normalise, device
        self.size: tuple[int, int] = image.shape[:2]
        kind = f"{source.dtype} {source.shape} {normalise is None}"
        digest = hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16)
        digest.update(kind.encode())
        self.digest = digest.digest()
        """Equal for equal images with the same normalisation."""

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width as multiples of 32."""
        height, width = (side + sum(margins(side)) for side in self.size)
        return height, width

    @cached_property
    def padded(self) -> Tensor:
        """float32 [1, C, H', W'] on the device."""
        image, self._image = self._image, None  # a large image would be in memory twice
        assert image is not None
        scaled = image if self._normalise is None else self._normalise(image)
        tensor = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None]
        return pad_to_multiple(tensor.to(self.device))


class TiledDenoiser:
    """Segmentor and refiner of a model on tiles, with the caches of the images used last."""

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
        clamped: Tensor,
        surroundings: LocalTile | None = None,
    ) -> Callable[[Tensor, int], Tensor]:
        """A function of y_t [S, K, H, W] in {0, 1} and t to the probabilities of y_0, tile by tile.

        clamped : [1, K + 1, H', W'], the prior with fixed pixels clamped and the fixed map,
            padded. surroundings : the region to denoise; None = all.
        """
        tiles = tiling.cut(*picture.padded_size, tiling.HALO)
        if surroundings is not None:
            tiles = [surroundings.tile]
            weight, standing = (
                x.to(picture.device) for x in (surroundings.weight, surroundings.standing)
            )
        last: list[tuple[Tile, Any]] = []
        most = pixels_at_once(self._refiner)
        held: LruCache[EncodedTile] = LruCache(WORKING)

        def condition(tile: Tile) -> Any:
            if not last or last[0][0] != tile:
                last.clear()  # one at a time: the conditions of many tiles have no bound
                known = self._know(picture, tile.outer, held)
                standing = self._stand(picture, tile.outer, known, within(clamped, tile.outer))
                last.append((tile, refiner.combine(known, standing)))
            return last[0][1]

        def denoise(y_t: Tensor, t: int) -> Tensor:
            y_t = pad_to_multiple(y_t.to(clamped.dtype))
            if surroundings is None:
                out = torch.empty_like(y_t)
            else:
                out = standing.to(y_t).repeat(len(y_t), 1, 1, 1)
            for tile in tiles:
                y = within(y_t, tile.outer)
                chunk = max(1, most // y[0, 0].numel())
                logits = [refiner(part, t, condition(tile)) for part in y.split(chunk)]
                new = within(probabilities(torch.cat(logits)), tile.kept)
                place = within(out, tile.inner)
                if surroundings is not None:
                    new = torch.lerp(place, new, weight.to(new))
                place.copy_(new)
            return unpad(out, *picture.size)

        return denoise

    def _see(self, picture: ModelImage, tile: Tile) -> EncodedTile:
        """A tile after the segmentor, cached."""

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
        """The prior condition of an area from prior and fixed pixels (``given``); only blocks that
        changed since its last refinement are computed."""
        key = self._number, picture.digest, str(area)
        prior, fixed = given[:, :-1], given[:, -1]
        standing = self._refiner.encode_prior(known, prior, fixed, _standings.find(key))
        _standings.keep(key, standing)
        return standing

    def _know(self, picture: ModelImage, area: Area, held: LruCache[EncodedTile]) -> ImageCondition:
        """The image condition of an area, joined from all tiles that overlap it; ``held`` is the
        cache of the run."""
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


def pixels_at_once(refiner: Refiner) -> int:
    """Pixels of one batch of samples on the refiner's device: large calls keep a GPU busy."""
    device = refiner.entry.weight.device
    if device.type != "cuda":
        return PIXELS_AT_ONCE
    memory = torch.cuda.get_device_properties(device).total_memory
    pixel = BYTES_AT_ONCE * refiner.entry.out_channels // 32 * 4 // refiner.stem**2
    return max(PIXELS_AT_ONCE, memory // SHARE_AT_ONCE // pixel)


def joined(parts: list[tuple[Area, Tensor]], area: Area, stride: int = 1) -> Tensor:
    """An area [..., h, w] joined from parts that cover it."""
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
    """An area of [..., H, W], or of features at a stride."""
    rows, columns = (slice(part.start // stride, part.stop // stride) for part in area)
    return x[..., rows, columns]


def _overlap(one: Area, other: Area) -> Area | None:
    """The intersection of two areas, if any."""
    rows, columns = (
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    shared = rows.start < rows.stop and columns.start < columns.stop
    return (rows, columns) if shared else None


def _relative(area: Area, to: Area) -> Area:
    """An area in the coordinates of an area that contains it."""
    rows, columns = (
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(area, to, strict=True)
    )
    return rows, columns


def _cells(picture: ModelImage) -> list[Tile]:
    """The tiles of the segmentor."""
    return tiling.cut(*picture.padded_size, tiling.SEGMENTOR_HALO)
