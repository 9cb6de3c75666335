"""Segmentors of segmentation-models-pytorch, an optional extra: ``smp:<architecture>/<encoder>``.

Nothing is pre-trained and nothing downloads. The library needs timm and torchvision; a torchvision
that was built for another torch cannot load its compiled part, which ends in a RuntimeError.
"""

import re
from importlib import import_module
from types import ModuleType

from torch import Tensor

from napari_hidiff.errors import InputError
from napari_hidiff.networks.segmentor import STRIDES, Segmentor, measure, one_line

INSTALL = (
    "install it with: pip install 'napari-hidiff[smp]'; torch and torchvision have to come from "
    "the same index, for the CPU: pip install torch torchvision --index-url "
    "https://download.pytorch.org/whl/cpu"
)


class SMP(Segmentor):
    """A network of segmentation-models-pytorch with the features of its encoder.

    MaxViT encoders attend within windows whose size the encoder's name fixes (``_256``: sides are
    multiples of 256); such a side is found by trying, and images are padded to it.
    """

    def __init__(self, channels: int, classes: int, architecture: str, encoder: str) -> None:
        super().__init__()
        name = f"smp:{architecture}/{encoder}"
        # timm would fetch what hf-hub:OWNER/NAME means, and a card must not make it do that.
        if not re.fullmatch(r"[\w.-]+", encoder):
            raise InputError(f"segmentor {name}: an encoder is a plain name, not {encoder!r}")
        library = _library(name)
        try:
            self.network = library.create_model(
                architecture,
                encoder_name=encoder,
                encoder_weights=None,
                in_channels=channels,
                classes=classes,
            )
        except Exception as error:  # smp and timm raise many kinds for a name that they do not know
            raise InputError(f"segmentor {name} cannot be built: {one_line(error)}") from error
        measure(self, f"segmentor {name}", channels, classes)

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.network.encoder(image)
        decoded = self.network.decoder(features)
        return self.network.segmentation_head(decoded), list(features[-len(STRIDES) :])


def _library(name: str) -> ModuleType:
    try:
        return import_module("segmentation_models_pytorch")
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            f"segmentor {name} needs segmentation-models-pytorch, which cannot be imported "
            f"({one_line(error)}); {INSTALL}"
        ) from error
