"""Images and masks from and to files: png, jpg, tif, and whatever else Pillow opens.

Pixels come back as they are stored: no scaling, no rotation by EXIF, no colour management, and no
inversion where 0 is white, which is how napari, tifffile and scikit-image show them.
"""

from importlib.resources import as_file, files
from os import PathLike
from pathlib import Path

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.io.pictures import TIFF as TIFF
from napari_hidiff.io.pictures import Picture, read_picture
from napari_hidiff.io.pictures import check_file as check_file

JPEG = frozenset({".jpg", ".jpeg"})
IMAGES = TIFF | JPEG | {".png"}
"""Suffixes of images in a folder."""

SAMPLE = "Image_11L"
"""Stem of the bundled sample, a test image of CHASE_DB1; see ``samples/ATTRIBUTION.txt``."""

FilePath = str | PathLike[str]


def read_image(path: FilePath) -> np.ndarray:
    """Read a 2-D image: ``[H, W]`` or ``[H, W, C]`` in the file's numeric dtype.

    A palette becomes RGB, a 1-bit picture uint8 0 and 255; grey loses its alpha.  Raises
    InputError, naming the file, if it is missing, unreadable, empty, not 2-D, in colours for print
    (CMYK), or holds more than one page; a reduced copy beside the picture is no page.
    """
    found = read_picture(Path(path))
    pixels = found.pixels if found.palette is None else found.palette[found.pixels]
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    return _checked(pixels, path)


def read_mask(path: FilePath) -> np.ndarray:
    """Read a label mask: int32 ``[H, W]``.

    A palette file gives its indices, but where these are a pure black and a pure white 0 and 1;
    values 0 and 255 alone mean 0 and 1, as does a 1-bit file; a grey mask stored as RGB counts as
    grey; where all colours are one, the mask is what is opaque.  Raises InputError like
    :func:`read_image`, and for colours, for values that are not whole numbers, and where it cannot
    be known what the labels are.
    """
    return mask_of(read_picture(Path(path)), path)


def mask_of(picture: Picture, path: FilePath) -> np.ndarray:
    """The mask in a picture, by the rules of :func:`read_mask`."""
    return from_black_and_white(_integers(_labels(picture, path), path))


def read_labels(path: FilePath, labels: int, cut: bool = False) -> np.ndarray:
    """Read a label mask with values ``0..labels-1``: uint8 ``[H, W]``.

    A JPEG does not store labels exactly: two labels are thresholded at ``> 127``, more are refused.
    ``cut`` does the same to any file of two labels (masks with stray greys).
    Raises InputError like :func:`read_mask`, and for a label that is not among the classes.
    """
    jpeg = Path(path).suffix.lower() in JPEG
    if jpeg and labels != 2:
        raise InputError(f"{path}: JPEG blurs labels; store masks of several classes as png")
    mask = read_mask(path)
    if (jpeg or cut) and mask.max() > 1:
        mask = mask > 127
    return known_labels(mask, labels, path)


def read_fixed(path: FilePath) -> np.ndarray:
    """Read a fixed map: int16 ``[H, W]``, the class of a fixed pixel, -1 for a free one.

    In the file a free pixel is 255 where its dtype is unsigned (65535 too in 16 bits) and -1 where
    it is signed or floating.  Raises InputError like :func:`read_mask`, and for 1-bit and JPEG
    files, which cannot say "free" exactly.
    """
    path = Path(path)
    if path.suffix.lower() in JPEG:
        raise InputError(f"{path}: JPEG blurs labels; store fixed pixels as png or tif")
    stored = _labels(read_picture(path), path)
    return fixed_labels(_integers(stored, path), stored.dtype.kind, np.iinfo(np.int16).max, path)


def from_black_and_white(mask: np.ndarray) -> np.ndarray:
    """A mask, integers of any shape, in which the values 0 and 255 alone mean 0 and 1."""
    return mask // 255 if mask.max() == 255 and np.isin(mask, (0, 255)).all() else mask


def known_labels(mask: np.ndarray, labels: int, path: FilePath) -> np.ndarray:
    """A mask of any shape as uint8; InputError, naming the file, beyond ``0..labels-1``."""
    if mask.min() < 0 or mask.max() >= labels:
        unknown = mask.max() if mask.max() >= labels else mask.min()
        raise InputError(f"{path}: unknown label {unknown:g}; known are 0 to {labels - 1}")
    return mask.astype(np.uint8)


def fixed_labels(stored: np.ndarray, kind: str, top: int, path: FilePath) -> np.ndarray:
    """A fixed map from stored values: int16 of any shape, -1 for free pixels.

    stored : whole numbers as for :func:`read_fixed`, of a file whose dtype has this ``kind``
    (NumPy's letter); classes run to ``top``.  InputError names the file.
    """
    if kind == "b":
        raise InputError(f"{path}: a 1-bit file cannot mark free pixels; use uint8 with 255 = free")
    fixed = stored.astype(np.int32)
    if kind == "u":
        fixed[np.isin(fixed, (255, 65535))] = -1
    if fixed.min() < -1 or fixed.max() > top:
        raise InputError(f"{path}: {fixed.min()} to {fixed.max()}; wanted -1 (free) or a class")
    return fixed.astype(np.int16)


def sample() -> tuple[np.ndarray, np.ndarray]:
    """The bundled sample: image uint8 ``[960, 999, 3]``, truth uint8 ``[960, 999]`` in {0, 1}."""
    with as_file(files("napari_hidiff") / "samples") as folder:
        truth = read_labels(folder / f"{SAMPLE}_1stHO.png", labels=2)
        return read_image(folder / f"{SAMPLE}.jpg"), truth


def _labels(picture: Picture, path: FilePath) -> np.ndarray:
    """The stored labels of a mask, ``[H, W]`` or several equal channels, in the file's dtype."""
    if picture.doubt:
        raise InputError(f"{path}: {picture.doubt}")
    pixels, alpha = picture.pixels, picture.alpha
    if picture.palette is not None:
        pixels = _black_and_white(picture, pixels)
    elif alpha is not None and pixels.ndim == 3:
        pixels = pixels[..., :3]
    varies = alpha is not None and alpha.size and alpha.min() != alpha.max()
    if varies and picture.record is None:
        pixels = _seen(picture, pixels, path)
    return _checked(pixels, path)


def _black_and_white(picture: Picture, indices: np.ndarray) -> np.ndarray:
    """Indices of a palette of black and white as 0 and 1 in any order; other palettes stay."""
    assert picture.palette is not None
    two = picture.palette[:2, :3].tolist()
    white_first = two == [[255] * 3, [0] * 3]
    if picture.record is None and white_first and indices.max(initial=0) < 2:
        return np.uint8(1) - indices
    return indices


def _seen(picture: Picture, pixels: np.ndarray, path: FilePath) -> np.ndarray:
    """The labels of a partly transparent mask.

    With one colour, opaque pixels are the object; else transparent pixels must be background.
    """
    alpha, palette = picture.alpha, picture.palette
    assert alpha is not None
    colours = pixels if palette is None else palette[picture.pixels][..., :3]
    colours = colours.reshape(alpha.size, -1)
    alike = bool((colours == colours[0]).all())
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    if (alike or palette is None) and not np.isin(alpha, (0, opaque)).all():
        raise InputError(f"{path}: is half transparent in places; save the mask without alpha")
    if alike:
        array: np.ndarray = alpha == opaque
        return array
    if pixels[alpha == 0].any():
        raise InputError(f"{path}: has labels where it is transparent; save the mask without alpha")
    return pixels


def _checked(pixels: np.ndarray, path: FilePath) -> np.ndarray:
    """An array with at least one pixel and two or three dimensions, in native byte order."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim not in (2, 3):
        raise InputError(f"{path}: has shape {pixels.shape}; wanted [H, W] or [H, W, channels]")
    if pixels.size == 0:
        raise InputError(f"{path}: has no pixels, its shape is {pixels.shape}")
    if pixels.dtype.kind not in "buif":
        raise InputError(f"{path}: {pixels.dtype} values are not supported")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _integers(pixels: np.ndarray, path: FilePath) -> np.ndarray:
    """Label numbers int32 ``[H, W]`` from a checked array, or InputError."""
    if pixels.ndim == 3:
        colours = pixels[:, :, :3]
        if not (colours == colours[:, :, :1]).all():
            raise InputError(f"{path}: is a colour picture; a mask has one class number per pixel")
        pixels = colours[:, :, 0]
    info = np.iinfo(np.int32)
    if pixels.dtype.kind == "f" and not (np.isfinite(pixels).all() and (pixels % 1 == 0).all()):
        raise InputError(f"{path}: has values that are not whole numbers; a mask has class numbers")
    if pixels.dtype != bool and (pixels.min() < info.min or pixels.max() > info.max):
        raise InputError(f"{path}: labels {pixels.min()} to {pixels.max()} are out of range")
    return pixels.astype(np.int32)
