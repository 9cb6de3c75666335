"""Images and masks from and to files: png, jpg, tif, and whatever else Pillow opens.

Pixels come back as they are stored: no scaling, no rotation by EXIF, no colour management.
TIFF goes through tifffile, which keeps every numeric dtype; the rest goes through Pillow, because
it tells a palette of class numbers from a colour picture (and reads 16-bit RGB png in 8 bits).
"""

from collections.abc import Callable
from importlib.resources import as_file, files
from os import PathLike
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from napari_hidiff.errors import InputError, first_line

TIFF = frozenset({".tif", ".tiff"})
JPEG = frozenset({".jpg", ".jpeg"})
IMAGES = TIFF | JPEG | {".png"}
"""Suffixes of the files that a folder is searched for."""

SAMPLE = "Image_11L"
"""Stem of the bundled sample, a test image of CHASE_DB1; see ``samples/ATTRIBUTION.txt``."""

FilePath = str | PathLike[str]
Mode = Callable[[Image.Image], str]


def read_image(path: FilePath) -> np.ndarray:
    """Read a 2-D image: ``[H, W]`` or ``[H, W, C]`` in the file's numeric dtype.

    A palette becomes RGB, a 1-bit picture uint8 0 and 255.  Raises InputError, naming the file,
    if it is missing, unreadable, empty, not 2-D, or holds more than one page.
    """
    return _checked(_read(Path(path), _image_mode), path)


def read_mask(path: FilePath) -> np.ndarray:
    """Read a label mask: int32 ``[H, W]``.

    A palette file gives its indices; values 0 and 255 alone mean 0 and 1, as does a 1-bit file;
    a grey mask stored as RGB counts as grey.  Raises InputError like :func:`read_image`, and for
    colours and for values that are not whole numbers.
    """
    mask = _integers(_checked(_read(Path(path), _label_mode), path), path)
    return from_black_and_white(mask)


def read_labels(path: FilePath, labels: int, cut: bool = False) -> np.ndarray:
    """Read a label mask with values ``0..labels-1``: uint8 ``[H, W]``.

    A JPEG cannot keep labels exactly: with two labels it is cut at ``> 127``, with more refused.
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
    """Read which pixels are fixed to which class: int16 ``[H, W]``, -1 where a pixel is free.

    In the file a free pixel is 255 where its dtype is unsigned (65535 too in 16 bits) and -1 where
    it is signed or floating.  Raises InputError like :func:`read_mask`, and for 1-bit and JPEG
    files, which cannot say "free" exactly.
    """
    path = Path(path)
    if path.suffix.lower() in JPEG:
        raise InputError(f"{path}: JPEG blurs labels; store fixed pixels as png or tif")
    stored = _checked(_read(path, _label_mode), path)
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
    """The classes that pixels are fixed to, int16 of any shape, -1 where one is free.

    stored : whole numbers as :func:`read_fixed` wants them, of a file whose dtype has this
    ``kind`` (NumPy's letter); classes run to ``top``.  InputError names the file.
    """
    if kind == "b":
        raise InputError(f"{path}: a 1-bit file cannot mark free pixels; use uint8 with 255 = free")
    fixed = stored.astype(np.int32)
    if kind == "u":
        fixed[np.isin(fixed, (255, 65535))] = -1
    if fixed.min() < -1 or fixed.max() > top:
        raise InputError(f"{path}: {fixed.min()} to {fixed.max()}; wanted -1 (free) or a class")
    return fixed.astype(np.int16)


def check_file(path: Path) -> None:
    """InputError where there is no file of this name."""
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")


def sample() -> tuple[np.ndarray, np.ndarray]:
    """The bundled sample: image uint8 ``[960, 999, 3]``, truth uint8 ``[960, 999]`` in {0, 1}."""
    with as_file(files("napari_hidiff") / "samples") as folder:
        truth = read_labels(folder / f"{SAMPLE}_1stHO.png", labels=2)
        return read_image(folder / f"{SAMPLE}.jpg"), truth


def _read(path: Path, mode: Mode) -> np.ndarray:
    """Read the only page of a file; InputError for everything that the readers stumble over."""
    check_file(path)
    try:
        if path.suffix.lower() in TIFF:
            return _read_tiff(path, mode)
        return _read_pillow(path, mode)
    except InputError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise InputError(f"{path}: cannot be read as an image: {first_line(error)}") from error


def _read_pillow(path: Path, mode: Mode) -> np.ndarray:
    with Image.open(path) as picture:
        if picture.format != "MPO":  # a camera's JPEG whose other pages are previews
            _one_page(path, getattr(picture, "n_frames", 1))
        wanted = mode(picture)
        return np.array(picture if picture.mode == wanted else picture.convert(wanted))


def _read_tiff(path: Path, mode: Mode) -> np.ndarray:
    with tifffile.TiffFile(path) as tiff:
        _one_page(path, len(tiff.pages))
        page = tiff.pages.first
        if tiff.series[0].size != page.size:  # an ImageJ stack may be one page and many planes
            _one_page(path, tiff.series[0].size // max(page.size, 1))
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            return _read_pillow(path, mode)
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            return _read_compressed(path, mode, page)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
            pixels = ~pixels
        planes_first = page.axes.startswith("S") and pixels.ndim == 3
        return np.moveaxis(pixels, 0, -1) if planes_first else pixels


def _read_compressed(path: Path, mode: Mode, page: tifffile.TiffPage) -> np.ndarray:
    """LZW and JPEG compression need imagecodecs in tifffile; Pillow knows their plain forms."""
    try:
        return _read_pillow(path, mode).astype(page.dtype, casting="safe", copy=False)
    except Exception as error:
        compression = tifffile.COMPRESSION(page.compression).name
        raise InputError(
            f"{path}: {compression} compression of {page.dtype} needs the package "
            "imagecodecs; install it or save the file without compression"
        ) from error


def _image_mode(picture: Image.Image) -> str:
    """The Pillow mode an image is read in: palettes and print colours become RGB."""
    if picture.mode == "P":
        return "RGBA" if "transparency" in picture.info else "RGB"
    modes = {"1": "L", "LA": "L", "PA": "RGBA", "La": "L", "RGBa": "RGBA"}
    colours = {"CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB", "RGBX": "RGB"}
    return (modes | colours).get(picture.mode, picture.mode)


def _label_mode(picture: Image.Image) -> str:
    """The Pillow mode a mask is read in: palette indices stay indices."""
    return {"LA": "L", "PA": "P", "RGBA": "RGB"}.get(picture.mode, picture.mode)


def _one_page(path: Path, pages: int) -> None:
    if pages != 1:
        raise InputError(f"{path}: holds {pages} pages; give one 2-D image per file")


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
