"""The image encoder of a prompted model: features of the image, and no opinion about the object."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.networks.segmentor import Segmentor


class Encoder(Segmentor):
    """A small residual network whose logits are 0: the prior is 1/2 everywhere.

    What the object is only the prompt can tell; the refiner, whose own layers are binary, reads
    real-valued features of the image from here. They do not depend on the prompt, so an image is
    encoded once for all its strokes.

    filters : channels of the features at strides 4, 8, 16, 32; blocks : residual blocks of each.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        filters: Sequence[int] = (32, 64, 128, 192),
        blocks: Sequence[int] = (1, 2, 2, 1),
    ) -> None:
        super().__init__()
        self.classes, self.feature_channels = classes, tuple(filters)
        self.stem = _convolution(channels, filters[0], stride=2)
        self.levels = nn.ModuleList(
            nn.Sequential(
                _convolution(before, after, stride=2), *(Residual(after) for _ in range(count))
            )
            for before, after, count in zip(
                [filters[0], *filters], filters, blocks, strict=False
            )  # the last filters start no level
        )

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        batch, _, height, width = image.shape
        _, *features = self.pyramid(image)
        return image.new_zeros(batch, self.classes, height, width), features

    def pyramid(self, image: Tensor) -> list[Tensor]:
        """The features at strides 2, 4, 8, 16, 32 of an image whose sides are multiples of 32."""
        features = [self.stem(image)]
        for level in self.levels:
            features.append(level(features[-1]))
        return features


class Residual(nn.Module):
    """ReLU(x + two convolutions of x), [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(self.first(x))))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
