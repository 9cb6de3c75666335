"""A 2-D picture as its file stores it: samples, palette, transparency, our record.

TIFF goes through tifffile, which gives stored values; Pillow would invert where 0 is white. png of
16 bits with colours goes through imagecodecs, as Pillow gives 8 of them; the rest through Pillow.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io import record
from napari_hidiff.io.extent import check_pages, check_picture
from napari_hidiff.io.pages import main_series, strict

TIFF = frozenset({".tif", ".tiff"})

ORIENTATION = 274
"""The tag of EXIF and TIFF that says how a picture is to be turned when it is shown."""

CMYK = "is a CMYK picture (colours for print); save it as RGB"


class Picture(NamedTuple):
    """pixels : [H, W] or [H, W, C], of any dtype; indices where there is a palette.
    palette : uint8 [N, 3] or, with transparency, [N, 4]; None without one.
    alpha : how opaque each pixel is, [H, W]; the last channel of RGBA too. None without any.
    record : what we wrote of a mask, see :mod:`record`.
    doubt : why the labels of a mask cannot be known; empty where they can.
    """

    pixels: np.ndarray
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None
    record: dict[str, Any] | None = None
    doubt: str = ""


def check_file(path: Path) -> None:
    """InputError where there is no file of this name."""
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")


def read_picture(path: Path) -> Picture:
    """The only picture of a file; InputError, naming it, for all that the readers stumble over."""
    check_file(path)
    try:
        return _read_tiff(path) if path.suffix.lower() in TIFF else _read_pillow(path)
    except InputError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise InputError(f"{path}: cannot be read as an image: {first_line(error)}") from error


def is_deep_png(path: Path) -> bool:
    """Whether a file is a png of 16 bits with colours or transparency, which Pillow cuts to 8."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(26)
    return head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:25] == b"\x10" and head[25] in (2, 4, 6)


def is_cmyk(path: Path) -> bool:
    """Whether a file is a picture in colours for print; False for one that cannot be opened."""
    try:
        if path.suffix.lower() in TIFF:
            with tifffile.TiffFile(path) as tiff:
                return is_separated(main_series(tiff)[0].keyframe)
        with Image.open(path) as picture:
            return picture.mode == "CMYK"
    except Exception:  # whatever is wrong is said where it is read
        return False


def orientation(path: Path) -> int:
    """EXIF's or TIFF's orientation of a picture, 1 to 8; 1 for one that cannot be opened."""
    try:
        if path.suffix.lower() in TIFF:
            with tifffile.TiffFile(path) as tiff:
                page = main_series(tiff)[0].keyframe
                return _orientation(page.tags.valueof(ORIENTATION, 1))
        with Image.open(path) as picture:
            return _orientation(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever is wrong is said where it is read
        return 1


def check_turn(image: Path, mask: Path, size: tuple[int, ...], drawn: tuple[int, ...]) -> None:
    """InputError where a mask may have been drawn on a picture as EXIF has it turned.

    Pixels are read as they are stored. size, drawn : [H, W] of the picture and of the mask, which
    decide where they can; a mask of ours lies on the picture as it is stored.
    """
    turns = orientation(image), orientation(mask)
    if turns[0] == turns[1] or read_picture(mask).record is not None:
        return
    tagged, turn = (image, turns[0]) if turns[0] != 1 else (mask, turns[1])
    shown = size[::-1] if turn > 4 else size
    told = f"{tagged.name} has EXIF orientation {turn}"
    if drawn == size == shown:
        raise InputError(
            f"{mask}: {told}: whether the mask lies on the picture as stored or as shown cannot "
            "be known; save the picture turned, without the tag"
        )
    if drawn == shown:
        raise InputError(
            f"{mask}: {told} and the mask fits the picture only as that shows it; save the picture "
            "turned, without the tag"
        )


def is_separated(page: tifffile.TiffPage) -> bool:
    """Whether a page of a TIFF is in colours for print."""
    return page.photometric == tifffile.PHOTOMETRIC.SEPARATED and page.samplesperpixel >= 4


def _read_pillow(path: Path) -> Picture:
    with Image.open(path) as picture:
        if picture.format == "PNG":
            picture.verify()  # the checksums; the picture has to be opened anew after that
    with Image.open(path) as picture:
        if picture.format != "MPO":  # a camera's JPEG whose other pages are previews
            _one_page(path, getattr(picture, "n_frames", 1))
        check_picture(path, picture)
        if picture.mode == "CMYK":
            raise InputError(f"{path}: {CMYK}")
        found = record.parse(getattr(picture, "text", {}).get(record.NAME))
        if picture.mode == "P":
            picture.apply_transparency()
            assert picture.palette is not None
            colours = np.zeros((256, len(picture.palette.mode)), np.uint8)
            listed = np.array(picture.getpalette(picture.palette.mode), np.uint8)
            listed = listed.reshape(-1, colours.shape[1])
            colours[: len(listed)] = listed
            indices = np.array(picture)
            alpha = colours[indices, 3] if colours.shape[1] == 4 else None
            return Picture(indices, colours, alpha, found)
        if picture.format == "PNG" and is_deep_png(path):
            import imagecodecs

            pixels = imagecodecs.png_decode(path.read_bytes())
        else:
            plain = ("1", "L", "LA", "RGB", "RGBA", "F")
            modes = {"PA": "RGBA", "La": "LA", "RGBa": "RGBA"}
            wanted = modes.get(picture.mode, "RGB")
            if picture.mode in plain or picture.mode.startswith("I"):
                wanted = picture.mode
            pixels = np.array(picture if picture.mode == wanted else picture.convert(wanted))
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    alpha = pixels[..., -1] if channels in (2, 4) else None
    return Picture(pixels[..., 0] if channels == 2 else pixels, None, alpha, found)


def _read_tiff(path: Path) -> Picture:
    with strict(), tifffile.TiffFile(path) as tiff:
        series = main_series(tiff)
        page = series[0].keyframe
        # an ImageJ stack may be one page and many planes
        _one_page(path, sum(one.size // max(one.keyframe.size, 1) for one in series))
        if is_separated(page):
            raise InputError(f"{path}: {CMYK}")
        check_pages(path, series[0])
        pixels = page.asarray()
        if page.axes.startswith("S") and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        found = record.parse((tiff.imagej_metadata or {}).get("Info") or page.description)
        palette, alpha = None, None
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
            palette = (page.colormap >> 8).astype(np.uint8).T
            if palette.ndim != 2 or palette.shape[1] != 3:
                raise ValueError(f"its palette has shape {page.colormap.shape}")
            if pixels.ndim != 2 or pixels.dtype.kind not in "bu" or pixels.max() >= len(palette):
                raise ValueError(f"{pixels.dtype} {pixels.shape} are no indices of its palette")
            pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
        if pixels.ndim == 3 and pixels.shape[2] in (2, 4) and any(page.extrasamples):
            alpha = pixels[..., -1]
            pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels
        return Picture(pixels, palette, alpha, found, doubt(page))


def doubt(page: tifffile.TiffPage) -> str:
    """Why it cannot be known which pixels of a mask are its object; empty where it can.

    Where 0 is white, scanners and ImageMagick write 1 for black ink, tifffile 1 for True.
    """
    inverse = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    if inverse and page.bitspersample == 1 and not page.software.startswith("tifffile"):
        return "has 1 bit in which 0 is white: its object may be 0 or 1; save the mask as png"
    return ""


def _orientation(value: Any) -> int:
    return int(value) if value in range(1, 9) else 1


def _one_page(path: Path, pages: int) -> None:
    if pages != 1:
        raise InputError(f"{path}: holds {pages} pages; give one 2-D image per file")
