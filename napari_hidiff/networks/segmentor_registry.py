"""The segmentors by name: those made of MONAI's networks, those of smp, and any torch module."""

import re
from collections.abc import Callable
from typing import Any

from napari_hidiff.errors import InputError
from napari_hidiff.networks.anything import AnyModule, trust
from napari_hidiff.networks.encoder import Encoder
from napari_hidiff.networks.segmentor import Segmentor, one_line
from napari_hidiff.networks.segmentor_libraries import (
    AttentionUNet,
    FlexibleUNet,
    SegResNet,
    SwinUNETR,
    UNet,
)
from napari_hidiff.networks.smp_nets import SMP

SEGMENTORS: dict[str, Callable[..., Segmentor]] = {
    "unet": UNet,
    "flexible-unet": FlexibleUNet,
    "swin-unetr": SwinUNETR,
    "attention-unet": AttentionUNet,
    "segresnet": SegResNet,
    "smp": SMP,
    "encoder": Encoder,
}
FORMS = (
    "unet, flexible-unet, flexible-unet/<backbone>, swin-unetr, attention-unet, segresnet, "
    "smp:<architecture>/<encoder>, encoder, <module>:<factory>"
)
"""What a user may write, for messages and help."""

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def build_segmentor(name: str, channels: int, classes: int, **options: Any) -> Segmentor:
    """An untrained segmentor for images of ``channels`` and K = ``classes`` output channels.

    ``name`` and ``options`` are those of a card (:func:`segmentor_options` makes them of text).

    Raises
    ------
    InputError : an unknown name or option, a library that is missing, or a ``module:factory``
        whose module is not trusted (:mod:`napari_hidiff.networks.anything`).
    """
    try:
        if _FACTORY.fullmatch(name):
            return AnyModule(channels, classes, factory=name, **options)
        if name not in SEGMENTORS:
            raise InputError(f"segmentor must be one of {FORMS}, not {name!r}")
        return SEGMENTORS[name](channels, classes, **options)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # what a network says about its options
        raise InputError(f"segmentor {name} cannot be built: {one_line(error)}") from error


def segmentor_options(text: str, layers: str = "", trusted: bool = False) -> dict[str, Any]:
    """The card's form of a segmentor as written in a command, for :func:`build_segmentor`.

    text : one of ``FORMS``; layers : for ``module:factory``, four dotted names of layers separated
    by commas, or nothing. trusted : the user wrote the text in this very command, which allows
    the module that it names in this process.

    Raises
    ------
    InputError : an unknown name, or layers for a segmentor that has its own.
    """
    names = [layer.strip() for layer in layers.split(",")] if layers.strip() else []
    kind, _, rest = text.partition(":")
    if kind != "smp" and _FACTORY.fullmatch(text):
        if trusted:
            trust(kind)
        return {"name": text, "layers": names}
    if names:
        raise InputError(f"layers are named for <module>:<factory>; {text} has features of its own")
    if kind == "smp":
        architecture, _, encoder = rest.partition("/")
        if not architecture or not encoder:
            raise InputError(
                f"write smp:<architecture>/<encoder>, as in smp:unet/mit_b0, not {text!r}"
            )
        return {"name": "smp", "architecture": architecture, "encoder": encoder}
    name, slash, backbone = text.partition("/")
    if name == "flexible-unet" and backbone:
        return {"name": name, "backbone": backbone}
    if slash or name not in SEGMENTORS or name == "smp":
        raise InputError(f"segmentor must be one of {FORMS}, not {text!r}")
    return {"name": name}
