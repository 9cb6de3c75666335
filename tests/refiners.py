"""Refiners with numbers such as training leaves, and what they are asked."""

import torch
from torch import nn

from napari_hidiff.networks.binary import BinaryConv2d
from napari_hidiff.networks.blocks import TimeActivation
from napari_hidiff.networks.refiner import Refiner

FEATURES = (8, 12, 16, 20)


def trained(module, seed):
    """The module with numbers such as training leaves, none of them trivial."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(0, 3, generator=generator)
                part.running_var.uniform_(20, 200, generator=generator)
                part.weight.normal_(1, 0.3, generator=generator)
                part.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(part, TimeActivation):
                part.shifts.weight.normal_(0, 0.2, generator=generator)
                part.slope.normal_(0.25, 0.2, generator=generator)
            elif isinstance(part, BinaryConv2d):
                part.threshold.alpha.weight.normal_(0, 0.2, generator=generator)
    return module.eval().requires_grad_(False)


def make(seed=0, **options):
    """A refiner whose every table holds something, with a head that changes the prior."""
    torch.manual_seed(seed)
    refiner = Refiner(3, **{"classes": 1, "feature_channels": FEATURES, "stem": 2} | options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        refiner.head.weight.normal_(0, 0.05, generator=generator)
        refiner.head.bias.normal_(0, 0.05, generator=generator)
        for block in refiner.xformer.children() if refiner.xformer else ():
            block.position.normal_(0, 0.5, generator=generator)
    return trained(refiner, seed)


def scene(refiner, height, width, samples=1, images=1, seed=0):
    """y_t, and the arguments of a condition."""
    generator = torch.Generator().manual_seed(seed)
    k, sides = refiner.classes, [-(-n // 32) * 32 for n in (height, width)]

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    prior = uniform(images, k, height, width)
    prior = prior if k == 1 else prior.softmax(1)
    fixed = torch.randint(-1, max(2, k), (images, height, width), generator=generator)
    features = [
        uniform(images, c, sides[0] // s, sides[1] // s) - 0.5
        for c, s in zip(FEATURES, (4, 8, 16, 32), strict=True)
    ]
    given = uniform(images, 3, height, width), prior, fixed, features if refiner.features else []
    return (uniform(samples, k, height, width) < 0.3).float(), given
