"""A small segmentor on an encoder that was trained before: few examples teach it in minutes."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.networks.encoder import Encoder
from napari_hidiff.networks.segmentor import Segmentor


class EncoderDecoder(Segmentor):
    """A feature pyramid on the features of an :class:`Encoder`.

    The weights of the encoder may be those of a model that has seen many kinds of images, from
    which training goes on. No features are handed to a refiner.

    filters, blocks : of the encoder. width : channels of the decoder.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        filters: Sequence[int] = (32, 64, 128, 192),
        blocks: Sequence[int] = (1, 2, 2, 1),
        width: int = 32,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(channels, classes, filters, blocks)
        inputs = (filters[0], *filters)  # of the stem at stride 2, then of the levels
        self.lateral = nn.ModuleList(nn.Conv2d(count, width, 1) for count in inputs)
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )
            for _ in inputs
        )
        self.head = nn.Conv2d(width, classes, 1)

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.encoder.pyramid(image)
        coarser: Tensor | None = None
        for feature, lateral, smooth in zip(
            reversed(features), reversed(self.lateral), reversed(self.smooth), strict=True
        ):
            x = lateral(feature)
            if coarser is not None:
                x = x + _doubled(coarser)
            coarser = smooth(x)
        assert coarser is not None
        return _doubled(self.head(coarser)), []


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear")
