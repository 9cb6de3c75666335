"""Arrays of the outside world in, arrays that a model understands out; and what is refused."""

import numpy as np
from skimage.filters import gaussian

from napari_hidiff.errors import InputError

SMALLEST = 16
"""Pixels that the shorter side of an image needs at least."""


def check_image(image: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """``image`` as float32 [H, W, C] with the channels of the model.

    image : [H, W] for one channel, else [H, W, C]; any numeric dtype and range. The alpha of an
    RGBA image is dropped for a model of three channels.

    Raises
    ------
    InputError : not an array of numbers, wrong dimensions or channels, too small, NaN or infinite.
    """
    image = np.asarray(image)
    if image.dtype.kind not in "buif":
        raise InputError(f"an image holds numbers, not {image.dtype}")
    if image.ndim not in (2, 3):
        raise InputError(f"an image has 2 dimensions, or 3 with channels last, not {image.shape}")
    if min(image.shape[:2]) < SMALLEST:
        height, width = image.shape[:2]
        raise InputError(
            f"the image is {height} x {width} pixels; at least {SMALLEST} x {SMALLEST} are needed"
        )
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] == 4 and len(channels) == 3:
        image = image[..., :3]
    if image.shape[2] != len(channels):
        raise InputError(
            f"the image has {image.shape[2]} channel{'s' * (image.shape[2] != 1)}, the model was "
            f"trained on {len(channels)} ({', '.join(channels)})"
        )
    image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise InputError("the image holds NaN or infinite values")
    return image


def standardize(image: np.ndarray) -> np.ndarray:
    """float32 [H, W, C] -> float32 [C, H, W] with mean 0 and deviation 1 per channel.

    The statistics are those of the whole image, taken before it is cut into crops or tiles, so
    that bit depth, gain and offset of a camera do not matter. A constant channel becomes 0.
    """
    mean = image.mean((0, 1), dtype=np.float64)
    deviation = image.std((0, 1), dtype=np.float64)
    scaled = (image - mean) / np.where(deviation > 0, deviation, 1)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1), dtype=np.float32)


def check_labels(mask: np.ndarray, shape: tuple[int, int], labels: int, what: str) -> np.ndarray:
    """``mask`` as int64 [H, W]; ``fixed`` maps may hold -1 (free), masks may not.

    InputError names the shape, the dtype or the first label that does not fit.
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
    """A hard mask as a prior: half blurred, and shrunk towards the uniform distribution.

    p = uniform + (confidence - uniform) / (1 - uniform) * (m - uniform), with m the mean of the
    one-hot mask and its Gaussian blur. The one-hot half keeps structures of one pixel: the mask of
    the prior is the mask.

    mask : int [H, W]; sigma in pixels; confidence in (uniform, 1) is the probability far from any
    border. Returns float32 [K, H, W]; training softens masks by the same function.
    """
    labels = max(2, classes)
    onehot = (mask == np.arange(labels)[:, None, None]).astype(np.float32)
    blurred = gaussian(onehot, sigma=(0, sigma, sigma), mode="nearest") if sigma > 0 else onehot
    uniform = 1 / labels
    prior = uniform + (confidence - uniform) / (1 - uniform) * ((onehot + blurred) / 2 - uniform)
    return (prior[1:] if classes == 1 else prior).astype(np.float32)
