"""Images and masks from outside as arrays for a model, and the errors for those that do not fit."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError

SMALLEST = 16
"""Smallest side of an image in pixels."""
INTENSITIES = ("standardize", "zscore", "window")
"""Rules of :class:`Intensity`."""


def check_image(image: np.ndarray, channels: tuple[str, ...], slices: int = 1) -> np.ndarray:
    """``image`` as float32 [H, W, C] with the channels of the model.

    image : [H, W] for one channel, else [H, W, C]; any numeric dtype and range. The alpha of an
    RGBA image is dropped for a model of three channels.
    slices : that the model sees together (:attr:`Card.inputs`). An image has the channels of all of
    them; one with those of a single slice stands for its neighbours, too.

    Raises
    ------
    InputError : not an array of numbers, wrong dimensions or channels, too small, NaN or infinite.
    """
    image = np.asarray(image)
    check_pixels(image)
    if image.ndim == 2:
        image = image[..., None]
    if slices > 1 and image.shape[2] == slices * len(channels):
        return image.astype(np.float32)
    if image.shape[2] == 4 and len(channels) == 3:
        image = image[..., :3]
    if image.shape[2] != len(channels):
        raise InputError(
            f"the image has {image.shape[2]} channel{'s' * (image.shape[2] != 1)}, the model was "
            f"trained on {len(channels)} ({', '.join(channels)})"
        )
    plain = image.astype(np.float32)
    return plain if slices == 1 else np.tile(plain, slices)


def check_pixels(image: np.ndarray) -> None:
    """Refuse an image that no model reads, whatever its channels; arguments and errors as for
    :func:`check_image`."""
    if image.dtype.kind not in "buif":
        raise InputError(f"an image holds numbers, not {image.dtype}")
    if image.ndim not in (2, 3):
        raise InputError(f"an image has 2 dimensions, or 3 with channels last, not {image.shape}")
    if min(image.shape[:2]) < SMALLEST:
        height, width = image.shape[:2]
        raise InputError(
            f"the image is {height} x {width} pixels; at least {SMALLEST} x {SMALLEST} are needed"
        )
    if image.dtype.kind == "f" and not np.isfinite(image.astype(np.float32, copy=False)).all():
        raise InputError("the image holds NaN or infinite values")


def any_channels(image: np.ndarray, wanted: int) -> np.ndarray:
    """An image [H, W, ``wanted``] from one of any number of channels; a view where that can be.

    Grey, [H, W] or [H, W, 1], is repeated. Of more channels than are wanted the first are taken;
    where there are fewer, their mean fills up. What is no such array is returned as it is, for
    :func:`check_image` to refuse.
    """
    image = np.asarray(image)
    if image.dtype.kind not in "buif" or image.ndim not in (2, 3) or 0 in image.shape:
        return image
    if image.ndim == 2:
        image = image[..., None]
    lacking = wanted - image.shape[2]
    if image.shape[2] == 1:
        return np.broadcast_to(image, (*image.shape[:2], wanted))
    if lacking <= 0:
        return image[..., :wanted]
    mean = image.mean(2, keepdims=True, dtype=np.float32)
    return np.concatenate([image.astype(np.float32), *[mean] * lacking], 2)


def neighbours(at: int, count: int, slices: int) -> list[int]:
    """The numbers of the ``slices`` slices around number ``at`` of ``count``, in order; beyond the
    ends of a volume its last slice is repeated."""
    first = at - slices // 2
    return [min(max(there, 0), count - 1) for there in range(first, first + slices)]


def with_neighbours(volume: np.ndarray, slices: int) -> np.ndarray:
    """A volume [D, H, W, C] whose slices have their neighbours as channels, [D, H, W, C * slices]
    (:attr:`Card.inputs`); for one slice the volume itself."""
    if slices == 1:
        return volume
    depth = len(volume)
    around = np.array([neighbours(at, depth, slices) for at in range(depth)])
    return np.concatenate([volume[there] for there in around.T], -1)


def middle(planes: np.ndarray, slices: int) -> np.ndarray:
    """The channels [..., C] of the slices themselves, of what :func:`with_neighbours` returns."""
    own = planes.shape[-1] // slices
    first = slices // 2 * own
    return planes[..., first : first + own]


@dataclass(frozen=True)
class Intensity:
    """The normalisation of grey values; statistics are those of the whole array.

    rule :
        ``standardize``: mean 0 and deviation 1 per channel (fundus, endoscopy, microscopy), so
        that bit depth, gain and offset of a camera do not matter.
        ``zscore``: the same over the voxels that are not 0, the rest stays 0 (MRI, whose
        background was removed).
        ``window``: ``low`` to ``high`` become -1 to 1, values outside are clipped (CT, in HU).

    Called on a numeric array [..., C]; returns float32 of the same shape. A constant channel
    becomes 0. Take the statistics of an image before it is cut into tiles, and those of a volume
    before it is cut into slices.

    Raises
    ------
    ValueError : an unknown rule, or a window whose ends are not in order.
    """

    rule: str = "standardize"
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.rule not in INTENSITIES:
            known = ", ".join(INTENSITIES)
            raise ValueError(f"the intensity rule must be one of {known}, not {self.rule!r}")
        if self.rule == "window" and not self.low < self.high:
            raise ValueError(f"a window needs low < high, not {self.low:g} and {self.high:g}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.scale(image, self.measure([image], image.shape[-1]))

    def measure(self, parts: Iterable[np.ndarray], channels: int) -> np.ndarray:
        """Mean and deviation of every channel, float64 [2, C], over arrays [..., C] together.

        parts : iterated twice, so no iterator. A volume is measured slice by slice without a
        copy. A rule without statistics reads nothing.
        """
        measured = np.zeros((2, channels))
        if self.rule == "window":
            return measured
        sizes, totals, squares = np.zeros((3, channels))
        for channel, values in self._counted(parts):
            sizes[channel] += values.size
            totals[channel] += values.sum()
        known = sizes > 0
        measured[0, known] = totals[known] / sizes[known]
        for channel, values in self._counted(parts):
            squares[channel] += np.square(values - measured[0, channel]).sum()
        measured[1, known] = np.sqrt(squares[known] / sizes[known])
        return measured

    def _counted(self, parts: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """The values behind the statistics of a channel, float64 [n], part by part."""
        for part in parts:
            for channel, values in enumerate(np.moveaxis(part, -1, 0)):
                values = values.astype(np.float32, copy=False)
                inside = values != 0 if self.rule == "zscore" else slice(None)
                yield channel, values[inside].astype(np.float64).ravel()

    def scale(self, image: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """An array [..., C], or a slice of the measured one, normalised: float32."""
        image = image.astype(np.float32, copy=False)
        if self.rule == "window":
            clipped = image.clip(self.low, self.high)
            return (clipped - self.low) * np.float32(2 / (self.high - self.low)) - 1
        scaled = np.zeros_like(image)
        for channel, (mean, deviation) in enumerate(measured.T):
            values = image[..., channel]
            inside = values != 0 if self.rule == "zscore" else np.ones_like(values, bool)
            if deviation > 0:
                counted = values[inside].astype(np.float64)
                scaled[..., channel][inside] = (counted - mean) / deviation
        return scaled


def parse_intensity(text: str) -> dict[str, Any]:
    """The card's form of ``standardize``, ``zscore`` or ``window:LOW:HIGH``; checked.

    ValueError for any other text.
    """
    rule, *ends = text.split(":")
    try:
        numbers = [float(end) for end in ends]
    except ValueError:
        numbers = []
    if len(numbers) != len(ends) or len(ends) != (2 if rule == "window" else 0):
        known = "standardize, zscore or window:LOW:HIGH"
        raise ValueError(f"an intensity rule is {known}, not {text!r}")
    values: dict[str, Any] = {"rule": rule} | dict(zip(("low", "high"), numbers, strict=False))
    Intensity(**values)
    return values


def check_labels(mask: np.ndarray, shape: tuple[int, int], labels: int, what: str) -> np.ndarray:
    """``mask`` as int64 [H, W]; ``fixed`` maps may hold -1 (free), masks may not.

    InputError for another shape or dtype, or an unknown label.
    """
    mask = np.asarray(mask)
    if mask.dtype.kind not in "bui":
        raise InputError(f"the {what} holds whole numbers, not {mask.dtype}")
    if mask.shape != shape:
        raise InputError(f"the {what} has shape {mask.shape}, the image {shape}")
    mask = mask.astype(np.int64)
    lowest = -1 if what == "fixed map" else 0
    wrong = mask[(mask < lowest) | (mask >= labels)]
    if wrong.size:
        raise InputError(f"the {what} holds label {wrong[0]}; the model knows 0..{labels - 1}")
    return mask


def soften(mask: np.ndarray, classes: int, sigma: float, confidence: float) -> np.ndarray:
    """A mask as a prior: half blurred, and shrunk towards the uniform distribution.

    p = uniform + (confidence - uniform) / (1 - uniform) * (m - uniform), with m the mean of the
    one-hot mask and its Gaussian blur. The one-hot half keeps structures of one pixel: the mask of
    the prior is the mask.

    mask : int [H, W]; sigma in pixels; confidence in (uniform, 1) is the probability far from any
    border. Returns float32 [K, H, W]; training softens masks by the same function.
    """
    from skimage.filters import gaussian  # a session, which reads slices, does without it

    labels = max(2, classes)
    onehot = (mask == np.arange(labels)[:, None, None]).astype(np.float32)
    blurred = gaussian(onehot, sigma=(0, sigma, sigma), mode="nearest") if sigma > 0 else onehot
    uniform = 1 / labels
    prior = uniform + (confidence - uniform) / (1 - uniform) * ((onehot + blurred) / 2 - uniform)
    array: np.ndarray = (prior[1:] if classes == 1 else prior).astype(np.float32)
    return array
