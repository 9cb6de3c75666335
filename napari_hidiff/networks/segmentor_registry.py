"""Segmentors by name: MONAI's, those of smp, and any torch module (``mypackage.module:factory``).

A model file names its segmentor, and building it imports and runs a module of that name. A
downloaded file must not choose what runs, so only trusted modules are imported: named by the user
in the environment variable ``NAPARI_HIDIFF_TRUST`` or in a command.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from napari_hidiff.errors import InputError
from napari_hidiff.networks.decoder import EncoderDecoder
from napari_hidiff.networks.encoder import Encoder
from napari_hidiff.networks.lite import LiteUNet
from napari_hidiff.networks.segmentor import Segmentor, check_threshold, measure, one_line
from napari_hidiff.networks.segmentor_libraries import (
    SMP,
    AttentionUNet,
    FlexibleUNet,
    SegResNet,
    SwinUNETR,
    UNet,
)

SEGMENTORS: dict[str, Callable[..., Segmentor]] = {
    "unet": UNet,
    "lite-unet": LiteUNet,
    "flexible-unet": FlexibleUNet,
    "swin-unetr": SwinUNETR,
    "attention-unet": AttentionUNet,
    "segresnet": SegResNet,
    "smp": SMP,
    "encoder": Encoder,
    "encoder-decoder": EncoderDecoder,
}
FORMS = (
    "unet, lite-unet, flexible-unet, flexible-unet/<backbone>, swin-unetr, attention-unet, "
    "segresnet, smp:<architecture>/<encoder>, encoder, encoder-decoder, <module>:<factory>"
)
"""The accepted forms of a name, for messages and help."""

OWN = "own"
"""Name on a card of an :class:`OwnSegmentor`, which is made by training alone."""

_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def build_segmentor(
    name: str, channels: int, classes: int, threshold: float = 0.5, **options: Any
) -> Segmentor:
    """An untrained segmentor for images of ``channels`` and K = ``classes`` output channels.

    ``name`` and ``options`` are those of a card (:func:`segmentor_options` makes them of text).
    threshold : see :class:`Segmentor`.

    Raises
    ------
    InputError : an unknown name or option, a library that is missing, or a ``module:factory``
        whose module is not trusted (:mod:`napari_hidiff.networks.segmentor_registry`).
    """
    try:
        check_threshold(threshold)
        if _FACTORY.fullmatch(name):
            segmentor: Segmentor = AnyModule(channels, classes, factory=name, **options)
        elif name in SEGMENTORS:
            segmentor = SEGMENTORS[name](channels, classes, **options)
        elif name == OWN:
            segmentor = OwnSegmentor(channels, classes, **options)
        else:
            raise InputError(f"segmentor must be one of {FORMS}, not {name!r}")
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # a network refuses its options
        raise InputError(f"segmentor {name} cannot be built: {one_line(error)}") from error
    segmentor.threshold = threshold
    return segmentor


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


TRUST = "NAPARI_HIDIFF_TRUST"

_trusted: set[str] = set()
_outputs: ContextVar[dict[int, Any] | None] = ContextVar("outputs of named layers", default=None)


def trust(module: str) -> None:
    """Allow segmentors from ``module`` in this process, as ``NAPARI_HIDIFF_TRUST`` does."""
    _trusted.add(module)


class OwnSegmentor(Segmentor):
    """The encoder of a prompted model, joined by a segmentor of the user's own.

    As a segmentor it is the encoder: features, and logits of 0. The refiner goes on as it was
    trained, whatever network says where the object is.

    encoder, own : both by name and options, as on a card (:func:`build_segmentor`). ``own`` maps a
    whole image at the model's scale to logits, of which :meth:`HiDiff.prior` makes the prior.
    """

    def __init__(
        self, channels: int, classes: int, encoder: Mapping[str, Any], own: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.encoder = build_segmentor(channels=channels, classes=classes, **encoder)
        self.own = build_segmentor(channels=channels, classes=classes, **own)
        self.feature_channels = self.encoder.feature_channels
        self.multiple = self.encoder.multiple

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.encoder.encode_decode(image)


class AnyModule(Segmentor):
    """The module that ``factory(channels=C, classes=K, **options)`` returns.

    factory : ``mypackage.module:function``. What it returns maps an image [B, C, H, W] to logits
        [B, K, H, W], or to a tuple, list or dict whose first value is logits.
    layers : dotted names of the four layers whose outputs [B, c, h, w] are the features at strides
        4, 8, 16, 32; empty for a segmentor without features. Of a tuple the first value counts, of
        a layer that runs more than once the last output.

    Raises
    ------
    InputError : the module is not trusted, cannot be imported or makes no such network; a layer
        is unknown or was not run; the number or the strides of the features are wrong.
    """

    def __init__(
        self, channels: int, classes: int, factory: str, layers: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__()
        what = f"segmentor {factory}"
        try:
            self.network = _imported(factory)(channels=channels, classes=classes, **options)
        except InputError:
            raise
        except Exception as error:  # a foreign factory may raise anything
            raise InputError(f"{what} cannot be built: {one_line(error)}") from error
        if not isinstance(self.network, nn.Module):
            raise InputError(f"{what} returns a {type(self.network).__name__}, not a torch module")
        self.layers = tuple(layers)
        for index, layer in enumerate(self.layers):
            try:
                self.network.get_submodule(layer).register_forward_hook(partial(_keep, index))
            except AttributeError as error:
                known = ", ".join(name for name, _ in self.network.named_children())
                raise InputError(
                    f"{what} has no layer {layer!r}; at its top are {known}"
                ) from error
        measure(self, what, channels, classes)

    def encode_decode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        outputs: dict[int, Any] = {}
        token = _outputs.set(outputs)
        try:
            logits = _first(self.network(image))
        finally:
            _outputs.reset(token)
        silent = [layer for i, layer in enumerate(self.layers) if i not in outputs]
        if silent:
            raise InputError(f"the layers {', '.join(silent)} of the segmentor were not run")
        return logits, [_first(outputs[i]) for i in range(len(self.layers))]


def _keep(index: int, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
    """A hook without an instance, so that copies of the module store their own outputs.

    The outputs belong to the forward pass of one thread.
    """
    outputs = _outputs.get()
    if outputs is not None:
        outputs[index] = output


def _first(output: Any) -> Tensor:
    if isinstance(output, Mapping):
        output = next(iter(output.values()))
    elif isinstance(output, Sequence):
        output = output[0]
    first: Tensor = output
    return first


def _imported(name: str) -> Any:
    """The factory of ``module:function``; InputError unless the module is trusted."""
    module, _, function = name.partition(":")
    named = {part.strip() for part in os.environ.get(TRUST, "").split(",")}
    if module not in _trusted | named:
        raise InputError(
            f"segmentor {name} is code outside napari-hidiff: building it imports and runs the "
            f"module {module}; if you trust that module, set {TRUST}={module} (several names "
            "are separated by commas)"
        )
    try:
        factory = getattr(import_module(module), function, None)
    except Exception as error:  # importing may raise anything
        raise InputError(
            f"segmentor {name}: the module {module} cannot be imported ({one_line(error)}); is its "
            "folder in PYTHONPATH?"
        ) from error
    if not callable(factory):
        raise InputError(f"segmentor {name}: the module {module} has no function {function!r}")
    return factory
