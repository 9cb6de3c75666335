"""The discriminative segmentor f(x) behind one adapter: image -> logits and four features."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (4, 8, 16, 32)
MULTIPLE = STRIDES[-1]


def pad_to_multiple(x: Tensor, multiple: int = MULTIPLE) -> Tensor:
    """Repeat the last row and column of [B, C, H, W] until H and W are multiples.

    Only bottom and right grow, so the image's origin stays aligned to every stride.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


class Segmentor(nn.Module):
    """Base of the adapters: pads any size, calls :meth:`encode_decode`, crops back.

    ``forward`` maps a normalised image [B, C, H, W] to logits [B, K, H, W] and the features
    [B, feature_channels[i], H' / STRIDES[i], W' / STRIDES[i]], where H', W' are H, W padded to
    multiples of 32. K = 1 is read with the sigmoid, K > 1 with the softmax.
    """

    feature_channels: tuple[int, ...]

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits and features of an image whose sides are multiples of 32."""
        raise NotImplementedError(f"{type(self).__name__} has to define encode_decode")

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        height, width = image.shape[-2:]
        logits, features = self.encode_decode(pad_to_multiple(image))
        return logits[..., :height, :width], features


class UNet(Segmentor):
    """A small U-Net with batch normalisation, made of the parts of MONAI's DynUNet.

    ``filters`` are the channels at strides 1, 2, 4, 8, 16, 32.
    """

    def __init__(
        self, channels: int, classes: int, filters: tuple[int, ...] = (16, 32, 48, 64, 96, 128)
    ) -> None:
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
    """MONAI's FlexibleUNet with any of its backbones; never pre-trained, nothing downloads."""

    def __init__(self, channels: int, classes: int, backbone: str = "efficientnet-b0") -> None:
        from monai.networks.nets import FlexibleUNet as MonaiFlexibleUNet

        super().__init__()
        self.network = MonaiFlexibleUNet(
            in_channels=channels, out_channels=classes, backbone=backbone, pretrained=False
        )
        probe = self.network.encoder(next(self.network.parameters()).new_zeros(1, channels, 64, 64))
        self.feature_channels = tuple(feature.shape[1] for feature in probe[-len(STRIDES) :])

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.network.encoder(image)
        decoded = self.network.decoder(features, self.network.skip_connect)
        return self.network.segmentation_head(decoded), list(features[-len(STRIDES) :])


SEGMENTORS: dict[str, Callable[..., Segmentor]] = {"unet": UNet, "flexible-unet": FlexibleUNet}


def build_segmentor(name: str, channels: int, classes: int, **options: Any) -> Segmentor:
    """An untrained segmentor for images of ``channels`` and K = ``classes`` output channels.

    ValueError names the known segmentors when ``name`` is none of them.
    """
    if name not in SEGMENTORS:
        raise ValueError(f"segmentor must be one of {', '.join(SEGMENTORS)}, not {name!r}")
    return SEGMENTORS[name](channels, classes, **options)
