"""Segmentors from MONAI, and from segmentation-models-pytorch (``smp:<architecture>/<encoder>``).

MONAI's networks are 2-D, at sizes that a CPU can run, with BatchNorm wherever MONAI lets one
choose, so that no layer sees the whole image. The other library is an optional extra; it needs timm
and torchvision, and a torchvision built for another torch ends in a RuntimeError.

Nothing is pre-trained and nothing downloads.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from napari_hidiff.errors import InputError
from napari_hidiff.networks.segmentor import STRIDES, Segmentor, measure, one_line

FILTERS = (16, 32, 48, 64, 96, 128)
"""Channels at strides 1, 2, 4, 8, 16, 32."""


class UNet(Segmentor):
    """A small U-Net with batch normalisation, made of the parts of MONAI's DynUNet.

    ``filters`` are the channels at strides 1, 2, 4, 8, 16, 32.
    """

    def __init__(self, channels: int, classes: int, filters: Sequence[int] = FILTERS) -> None:
        from monai.networks.nets import DynUNet

        super().__init__()
        levels = len(filters)
        network = DynUNet(
            spatial_dims=2,
            in_channels=channels,
            out_channels=classes,
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=list(filters),
            norm_name=("BATCH", {"affine": True}),
        )
        # DynUNet registers its parts a second time in a recursive module; take only the parts.
        self.stem, self.downs, self.bottom = (
            network.input_block,
            network.downsamples,
            network.bottleneck,
        )
        self.ups, self.head = network.upsamples, network.output_block
        self.feature_channels = tuple(filters[2:])

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = [self.stem(image)]
        for down in self.downs:
            skips.append(down(skips[-1]))
        x = self.bottom(skips[-1])
        features = [*skips[2:], x]
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        return self.head(x), features


class FlexibleUNet(Segmentor):
    """MONAI's FlexibleUNet with any of its backbones (EfficientNet, ResNet)."""

    def __init__(self, channels: int, classes: int, backbone: str = "efficientnet-b0") -> None:
        from monai.networks.nets import EfficientNet
        from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
        from monai.networks.nets.flexible_unet import FlexibleUNet as MonaiFlexibleUNet

        super().__init__()
        known = FLEXUNET_BACKBONE.register_dict
        if backbone not in known:
            raise InputError(
                f"the backbone of flexible-unet must be one of {', '.join(known)}, not {backbone!r}"
            )
        self.network = MonaiFlexibleUNet(
            in_channels=channels, out_channels=classes, backbone=backbone, pretrained=False
        )
        encoder = self.network.encoder
        if isinstance(encoder, EfficientNet):  # a classifier that is never used
            del encoder._conv_head, encoder._bn1, encoder._fc
        self.feature_channels = tuple(known[backbone]["feature_channel"][-len(STRIDES) :])
        self.register_load_state_dict_pre_hook(_without_classifier)

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.network.encoder(image)
        decoded = self.network.decoder(features, self.network.skip_connect)
        return self.network.segmentation_head(decoded), list(features[-len(STRIDES) :])


def _without_classifier(
    module: nn.Module, state: dict[str, Any], prefix: str, *arguments: object
) -> None:
    """Drop EfficientNet's classifier, which earlier model files contain."""
    unused = tuple(f"{prefix}network.encoder.{part}." for part in ("_conv_head", "_bn1", "_fc"))
    for key in [key for key in state if key.startswith(unused)]:
        del state[key]


class AttentionUNet(Segmentor):
    """MONAI's AttentionUnet from the same parts, in lists instead of one inside the other.

    The merging convolutions have BatchNorm here; MONAI gives them its default, InstanceNorm.
    ``filters`` are the channels at strides 1, 2, 4, 8, 16, 32.
    """

    def __init__(self, channels: int, classes: int, filters: Sequence[int] = FILTERS) -> None:
        from monai.networks.blocks.convolutions import Convolution
        from monai.networks.nets.attentionunet import AttentionBlock, ConvBlock, UpConv

        super().__init__()
        levels = list(pairwise(filters))
        self.stem = ConvBlock(2, channels, filters[0])
        self.downs = nn.ModuleList(ConvBlock(2, fine, coarse, strides=2) for fine, coarse in levels)
        levels.reverse()
        self.ups = nn.ModuleList(UpConv(2, coarse, fine) for fine, coarse in levels)
        self.gates = nn.ModuleList(
            AttentionBlock(2, f_int=fine // 2, f_g=fine, f_l=fine) for fine, _ in levels
        )
        self.merges = nn.ModuleList(
            Convolution(2, 2 * fine, fine, norm="BATCH") for fine, _ in levels
        )
        self.head = Convolution(2, filters[0], classes, kernel_size=1, conv_only=True)
        self.feature_channels = tuple(filters[2:])

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = [self.stem(image)]
        for down in self.downs:
            skips.append(down(skips[-1]))
        features = skips[2:]
        x = skips.pop()
        for up, gate, merge in zip(self.ups, self.gates, self.merges, strict=True):
            x, skip = up(x), skips.pop()
            x = merge(torch.cat([gate(x, skip), x], 1))
        return self.head(x), features


class SegResNet(Segmentor):
    """MONAI's SegResNet down to stride 32, with batch instead of group normalisation.

    ``filters`` are the channels at stride 1, twice as many at each further level; ``blocks`` the
    residual blocks of the encoder at strides 1, 2, 4, 8, 16, 32.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        filters: int = 8,
        blocks: Sequence[int] = (1, 2, 2, 2, 2, 2),
    ) -> None:
        from monai.networks.nets import SegResNet as MonaiSegResNet

        super().__init__()
        self.network = MonaiSegResNet(
            spatial_dims=2,
            init_filters=filters,
            in_channels=channels,
            out_channels=classes,
            norm="BATCH",
            blocks_down=tuple(blocks),
            blocks_up=(1,) * (len(blocks) - 1),
        )
        self.feature_channels = tuple(filters * stride for stride in STRIDES)

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, levels = self.network.encode(image)
        return self.network.decode(x, levels[::-1]), levels[-len(STRIDES) :]


class SwinUNETR(Segmentor):
    """MONAI's SwinUNETR with windows of 8 x 8 tokens and batch normalisation.

    MONAI shrinks a window that is larger than its feature map, and then reads the wrong entries
    of the table of relative positions. Sides are therefore padded to 128 pixels, one window of the
    coarsest attention (stride 16), which also aligns every window to the image's origin.
    ``feature_size`` are the channels at stride 2, a multiple of 12; ``heads`` those of the stages.
    """

    WINDOW = 8
    multiple = 16 * WINDOW

    def __init__(
        self,
        channels: int,
        classes: int,
        feature_size: int = 12,
        heads: Sequence[int] = (1, 2, 4, 8),
    ) -> None:
        from monai.networks.nets import SwinUNETR as MonaiSwinUNETR

        super().__init__()
        self.network = MonaiSwinUNETR(
            in_channels=channels,
            out_channels=classes,
            feature_size=feature_size,
            num_heads=tuple(heads),
            window_size=self.WINDOW,
            norm_name="batch",
            spatial_dims=2,
        )
        self.feature_channels = tuple(feature_size * stride // 2 for stride in STRIDES)

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        network = self.network
        half, *features = network.swinViT(image, network.normalize)
        x = network.decoder5(network.encoder10(features[3]), features[2])
        x = network.decoder4(x, network.encoder4(features[1]))
        x = network.decoder3(x, network.encoder3(features[0]))
        x = network.decoder2(x, network.encoder2(half))
        x = network.decoder1(x, network.encoder1(image))
        return network.out(x), features


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
        except Exception as error:  # smp and timm raise many kinds for an unknown name
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
