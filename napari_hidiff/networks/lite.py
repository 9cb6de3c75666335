"""A U-Net whose encoder is EfficientNet-Lite0: B0 with ReLU6 and no squeeze-excitation.

Without squeeze-excitation no layer sees the whole image. The blocks and the decoder are MONAI's.
Nothing here is pre-trained; a training starts from ImageNet (:mod:`.pretrained`).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from napari_hidiff.networks.segmentor import STRIDES, Segmentor

STAGES = (
    "r1_k3_s11_e1_i32_o16",
    "r2_k3_s22_e6_i16_o24",
    "r2_k5_s22_e6_i24_o40",
    "r3_k3_s22_e6_i40_o80",
    "r3_k5_s11_e6_i80_o112",
    "r4_k5_s22_e6_i112_o192",
    "r1_k3_s11_e6_i192_o320",
)
"""MONAI's notation: repeats, kernel, stride, expansion, channels in and out."""
OUTPUTS = {1: 16, 2: 24, 3: 40, 5: 112, 7: 320}
"""The number of stages behind each feature, at strides 2, 4, 8, 16, 32, and its channels."""
DECODER = (96, 64, 32, 16)


class LiteUNet(Segmentor):
    """EfficientNet-Lite0 and MONAI's U-Net decoder up to stride 2; the rest is interpolated.

    ``decoder`` are the channels at strides 16, 8, 4, 2.
    """

    def __init__(self, channels: int, classes: int, decoder: Sequence[int] = DECODER) -> None:
        from monai.networks.nets.flexible_unet import SegmentationHead, UNetDecoder

        super().__init__()
        self.encoder = lite0(channels)
        self.decoder = UNetDecoder(
            spatial_dims=2,
            encoder_channels=tuple(OUTPUTS.values()),
            decoder_channels=tuple(decoder),
            act=("relu", {"inplace": True}),
            norm="batch",
            dropout=0.0,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="nearest",
            align_corners=None,
            is_pad=False,
        )
        self.head = SegmentationHead(2, decoder[-1], classes, scale_factor=2.0)
        self.feature_channels = tuple(OUTPUTS.values())[-len(STRIDES) :]

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        encoder = self.encoder
        x = encoder._swish(encoder._bn0(encoder._conv_stem(encoder._conv_stem_padding(image))))
        features = []
        for stage, block in enumerate(encoder._blocks, 1):
            x = block(x)
            if stage in OUTPUTS:
                features.append(x)
        decoded = self.decoder(features, len(features) - 2)
        return self.head(decoded), features[-len(STRIDES) :]


def lite0(channels: int) -> Any:
    """The encoder, without a classifier.

    Whole blocks are never dropped in training: a resumed run could not repeat that.
    """
    from monai.networks.nets import EfficientNet

    network = EfficientNet(list(STAGES), in_channels=channels, num_classes=1, drop_connect_rate=0.0)
    for module in network.modules():
        if hasattr(module, "_swish"):
            module._swish = nn.ReLU6(inplace=True)
    del network._conv_head, network._bn1, network._fc
    return network
